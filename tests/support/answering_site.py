"""A real HTTP server on loopback whose answers a test writes down."""

from __future__ import annotations

import json
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler


class AnsweringSite:
    """``answers`` maps a path, or (method, path), to (status, body) or to a function of the handler."""

    def __init__(self) -> None:
        self.answers: dict[Any, Any] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        site = self

        class Answer(RequestHandler):
            async def answer(self) -> None:
                path = self.request.path
                headers = dict(self.request.headers)
                site.asked.append((self.request.method, self.request.uri, headers, self.request.body))
                answer = site.answers.get((self.request.method, path)) or site.answers.get(path, (404, ""))
                if callable(answer):
                    answer = await answer(self)
                self.set_status(answer[0])
                body = answer[1] if isinstance(answer[1], str) else json.dumps(answer[1])
                self.finish(body or None)

            get = post = delete = answer

        socket, self.port = bind_unused_port()
        self.server = HTTPServer(Application([(r".*", Answer)]))
        self.server.add_sockets([socket])
        self.url = f"http://127.0.0.1:{self.port}"

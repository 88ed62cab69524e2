"""An HTTP server in a thread that keeps what is POSTed to it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


class _Post(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        """Keep the document; answer as the test says."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing: the test looks at what came."""


class Webhook(ThreadingHTTPServer):
    """``with Webhook() as hook:``; ``hook.received`` are the documents, ``hook.answer`` the status given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Post)
        self.received: list[dict[str, Any]] = []
        self.answer = 204

    @property
    def address(self) -> str:
        """Where to POST."""
        return f"http://127.0.0.1:{self.server_address[1]}/hook"

    def __enter__(self) -> Webhook:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self.server_close()

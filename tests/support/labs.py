"""A session's JupyterLab as its owner's browser uses it: through the proxy, with sockets that stay open."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Coroutine
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from .running_hub import RunningHub


class Browser:
    """Keeps sockets open in a thread of its own, as an open tab does."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open: list[WebSocketClientConnection] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run on the browser's loop and wait."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def connect(self, url: str, token: str) -> WebSocketClientConnection:
        """Open a socket that stays open."""
        request = HTTPRequest(url, headers={"Authorization": f"token {token}"})
        socket = await websocket_connect(request)
        self._open.append(socket)
        return socket

    def close(self) -> None:
        """Close every tab."""
        for socket in self._open:
            self._loop.call_soon_threadsafe(socket.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class Lab:
    """One running session."""

    def __init__(self, hub: RunningHub, browser: Browser, user: str) -> None:
        self.user, self._hub, self._browser = user, hub, browser
        self.base = f"{hub.url}user/{user}"
        self._http = httpx.Client(headers={"Authorization": f"token {hub.token}"}, timeout=30)

    def api(self, path: str, data: Any = None) -> Any:
        """GET, or POST where there is ``data``."""
        url = f"{self.base}{path}"
        answer = self._http.get(url) if data is None else self._http.post(url, json=data)
        answer.raise_for_status()
        return answer.json()

    def notebook(self, name: str = "train.ipynb") -> str:
        """Open a notebook: a session with a kernel. Returns the kernel's id."""
        kernel = {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}}
        return str(self.api("/api/sessions", kernel)["kernel"]["id"])

    def execute(self, kernel: str, code: str, *, wait: bool = True, stay: bool = True) -> None:
        """Run a cell until it ends, or only until it began; ``stay`` leaves the tab open."""
        self._browser.run(self._execute(kernel, code, wait, stay))

    async def _execute(self, kernel: str, code: str, wait: bool, stay: bool) -> None:
        socket = await self._socket(f"/api/kernels/{kernel}/channels")
        header = {"msg_id": uuid.uuid4().hex, "session": uuid.uuid4().hex, "username": "x"}
        header |= {"msg_type": "execute_request", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await socket.write_message(json.dumps({**message, "channel": "shell", "buffers": []}))
        while True:
            text = await socket.read_message()
            assert text is not None, "the kernel's socket closed"
            answer = json.loads(text)
            mine = answer.get("parent_header", {}).get("msg_id") == header["msg_id"]
            if mine and answer.get("content", {}).get("execution_state") == ("idle" if wait else "busy"):
                break
        if not stay:
            socket.close()

    def type(self, text: str) -> None:
        """Type a line into a new terminal, and close the tab."""
        self._browser.run(self._type(text))

    async def _type(self, text: str) -> None:
        name = await asyncio.to_thread(self.api, "/api/terminals", {})
        socket = await self._socket(f"/terminals/websocket/{name['name']}")
        await socket.read_message()
        await socket.write_message(json.dumps(["stdin", text + "\r"]))
        await socket.read_message()
        await asyncio.sleep(0.5)
        socket.close()

    async def _socket(self, path: str) -> WebSocketClientConnection:
        url = "ws" + self.base.removeprefix("http") + path
        return await self._browser.connect(url, self._hub.token)

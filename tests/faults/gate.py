"""A socket between the product and its engine that can be made to answer 500, or not at all."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from pathlib import Path

PASS, FAIL, HANG = "pass", "fail", "hang"
ANSWER = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b'Content-Length: 35\r\n\r\n{"message":"the gate answers: 500"}'
)


class Gate:
    """Passes bytes both ways. In ``fail`` each request is answered 500, in ``hang`` nothing moves."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.path, self.engine, self.mode = path, engine, PASS
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        os.chmod(path, 0o666)
        self._socket.listen(256)
        threading.Thread(target=self._accept, name="gate", daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._socket.accept()
            threading.Thread(target=self._serve, args=(client,), name="gate", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            self._wait()
            if self.mode == FAIL:
                self._refuse(client)
                return
            with socket.socket(socket.AF_UNIX) as engine:
                engine.connect(str(self.engine))
                self._carry(client, engine)

    def _carry(self, client: socket.socket, engine: socket.socket) -> None:
        while True:
            ready, _, _ = select.select([client, engine], [], [], 0.5)
            if not ready:
                continue
            self._wait()
            if self.mode == FAIL and client in ready:
                self._refuse(client)
                return
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                (engine if one is client else client).sendall(data)

    def _wait(self) -> None:
        while self.mode == HANG:
            time.sleep(0.05)

    @staticmethod
    def _refuse(client: socket.socket) -> None:
        client.settimeout(2)
        client.recv(65536)
        client.sendall(ANSWER)

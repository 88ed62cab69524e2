"""A door in front of a Unix socket that a test may shut: what comes through is cut, and nobody gets in."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path

from .engine_socket import engine_socket


class Door:
    """Listens at ``path`` and passes everything on to ``target`` while it is open."""

    def __init__(self, path: Path, target: Path | None = None) -> None:
        self.path, self._target = path, str(target or engine_socket())
        self._listener: socket.socket | None = None
        self._through: set[socket.socket] = set()
        self.open()

    def open(self) -> None:
        """Let through again."""
        self.path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """Cut everything; who knocks is refused."""
        listener, self._listener = self._listener, None
        self.path.unlink(missing_ok=True)
        for each in (listener, *self._through):
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._through.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._through |= {near, far}
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)  # the other direction may go on
        except OSError:
            # Whoever reads no more must be known as gone: the engine holds locks while it writes.
            for each in (source, sink):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

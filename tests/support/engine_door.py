"""A door in front of the machine's container engine that can be shut: one socket for one site's processes.

The engine itself, which others use, stays as it is. ``refuse`` is an engine that is not there; ``hang`` is
one that takes a call and never answers.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .engine_socket import engine_socket

CHUNK = 65536
Mode = Literal["pass", "refuse", "hang"]


class EngineDoor:
    """See the module's text. ``address`` is what ``DOCKER_HOST`` says."""

    def __init__(self, folder: Path, engine: Path | None = None) -> None:
        self.path, self._engine = folder / "engine.sock", str(engine or engine_socket())
        self.mode: Mode = "pass"
        self.calls = 0
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listening = self._listen()
        self._over = False
        threading.Thread(target=self._serve, name="engine-door", daemon=True).start()

    @property
    def address(self) -> str:
        """The door's address."""
        return f"unix://{self.path}"

    def turn(self, mode: Mode) -> None:
        """Let calls through, turn them away, or let them wait for ever. What is under way is cut off."""
        self.mode = mode
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            if mode != "hang":
                self._open.clear()

    def close(self) -> None:
        """Shut it for good."""
        self._over = True
        self.turn("refuse")
        self._listening.close()

    def _listen(self) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(self.path))
        listening.listen(256)
        return listening

    def _serve(self) -> None:
        while not self._over:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.calls += 1
            if self.mode == "refuse":
                connection.close()
                continue
            with self._lock:
                self._open.add(connection)
            if self.mode == "pass":
                threading.Thread(target=self._forward, args=(connection,), daemon=True).start()

    def _forward(self, connection: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        try:
            engine.connect(self._engine)
            with self._lock:
                self._open.add(engine)
            _copy(connection, engine)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {connection, engine}
            connection.close()
            engine.close()


def _copy(one: socket.socket, other: socket.socket) -> None:
    """Until both sides have ended; each side's end is told to the other."""
    to = {one: other, other: one}
    # Not `select`, which knows only descriptors below 1024: a long test run may have more files open.
    with selectors.DefaultSelector() as waiting:
        for source in to:
            waiting.register(source, selectors.EVENT_READ)
        while to:
            for key, _ in waiting.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                data = source.recv(CHUNK)
                if data:
                    to[source].sendall(data)
                    continue
                with contextlib.suppress(OSError):
                    to[source].shutdown(socket.SHUT_WR)
                waiting.unregister(source)
                del to[source]


@contextlib.contextmanager
def engine_door() -> Iterator[EngineDoor]:
    """A door, which processes that are started meanwhile take for the engine's."""
    before = os.environ.get("DOCKER_HOST")
    # Short, because the path of a socket may have 107 characters only.
    with tempfile.TemporaryDirectory(prefix="ds01d") as folder:
        door = EngineDoor(Path(folder))
        os.environ["DOCKER_HOST"] = door.address
        try:
            yield door
        finally:
            if before is None:
                del os.environ["DOCKER_HOST"]
            else:
                os.environ["DOCKER_HOST"] = before
            door.close()

"""Read from containers with a bound: on bytes while they are read, and on time in all.

Whoever owns a container decides how much it prints, how long its lines are and how large its files seem
(a sparse one of a terabyte costs nothing). docker-py reads all of it before it gives it back.
"""

from __future__ import annotations

import io
import struct
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from docker import errors as docker_errors

from ...core.errors import EngineError

NotFound = docker_errors.NotFound
"""The engine has no such container, image or path."""
FAILED = docker_errors.APIError
SMALL_S = 20
CHUNK = 64 * 1024


class TooMuch(EngineError):
    """More came than may be read; the rest was left."""


class TooLong(EngineError):
    """It took longer than it may; the rest was left."""


class Capped(io.RawIOBase):
    """A stream of chunks as a file that ends with `TooMuch` after ``limit`` bytes, `TooLong` after a time."""

    def __init__(self, chunks: Iterator[bytes], limit: int, seconds: float) -> None:
        self._chunks = chunks
        self._left = limit
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._buffer = b""

    def readable(self) -> bool:
        """It can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what is there; 0 at the end."""
        while not self._buffer:
            if time.monotonic() > self._deadline:
                raise TooLong(f"not read within {self._seconds:.0f} s")
            self._buffer = next(self._chunks, b"")
            if not self._buffer:
                return 0
            self._left -= len(self._buffer)
            if self._left < 0:
                raise TooMuch("more than may be read")
        size = min(len(buffer), len(self._buffer))
        buffer[:size] = self._buffer[:size]
        self._buffer = self._buffer[size:]
        return size


def exec_output(client: Any, exec_id: str, limit: int, seconds: float = SMALL_S) -> bytes:
    """Start an exec and read what it prints; `TooMuch` or `TooLong` where it does not end in bounds.

    The program goes on then, with no reader: what it prints next ends it.
    """
    connection = client.exec_start(exec_id, socket=True)
    plain = getattr(connection, "_sock", connection)
    deadline = time.monotonic() + seconds

    def receive(size: int) -> bytes:
        plain.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            return bytes(plain.recv(size))
        except TimeoutError:
            raise TooLong(f"it did not end within {seconds:.0f} s") from None

    try:
        return Capped(frames(receive), limit, seconds).read()
    finally:
        connection.close()


def log_tail(client: Any, container: str, keep: int, seconds: float = SMALL_S, **options: Any) -> bytes:
    """The last ``keep`` bytes of a container's log; ``options`` are the engine's (``tail``, ``stderr``).

    A log without an end in sight is left after ``seconds``, with what had come by then.
    """
    params = {"stdout": 1, "stderr": 1, **{k: int(v) for k, v in options.items()}}
    has_terminal = bool(client.inspect_container(container)["Config"].get("Tty"))
    response = client._get(client._url("/containers/{0}/logs", container), params=params, stream=True)
    tail = b""
    try:
        client._raise_for_status(response)
        chunks = response.iter_content(CHUNK) if has_terminal else frames(response.raw.read)
        deadline = time.monotonic() + seconds
        for chunk in chunks:
            tail = (tail + chunk)[-keep:] if len(tail) > keep else tail + chunk
            if time.monotonic() > deadline:
                break
    finally:
        response.close()
    return tail[-keep:]


def frames(receive: Callable[[int], bytes]) -> Iterator[bytes]:
    """The pieces of a stream in which the engine mixes output and errors, in order."""
    while len(head := _exactly(receive, 8)) == 8:
        left = int(struct.unpack(">BxxxL", head)[1])
        while left:
            chunk = receive(min(left, CHUNK))
            if not chunk:
                return
            left -= len(chunk)
            yield chunk


def _exactly(receive: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size and (more := receive(size - len(data))):
        data += more
    return data


@contextmanager
def archive(
    client: Any, container: str, path: str, limit: int, seconds: float = SMALL_S
) -> Iterator[tarfile.TarFile]:
    """A path of a container as a tar that is read once, in order, at most ``limit`` bytes of it.

    `docker.errors.NotFound` where it is not there.
    """
    url = client._url("/containers/{0}/archive", container)
    response = client._get(url, params={"path": path}, stream=True)
    try:
        client._raise_for_status(response)
        stream = io.BufferedReader(Capped(response.iter_content(CHUNK), limit, seconds), CHUNK)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
            yield tar
    finally:
        response.close()


def small_file(client: Any, container: str, path: str, limit: int, seconds: float = SMALL_S) -> bytes | None:
    """A plain file of a container; None where it is not there, or is something else.

    `TooMuch` for one that is larger than ``limit``.
    """
    try:
        # The tar's own blocks, and a header for a long name, come on top of the file.
        with archive(client, container, path, limit + 64 * 1024, seconds) as tar:
            member = tar.next()
            if member is None or not member.isfile():
                return None
            if member.size > limit:
                raise TooMuch(f"{path} has more than {limit} bytes")
            content = tar.extractfile(member)
            return content.read(limit) if content else None
    except docker_errors.NotFound:
        return None
    except tarfile.TarError as error:
        raise EngineError(f"{path} cannot be read: {error}") from error

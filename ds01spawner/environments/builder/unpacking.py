"""How much a local archive becomes when ADD unpacks it, found out before the engine is sent it.

The engine unpacks whatever begins like a packed archive, to any size, and a few kilobytes may become
terabytes. So what ADD takes is unpacked here first, into nothing, and only as far as the limit.
Blocking; what it costs is bounded by the limit.
"""

from __future__ import annotations

import bz2
import io
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from ...core import text
from ...core.errors import Problem
from ...core.yaml_reader import FileProblems
from ...workspace.projectfiles import Context
from .pinning import PinnedDockerfile

CHUNK = 2**20
MEMBERS = 1_000_000
MEMORY = 256 * 2**20
"""Bytes that unpacking may need; an xz archive says itself how many it wants."""
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Bytes 2 to 4 of a frame that zstd passes over; the first is 0x50 to 0x5f."""
_DESCRIBE = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE),
    tarfile.SOLARIS_XHDTYPE,
)
OTHERWISE = "copy it with COPY and unpack it in a RUN"


class TooLarge(ValueError):
    """An archive becomes larger than it may, or cannot be measured; the text is a clause."""


def unpacked_size(file: IO[bytes], limit: int, still_wanted: Callable[[], None] = lambda: None) -> int:
    """Bytes that a file becomes when it is added: its own where it is no archive. `TooLarge` above that."""
    stream = _Unpacked(file, limit, still_wanted)
    total = members = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Bounded) as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # keeps all of them otherwise
                members += 1
                if members > MEMBERS:
                    raise TooLarge(f"has more than {MEMBERS:,} files")
                # A sparse file is as large as it says when the engine has written it out.
                total += max(member.size, 0)
                if total > limit:
                    raise TooLarge(f"becomes more than {text.size(limit)}")
    except tarfile.ReadError as error:
        if members:
            raise TooLarge(f"cannot be read to its end ({error})") from None
    except (EOFError, zlib.error, lzma.LZMAError, OSError, OverflowError) as error:
        raise TooLarge(f"cannot be unpacked ({str(error)[:80]})") from None
    try:
        while stream.read(CHUNK):
            pass  # what follows the archive's end counts too
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        raise TooLarge(f"cannot be unpacked ({str(error)[:80]})") from None
    return max(total, stream.taken)


class _Bounded(tarfile.TarInfo):
    """A member whose own description is bounded: it is kept in memory while it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Bounded:
        """As before; `TooLarge` for a description longer than there is reason for."""
        found = super().frombuf(buf, encoding, errors)
        if found.type == tarfile.GNUTYPE_SPARSE:
            raise TooLarge("has sparse files of the old kind, whose size is not known before")
        if found.type in _DESCRIBE and found.size > CHUNK:
            raise TooLarge("has a name or description of more than a mebibyte")
        return found

    def _proc_gnusparse_10(self, *_: Any) -> None:
        # tarfile would keep a list of holes that is as long as the archive likes.
        raise TooLarge("has sparse files, whose size is not known before")


class _Unpacked(io.RawIOBase):
    """The file as it comes out of its compression, counted."""

    def __init__(self, file: IO[bytes], limit: int, still_wanted: Callable[[], None]) -> None:
        self.taken = 0
        self._limit = limit
        self._still_wanted = still_wanted
        self._left = b""
        self._pieces = pieces(file)

    def read(self, size: int = -1) -> bytes:
        """The next bytes; at most ``size``."""
        if not self._left:
            self._still_wanted()
            self._left = next(self._pieces, b"")
        part, self._left = self._left[:size], self._left[size:]
        self.taken += len(part)
        if self.taken > self._limit:
            raise TooLarge(f"becomes more than {text.size(self._limit)}")
        return part


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """What a file holds, unpacked by what it begins with; one that is not packed as it is."""
    data = file.read(CHUNK)
    if data[:4] == _ZSTD or (data[1:4] == _SKIPPABLE and 0x50 <= data[0] <= 0x5F):
        raise TooLarge("is packed with zstd, whose size is not known before it is unpacked")
    make = _maker(data)
    if make is None:
        while data:
            yield data
            data = file.read(CHUNK)
        return
    opened = make()
    while True:
        out = opened.decompress(data, CHUNK)
        data = getattr(opened, "left", b"")
        if out:
            yield out
        if opened.eof:
            data = opened.unused_data or file.read(CHUNK)
            if not data.strip(b"\0"):
                return
            opened = make()  # archives may follow each other
        elif not data and opened.needs_input:
            data = file.read(CHUNK)
            if not data:
                raise EOFError("it ends too early")


class _Gzip:
    """zlib's object in the form of the other two."""

    def __init__(self) -> None:
        self._object = zlib.decompressobj(wbits=31)
        self.left = b""
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        """At most ``most`` bytes; what was not used is ``left``."""
        out = self._object.decompress(data, most)
        self.left = self._object.unconsumed_tail
        self.needs_input = len(out) < most
        return out

    @property
    def eof(self) -> bool:
        """Whether this member is over."""
        return self._object.eof

    @property
    def unused_data(self) -> bytes:
        """What follows it."""
        return self._object.unused_data


def _maker(data: bytes) -> Callable[[], Any] | None:
    if data.startswith(_GZIP):
        return _Gzip
    if data.startswith(_BZIP2):
        return bz2.BZ2Decompressor
    if data.startswith(_XZ):
        return lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=MEMORY)
    return None


def check_added(
    pinned: PinnedDockerfile,
    context: Context,
    limit: int,
    name: str,
    still_wanted: Callable[[], None] = lambda: None,
) -> None:
    """`FileProblems` for each ADD whose archive becomes too large."""
    taken = added(pinned)
    if not taken:
        return
    problems: list[Problem] = []
    links = _links(context)
    for path, file in _files(context):
        lines = [line for line, source in taken if _may_be(source, path, links)]
        if not lines:
            continue
        try:
            unpacked_size(file, limit, still_wanted)
        except TooLarge as why:
            problems.append(Problem(name, lines[0], "ADD", f"{path} {why}; {OTHERWISE}"))
    if problems:
        raise FileProblems(problems[:20])


def added(pinned: PinnedDockerfile) -> list[tuple[int, str]]:
    """What ADD takes of the project, with its line; a base's build trigger may take anything."""
    lines = {step.line for step in pinned.steps if step.word == "ADD"}
    found = [(line, path) for line, path in pinned.sources if line in lines]
    for image in pinned.images:
        if any(text.split(None, 1)[0].upper() == "ADD" for text in image.facts.onbuild if text.split()):
            found.append((image.line, "*"))
    return found


def _links(context: Context) -> frozenset[str]:
    context.file.seek(0)
    with tarfile.open(fileobj=context.file, mode="r:") as tar:
        return frozenset(posixpath.normpath(m.name) for m in tar if m.issym())


def _files(context: Context) -> Iterator[tuple[str, IO[bytes]]]:
    context.file.seek(0)
    with tarfile.open(fileobj=context.file, mode="r:") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None:
                yield posixpath.normpath(member.name), file
    context.file.seek(0)


def _may_be(source: str, path: str, links: frozenset[str]) -> bool:
    """Whether ADD could take this file: by its name, a pattern, or a link, which is not followed here."""
    wanted = posixpath.normpath(source.lstrip("/"))
    parts = wanted.split("/")
    linked = any("/".join(parts[: i + 1]) in links for i in range(len(parts)))
    return path == wanted or linked or any(c in wanted for c in "*?[\\")

"""Read and write files of a user's project without following a single link, and pack a build context.

The user can change the folder while we read it, so every step goes through `safefs`. What the user could
not read is not sent either, whatever we could read ourselves.
Blocking: call from a thread.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from ..core import text
from ..core.errors import DS01Error
from . import ignore as ignoring
from .safefs import BadName, Folder, Owner, TooLarge
from .safewalk import Bounds, Entry, TooMuch, Walk

MAX_TEXT = 512 * 1024
MAX_FILES = 200_000
MAX_DEPTH = 64
MAX_SEEN = 1_000_000
"""Names looked at, those a ``.dockerignore`` leaves out included."""


class ProjectFileError(DS01Error):
    """A file of the project cannot be used; the message says why, in words for its owner."""


@dataclass
class Context:
    """A packed context. Not sent was what is ``outside``: links that lead out, and other file systems."""

    file: IO[bytes]
    end: int = 0
    """Where the entries end, and more may follow."""
    size: int = 0
    count: int = 0
    outside: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class ProjectFiles:
    """The files of the folder ``parts`` below ``root``, which is trusted; nothing below it is.

    ``uid`` and ``gid`` are the owner's: they bound what is read, and own what is written.
    """

    root: Path
    parts: tuple[str, ...]
    uid: int
    gid: int

    @contextmanager
    def folder(self) -> Iterator[Folder]:
        """The project's folder."""
        try:
            with Folder.open(self.root) as root, root.descend(self.parts) as folder:
                yield folder
        except OSError as error:
            raise ProjectFileError(f"the project cannot be used: {error.strerror}") from error

    @property
    def owner(self) -> Owner | None:
        """Whom what is written belongs to; None where that is this process anyway."""
        owner = Owner(self.uid, self.gid)
        return None if owner == Owner(os.geteuid(), os.getegid()) else owner

    def read_text(self, path: str, limit: int = MAX_TEXT) -> str | None:
        """A text file of the project, or None when it is not there."""
        with self.folder() as folder:
            *above, name = path.split("/")
            try:
                with folder.descend(above) as here:
                    data = here.read(name, limit, self.readable)
            except FileNotFoundError:
                return None
            except BadName:
                raise ProjectFileError(f"{path!r} is not the name of a file in the project") from None
            except TooLarge:
                raise ProjectFileError(f"{path} is larger than {text.size(limit)}") from None
            except OSError as error:
                raise ProjectFileError(
                    f"{path} is not a plain file of the project that you can read ({error.strerror})"
                ) from error
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ProjectFileError(f"{path} is not UTF-8 text") from None

    def write_text(self, name: str, text: str) -> None:
        """Write a file at the top of the project, whole or not at all, owned by the project's owner."""
        with self.folder() as folder:
            try:
                folder.replace(name, text.encode(), 0o640, self.owner)
            except BadName:
                raise ProjectFileError(f"{name!r} is not a plain file name") from None

    def pack(
        self,
        max_bytes: int,
        extra: dict[str, bytes],
        ignore: str = "",
        still_wanted: Callable[[], None] = lambda: None,
    ) -> Context:
        """The folder as a tar stream, ``extra`` files last (they win); `ProjectFileError` when too large.

        ``ignore`` is the text of the ``.dockerignore``; ``still_wanted`` is asked before each folder and
        raises what ends it.
        """
        try:
            patterns = ignoring.parse(ignore)
        except ignoring.BadPattern as error:
            raise ProjectFileError(f".dockerignore: {error}") from None
        spool = tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115 (the caller closes it)
        packer = _Packer(self, max_bytes, patterns, Context(spool), still_wanted)
        try:
            with (
                tarfile.open(fileobj=spool, mode="w", format=tarfile.PAX_FORMAT) as tar,
                self.folder() as top,
            ):
                packer.add_everything(tar, top)
                for name, content in extra.items():
                    add_bytes(tar, name, content)
                packer.context.end = tar.offset
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        return packer.context

    def readable(self, status: os.stat_result) -> bool:
        """Whether the project's owner may read what has this status."""
        if status.st_uid == self.uid:
            return bool(status.st_mode & stat.S_IRUSR)
        if status.st_gid == self.gid:
            return bool(status.st_mode & stat.S_IRGRP)
        return bool(status.st_mode & stat.S_IROTH)


def add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Put a file with fixed owner, mode and time into a tar."""
    import io

    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    tar.addfile(info, io.BytesIO(content))


def pack_files(files: dict[str, bytes]) -> Context:
    """A tar stream of these files alone."""
    spool = tempfile.SpooledTemporaryFile(max_size=8 * 1024 * 1024)  # noqa: SIM115 (the caller closes it)
    with tarfile.open(fileobj=spool, mode="w") as tar:
        for name, content in files.items():
            add_bytes(tar, name, content)
        end = tar.offset
    spool.seek(0)
    return Context(spool, end)


def leads_outside(path: str, target: str) -> bool:
    """Whether a link at ``path`` (relative to the project) to ``target`` leaves the project."""
    if target.startswith("/"):
        return True
    landing = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    return landing == ".." or landing.startswith("../")


class _Packer:
    def __init__(
        self,
        files: ProjectFiles,
        max_bytes: int,
        patterns: ignoring.Ignore,
        context: Context,
        still_wanted: Callable[[], None],
    ) -> None:
        self.files = files
        self.max_bytes = max_bytes
        self.patterns = patterns
        self.context = context
        self.still_wanted = still_wanted
        self.states = [patterns.start]
        """What the patterns say so far of the top and of each folder on the way down from it."""

    def add_everything(self, tar: tarfile.TarFile, top: Folder) -> None:
        """All that is below the top, in the order of names."""
        self.still_wanted()
        bounds = Bounds(entries=MAX_SEEN, depth=MAX_DEPTH)
        walk = Walk(top, bounds, strict=True, in_order=True, admit=partial(self._enter, tar))
        try:
            for entry in walk:
                self._add(tar, entry)
        except TooMuch as error:
            if error.kind == "depth":
                raise ProjectFileError(
                    f"{error.filename} is nested more than {MAX_DEPTH} folders deep"
                ) from None
            raise ProjectFileError(f"the project has more than {MAX_SEEN} files") from None
        self.context.outside |= walk.crossed

    def _add(self, tar: tarfile.TarFile, entry: Entry) -> None:
        depth = len(entry.parts)
        state = self.patterns.below(self.states[depth - 1], entry.name)
        ignored, mode = self.patterns.ignored(state), entry.status.st_mode
        if entry.is_folder:
            entry.enter = not ignored or self.patterns.takes_back
            self.states[depth:] = [state]
        elif not ignored:
            with suppress(FileNotFoundError):  # it went while we were reading: as if it had never been there
                if stat.S_ISLNK(mode):
                    self._add_link(tar, entry.path, entry.folder.target(entry.name))
                elif stat.S_ISREG(mode):
                    self._add_file(tar, entry.folder, entry.name, entry.path)

    def _enter(self, tar: tarfile.TarFile, entry: Entry, status: os.stat_result) -> bool:
        self.still_wanted()
        if not self.files.readable(status):
            self.context.unreadable.add(entry.path)
            return False
        if not self.patterns.ignored(self.states[len(entry.parts)]):
            info = tarfile.TarInfo(entry.path)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            self._count(entry.path, 0)
            tar.addfile(info)
        return True

    def _add_link(self, tar: tarfile.TarFile, path: str, target: str) -> None:
        if leads_outside(path, target):
            self.context.outside.add(path)
            return
        info = tarfile.TarInfo(path)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._count(path, 0)
        tar.addfile(info)

    def _add_file(self, tar: tarfile.TarFile, folder: Folder, name: str, path: str) -> None:
        try:
            opened = folder.file(name)
        except FileNotFoundError:
            return
        except OSError:
            self.context.unreadable.add(path)
            return
        with opened as file:
            status = os.fstat(file.fileno())
            if not self.files.readable(status):
                self.context.unreadable.add(path)
                return
            info = tarfile.TarInfo(path)
            info.size, info.mtime = status.st_size, int(status.st_mtime)
            info.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
            self._count(path, info.size)
            try:
                tar.addfile(info, file)
            except OSError as error:
                raise ProjectFileError(f"{path} changed while it was read; build again") from error

    def _count(self, path: str, size: int) -> None:
        self.context.size += size
        self.context.count += 1
        if self.context.size > self.max_bytes:
            raise ProjectFileError(
                f"the project is larger than a build may send ({text.size(self.max_bytes)}; "
                f"reached at {path}); name what the build does not need in a .dockerignore"
            )
        if self.context.count > MAX_FILES:
            raise ProjectFileError(f"the project has more than {MAX_FILES} files; use a .dockerignore")

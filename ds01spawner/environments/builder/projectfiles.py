"""Read and write files of a user's project without following a single link, and pack a build context.

The user can change the folder while we read it, so every step goes through directory descriptors opened
with ``O_NOFOLLOW``. What the user could not read is not sent either, whatever we could read ourselves.
Blocking: call from a thread.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ...core.errors import DS01Error
from . import ignore as ignoring

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MAX_TEXT = 512 * 1024
MAX_FILES = 200_000
MAX_DEPTH = 64
MAX_SEEN = 1_000_000
"""Names looked at, those a ``.dockerignore`` leaves out included."""


class ProjectFileError(DS01Error):
    """A file of the project cannot be used; the message says why, in words for its owner."""


@dataclass
class Context:
    """A packed context. ``outside`` are links that lead out of the project: they were not sent."""

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
    def folder(self) -> Iterator[int]:
        """A descriptor of the project's folder."""
        descriptor = -1
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for part in self.parts:
                descriptor = _into(descriptor, part)
            yield descriptor
        except OSError as error:
            raise ProjectFileError(f"the project cannot be used: {error.strerror}") from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def read_text(self, path: str, limit: int = MAX_TEXT) -> str | None:
        """A text file of the project, or None when it is not there."""
        with self.folder() as folder:
            try:
                descriptor = self._open(folder, path)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor, "rb") as file:
                data = file.read(limit + 1)
        if len(data) > limit:
            raise ProjectFileError(f"{path} is larger than {limit // 1024} KiB")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise ProjectFileError(f"{path} is not UTF-8 text") from None

    def write_text(self, name: str, text: str) -> None:
        """Write a file at the top of the project, whole or not at all, owned by the project's owner."""
        if "/" in name or name in ("", ".", ".."):
            raise ProjectFileError(f"{name!r} is not a plain file name")
        temporary = f".{name}.{uuid.uuid4().hex[:8]}"
        with self.folder() as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o640, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    if (os.geteuid(), os.getegid()) != (self.uid, self.gid):
                        os.fchown(file.fileno(), self.uid, self.gid)
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

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
                packer.add_folder(tar, top, "", 0, patterns.start)
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

    def _open(self, folder: int, path: str) -> int:
        *above, name = path.split("/")
        if any(part in ("", ".", "..") for part in (*above, name)):
            raise ProjectFileError(f"{path!r} is not the name of a file in the project")
        here = os.dup(folder)
        try:
            for part in above:
                here = _into(here, part)
            descriptor = os.open(name, _FILE, dir_fd=here)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ProjectFileError(f"{path} is not a plain file of the project ({error.strerror})") from error
        finally:
            os.close(here)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or not self.readable(status):
            os.close(descriptor)
            raise ProjectFileError(f"{path} is not a plain file that you can read")
        return descriptor


def _into(folder: int, name: str) -> int:
    """Open the folder ``name`` in ``folder``, and close that one."""
    if name in ("", ".", "..") or "/" in name:
        raise ProjectFileError(f"{name!r} is not the name of a folder")
    below = os.open(name, _DIRECTORY, dir_fd=folder)
    os.close(folder)
    return below


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
        self.seen = 0

    def add_folder(
        self, tar: tarfile.TarFile, folder: int, prefix: str, depth: int, state: ignoring.State
    ) -> None:
        self.still_wanted()
        if depth > MAX_DEPTH:
            raise ProjectFileError(f"{prefix} is nested more than {MAX_DEPTH} folders deep")
        names = []
        with os.scandir(folder) as entries:
            for entry in entries:
                names.append(entry.name)
                self.seen += 1
                if self.seen > MAX_SEEN:
                    raise ProjectFileError(f"the project has more than {MAX_SEEN} files")
        for name in sorted(names):
            self._add(tar, folder, name, f"{prefix}{name}", depth, self.patterns.below(state, name))

    def _add(
        self, tar: tarfile.TarFile, folder: int, name: str, path: str, depth: int, state: ignoring.State
    ) -> None:
        ignored = self.patterns.ignored(state)
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                if ignored and not self.patterns.takes_back:
                    return
                self._add_directory(tar, folder, name, path, depth, state)
            elif ignored:
                return
            elif stat.S_ISLNK(status.st_mode):
                self._add_link(tar, path, os.readlink(name, dir_fd=folder))
            elif stat.S_ISREG(status.st_mode):
                self._add_file(tar, folder, name, path)
        except FileNotFoundError:
            return  # it went while we were reading: as if it had never been there

    def _add_directory(
        self, tar: tarfile.TarFile, folder: int, name: str, path: str, depth: int, state: ignoring.State
    ) -> None:
        below = os.open(name, _DIRECTORY, dir_fd=folder)
        try:
            if not self.files.readable(os.fstat(below)):
                self.context.unreadable.add(path)
                return
            if not self.patterns.ignored(state):
                info = tarfile.TarInfo(path)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                self._count(path, 0)
                tar.addfile(info)
            self.add_folder(tar, below, f"{path}/", depth + 1, state)
        finally:
            os.close(below)

    def _add_link(self, tar: tarfile.TarFile, path: str, target: str) -> None:
        if leads_outside(path, target):
            self.context.outside.add(path)
            return
        info = tarfile.TarInfo(path)
        info.type, info.linkname = tarfile.SYMTYPE, target
        self._count(path, 0)
        tar.addfile(info)

    def _add_file(self, tar: tarfile.TarFile, folder: int, name: str, path: str) -> None:
        try:
            descriptor = os.open(name, _FILE, dir_fd=folder)
        except OSError:
            self.context.unreadable.add(path)
            return
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or not self.files.readable(status):
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
                f"the project is larger than a build may send ({_mib(self.max_bytes)}; reached at {path}); "
                "name what the build does not need in a .dockerignore"
            )
        if self.context.count > MAX_FILES:
            raise ProjectFileError(f"the project has more than {MAX_FILES} files; use a .dockerignore")


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 2**30 else f"{size / 2**30:.1f} GiB"

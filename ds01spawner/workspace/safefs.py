"""The one layer that touches folders in which other people write. Blocking: call from a thread.

Whoever owns a workspace can change it while we read it: put a link where a folder was, a pipe where a file
was, nest it endlessly, or name a file of another person. So everything is reached from a folder that is held
open, one name at a time, and never through a link; what was opened is looked at again before it is used; and
every walk ends, by number, depth and time. `Denied` is what this layer refuses; it is an `OSError`, as what
the system refuses is, so that callers need to know one kind of failure.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Denied(OSError):
    """What this layer does not do, whatever the system would allow."""


class BadName(Denied):
    """Not the name of one thing in a folder."""

    def __init__(self, name: str) -> None:
        super().__init__(errno.EINVAL, f"{name[:200]!r} is not the name of a file or folder")


class NotPlain(Denied):
    """Not a plain file or folder, or not the one it was a moment ago."""

    def __init__(self, name: str, why: str = "it is not a plain file") -> None:
        super().__init__(errno.ELOOP, why, name)


class TooLarge(Denied):
    """More bytes than are read."""

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(errno.EFBIG, f"it is larger than {limit} bytes", name)


@dataclass(frozen=True)
class Owner:
    """Whom something that we make belongs to."""

    uid: int
    gid: int


class Folder:
    """An open folder; close it, or use it as a context. Names are single ones, never paths."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def open(cls, path: Path | str, *, trusted: bool = True) -> Folder:
        """A folder to begin with. A trusted path may lead through links, another may not end in one."""
        return cls(os.open(path, _FOLDER & ~os.O_NOFOLLOW if trusted else _FOLDER))

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def again(self) -> Folder:
        """The same folder, to be closed and read on its own (what `os.dup` gives shares a place in it)."""
        return Folder(os.open(".", _FOLDER, dir_fd=self.fd))

    def child(self, name: str) -> Folder:
        """A folder in this one."""
        return Folder(os.open(_one(name), _FOLDER, dir_fd=self.fd))

    def descend(self, names: Sequence[str]) -> Folder:
        """The folder below this one by several names; this one stays open."""
        here = self.again()
        try:
            for name in names:
                below = here.child(name)
                here.close()
                here = below
        except BaseException:
            here.close()
            raise
        return here

    def status(self) -> os.stat_result:
        """What the folder itself is."""
        return os.fstat(self.fd)

    def look(self, name: str) -> os.stat_result:
        """What stands under a name, a link itself and not what it leads to."""
        return os.stat(_one(name), dir_fd=self.fd, follow_symlinks=False)

    def has(self, name: str) -> bool:
        """Whether anything has the name."""
        try:
            self.look(name)
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """What is in it, without an order."""
        return os.listdir(self.fd)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, which all of ours who change it take."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    # --- files ----------------------------------------------------------------------------------

    def file(self, name: str) -> BinaryIO:
        """A plain file, open for reading. `NotPlain` for a link, pipe, socket, device or folder."""
        before = self.look(name)
        if not stat.S_ISREG(before.st_mode):  # not even opened: to open a device may do something
            raise NotPlain(name)
        fd = os.open(name, _FILE, dir_fd=self.fd)
        after = os.fstat(fd)
        if (after.st_dev, after.st_ino) != (before.st_dev, before.st_ino) or not stat.S_ISREG(after.st_mode):
            os.close(fd)
            raise NotPlain(name, "it changed while it was opened")
        return os.fdopen(fd, "rb")

    def read(self, name: str, limit: int, allow: Callable[[os.stat_result], bool] | None = None) -> bytes:
        """A plain file's bytes; `TooLarge` above ``limit``, `NotPlain` for what ``allow`` does not."""
        with self.file(name) as file:
            if allow is not None and not allow(os.fstat(file.fileno())):
                raise NotPlain(name, "it is not theirs to read")
            data = file.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(name, limit)
        return data

    def create(self, name: str, mode: int, owner: Owner | None = None) -> BinaryIO:
        """A new file, open for writing; `FileExistsError` where anything has the name."""
        fd = os.open(_one(name), _NEW, mode, dir_fd=self.fd)
        try:
            _give(fd, owner)
        except OSError:
            os.close(fd)
            os.unlink(name, dir_fd=self.fd)
            raise
        return os.fdopen(fd, "wb")

    def replace(self, name: str, data: bytes, mode: int, owner: Owner | None = None) -> None:
        """Put a file under a name, whole or not at all; whatever stood there is replaced, not written to."""
        temporary = f".{_one(name)[:100]}.{uuid.uuid4().hex[:8]}"
        file = self.create(temporary, mode, owner)
        try:
            with file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.rename(temporary, name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=self.fd)
            raise

    def link(self, name: str, target: str, owner: Owner | None = None) -> None:
        """A symbolic link that its owner will follow; we never do."""
        os.symlink(target, _one(name), dir_fd=self.fd)
        if owner is not None and os.geteuid() == 0:
            os.chown(name, owner.uid, owner.gid, dir_fd=self.fd, follow_symlinks=False)

    def target(self, name: str) -> str:
        """Where a symbolic link says it leads; nothing is looked up there."""
        return os.readlink(_one(name), dir_fd=self.fd)

    def remove_empty(self, name: str) -> None:
        """Remove a folder that has nothing in it."""
        os.rmdir(_one(name), dir_fd=self.fd)

    def rename(self, name: str, to: str, into: Folder | None = None) -> None:
        """Rename within this folder or into another one."""
        target = (into or self).fd
        os.rename(_one(name), _one(to), src_dir_fd=self.fd, dst_dir_fd=target)

    # --- folders --------------------------------------------------------------------------------

    def make(self, name: str, mode: int, owner: Owner | None = None) -> tuple[Folder, bool]:
        """The folder of that name and whether it was made now; then it is its owner's or not there at all."""
        try:
            os.mkdir(_one(name), 0o700, dir_fd=self.fd)
            made = True
        except FileExistsError:
            made = False
        below = self.child(name)
        try:
            if made:
                _give(below.fd, owner)
                # The bit that hands the group on is the parent's to give.
                os.fchmod(below.fd, mode | os.fstat(below.fd).st_mode & stat.S_ISGID)
        except OSError:
            below.close()
            with suppress(OSError):
                os.rmdir(name, dir_fd=self.fd)
            raise
        return below, made

    def remove_tree(self, name: str) -> None:
        """Remove a folder of any depth with two descriptors: folders below are lifted to its top first.

        Idempotent, and safe for two at once.
        """
        try:
            top = self.child(name)
        except FileNotFoundError:
            return
        with top, top.locked():
            lifted = uuid.uuid4().hex  # a name that nothing in there can have thought of
            waiting, count = [""], 0
            while waiting:
                here = waiting.pop()
                with top.child(here) if here else top.again() as folder:
                    for entry in folder.names():
                        if not stat.S_ISDIR(folder.look(entry).st_mode):
                            os.unlink(entry, dir_fd=folder.fd)
                            continue
                        count += 1
                        waiting.append(f".{lifted}-{count}")
                        folder.rename(entry, waiting[-1], top)
                if here:
                    os.rmdir(here, dir_fd=top.fd)
            with suppress(FileNotFoundError):
                os.rmdir(name, dir_fd=self.fd)


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Replace a file of our own, whole or not at all."""
    with Folder.open(path.parent) as folder:
        folder.replace(path.name, data, mode)


def write_json(path: Path, document: Any, mode: int = 0o640) -> None:
    """Replace a file of our own by a document, whole or not at all."""
    write_whole(path, json.dumps(document).encode() + b"\n", mode)


def _one(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise BadName(name)
    return name


def _give(fd: int, owner: Owner | None) -> None:
    if owner is None:
        return
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (owner.uid, owner.gid):
        os.fchown(fd, owner.uid, owner.gid)

"""What the idle service does inside a person's project folder, which that person controls.

Every path is opened component by component without following links, below a root that is ours, and
what is read or written is checked after it is open. Blocking: call from a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from ..core.names import folder_name

KEEP_ALIVE = ".keep-alive"
NOTICE_FOLDER, NOTICE_FILE = ".ds01", "notices"
MAX_NOTICES = 16 * 1024
"""Bytes of the notices file; older ones are dropped from its top."""
MAX_SCANNED = 4000
MAX_DEPTH = 4
_SKIPPED = frozenset({"__pycache__", "node_modules"})

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class ProjectFolder:
    """The folder ``<root>/<user>/<project>``, owned by one uid."""

    def __init__(self, root: Path, user: str, project: str) -> None:
        self.root, self.user, self.project = root, folder_name(user), project

    def keep_alive(self) -> float | None:
        """When ``.keep-alive`` was last touched (seconds since the epoch), None where none counts.

        It counts when it is a plain file of the folder's own owner; a link or another's file does not.
        ``OSError`` when the folder cannot be read.
        """
        with self._open() as folder:
            try:
                entry = os.stat(KEEP_ALIVE, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                return None
            theirs = entry.st_uid == os.fstat(folder).st_uid
            return entry.st_mtime if stat.S_ISREG(entry.st_mode) and theirs else None

    def saved_at(self) -> datetime | None:
        """The newest change of a file or folder in the project, dot files left out; None when empty.

        Looks at a bounded number of entries, few levels deep: enough to notice somebody who edits.
        """
        newest, left = 0.0, MAX_SCANNED
        with self._open() as top:
            queue = [(os.dup(top), 0)]
            try:
                while queue and left > 0:
                    folder, depth = queue.pop(0)
                    try:
                        found, left = _scan(folder, depth, left, queue)
                        newest = max(newest, found)
                    finally:
                        os.close(folder)
            finally:
                for folder, _ in queue:
                    os.close(folder)
        return datetime.fromtimestamp(newest, timezone.utc) if newest else None

    def read_notices(self) -> str:
        """The first `MAX_NOTICES` bytes of ``.ds01/notices``; empty where it is no file of the owner's.

        A hard link is not read either: it may lead to a file that its maker may not read.
        """
        with self._open() as project:
            owner = os.fstat(project).st_uid
            try:
                folder = os.open(NOTICE_FOLDER, _FOLDER, dir_fd=project)
            except OSError:
                return ""
            try:
                file = os.open(NOTICE_FILE, _FILE, dir_fd=folder)
            except OSError:
                return ""
            finally:
                os.close(folder)
            try:
                entry = os.fstat(file)
                if not stat.S_ISREG(entry.st_mode) or entry.st_uid != owner or entry.st_nlink != 1:
                    return ""
                return os.read(file, MAX_NOTICES).decode(errors="replace")
            finally:
                os.close(file)

    def write_notices(self, text: str) -> None:
        """Replace ``.ds01/notices`` by ``text``, owned by the folder's owner; ``OSError`` when refused.

        The file is made anew beside the old one and renamed over it, so a link, a device or a hard link
        that stands there is replaced, never written through.
        """
        with self._open() as project:
            owner = os.fstat(project)
            with _own_folder(project, owner) as folder:
                _replace(folder, _bounded(text), owner)

    @contextmanager
    def _open(self) -> Iterator[int]:
        folders = [os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            for name in (self.user, self.project):
                if not name or "/" in name or name in (".", ".."):
                    raise OSError(f"{name!r} is not a folder name")
                folders.append(os.open(name, _FOLDER, dir_fd=folders[-1]))
            yield folders[-1]
        finally:
            for folder in folders:
                os.close(folder)


def _scan(folder: int, depth: int, left: int, queue: list[tuple[int, int]]) -> tuple[float, int]:
    newest = 0.0
    with os.scandir(folder) as entries:
        for entry in entries:
            left -= 1
            if left <= 0:
                break
            if entry.name.startswith(".") or entry.name in _SKIPPED:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                newest = max(newest, status.st_mtime)
                if stat.S_ISDIR(status.st_mode) and depth < MAX_DEPTH and len(queue) < 64:
                    queue.append((os.open(entry.name, _FOLDER, dir_fd=folder), depth + 1))
            except OSError:
                continue  # gone, or turned into a link, between two calls
    return newest, left


@contextmanager
def _own_folder(project: int, owner: os.stat_result) -> Iterator[int]:
    try:
        os.mkdir(NOTICE_FOLDER, 0o755, dir_fd=project)
        made = True
    except FileExistsError:
        made = False
    folder = os.open(NOTICE_FOLDER, _FOLDER, dir_fd=project)
    try:
        if made:
            _give(folder, owner)
        elif os.fstat(folder).st_uid != owner.st_uid:
            raise PermissionError(f"{NOTICE_FOLDER} belongs to another account")
        yield folder
    finally:
        os.close(folder)


def _replace(folder: int, data: bytes, owner: os.stat_result) -> None:
    temporary = f".{NOTICE_FILE}.{os.getpid()}"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(temporary, flags, 0o644, dir_fd=folder)
    try:
        os.write(file, data)
        _give(file, owner)
        os.rename(temporary, NOTICE_FILE, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(file)


def _give(file: int, owner: os.stat_result) -> None:
    mine = os.fstat(file)
    if (mine.st_uid, mine.st_gid) != (owner.st_uid, owner.st_gid):
        os.fchown(file, owner.st_uid, owner.st_gid)


def _bounded(text: str) -> bytes:
    data = text.encode()
    if len(data) <= MAX_NOTICES:
        return data
    cut = data[-MAX_NOTICES:]
    return cut[cut.find(b"\n") + 1 :]

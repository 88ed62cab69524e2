"""What the idle service does inside a person's project folder, which that person controls.

Everything goes through `safefs`, below a root that is ours. Blocking: call from a thread.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from ..core.names import folder_name
from .safefs import Folder, Owner
from .safewalk import Bounds, Walk

KEEP_ALIVE = ".keep-alive"
NOTICE_FOLDER, NOTICE_FILE = ".ds01", "notices"
MAX_NOTICES = 16 * 1024
"""Bytes of the notices file; older ones are dropped from its top."""
MAX_SCANNED = 4000
MAX_DEPTH, MAX_FOLDERS = 4, 64
_SKIPPED = frozenset({"__pycache__", "node_modules"})


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
                entry = folder.look(KEEP_ALIVE)
            except FileNotFoundError:
                return None
            theirs = entry.st_uid == folder.status().st_uid
            return entry.st_mtime if stat.S_ISREG(entry.st_mode) and theirs else None

    def saved_at(self) -> datetime | None:
        """The newest change of a file or folder in the project, dot files left out; None when empty.

        Looks at a bounded number of entries, few levels deep: enough to notice an edit.
        """
        newest = 0.0
        with self._open() as top:
            bounds = Bounds(entries=MAX_SCANNED, depth=MAX_DEPTH, waiting=MAX_FOLDERS)
            for entry in Walk(top, bounds, by_level=True):
                entry.enter = not entry.name.startswith(".") and entry.name not in _SKIPPED
                if entry.enter:
                    newest = max(newest, entry.status.st_mtime)
        return datetime.fromtimestamp(newest, timezone.utc) if newest else None

    def read_notices(self) -> str:
        """The first `MAX_NOTICES` bytes of ``.ds01/notices``; empty where it is no file of the owner's.

        A hard link is not read either: it may lead to a file that its maker may not read.
        """
        with self._open() as project:
            owner = project.status().st_uid
            try:
                with project.child(NOTICE_FOLDER) as folder, folder.file(NOTICE_FILE) as file:
                    entry = os.fstat(file.fileno())
                    if entry.st_uid != owner or entry.st_nlink != 1:
                        return ""
                    return file.read(MAX_NOTICES).decode(errors="replace")
            except OSError:
                return ""

    def write_notices(self, text: str) -> None:
        """Replace ``.ds01/notices`` by ``text``, owned by the folder's owner; ``OSError`` when refused.

        A link, a device or a hard link that stands there is replaced, never written through.
        """
        with self._open() as project:
            status = project.status()
            owner = Owner(status.st_uid, status.st_gid)
            folder, made = project.make(NOTICE_FOLDER, 0o755, owner)
            with folder:
                if not made and folder.status().st_uid != owner.uid:
                    raise PermissionError(f"{NOTICE_FOLDER} belongs to another account")
                folder.replace(NOTICE_FILE, _bounded(text), 0o644, owner)

    @contextmanager
    def _open(self) -> Iterator[Folder]:
        with Folder.open(self.root) as root, root.descend((self.user, self.project)) as folder:
            yield folder


def _bounded(text: str) -> bytes:
    data = text.encode()
    if len(data) <= MAX_NOTICES:
        return data
    cut = data[-MAX_NOTICES:]
    return cut[cut.find(b"\n") + 1 :]

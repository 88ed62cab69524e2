"""Who may read what a hub keeps: its state folder, databases and keys. Narrowed at the hub's start.

Only rights are taken away, never given, and only of files that are this process's own.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

FOLDER_MODE, DATA_MODE, KEY_MODE = 0o750, 0o640, 0o600
KEYS = ("installation.json", "fragments.key", "cookie_secret", "jupyterhub_cookie_secret")
DATA = ("settings.json", "ds01.sqlite", "network.json", "hub_address.json", "isolation.json")
SQLITE = ("", "-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Wide:
    """Something that more people may read than need to."""

    path: Path
    mode: int
    most: int


def sqlite_path(url: str, folder: Path) -> Path | None:
    """The file behind an SQLAlchemy URL, relative to ``folder``; None where it is none. Pure."""
    parts = urlsplit(url)
    if not parts.scheme.startswith("sqlite") or parts.path in ("", "/") or ":memory:" in url:
        return None
    # sqlite:///relative has one slash before the path, sqlite:////absolute two.
    return folder / parts.path[1:]


def watched(state_dir: Path, databases: Iterable[Path | None]) -> Iterator[tuple[Path, int]]:
    """Each path with the widest mode that it may have. Pure."""
    yield state_dir, FOLDER_MODE
    for name in KEYS:
        yield state_dir / name, KEY_MODE
    for name in DATA:
        yield state_dir / name, DATA_MODE
    for database in databases:
        for ending in SQLITE if database else ():
            yield Path(f"{database}{ending}"), DATA_MODE


def too_wide(paths: Iterable[tuple[Path, int]]) -> list[Wide]:
    """Those that exist and have a wider mode. Links are not followed."""
    found = []
    for path, most in paths:
        try:
            status = os.lstat(path)
        except OSError:
            continue
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISLNK(status.st_mode) and mode & ~most & 0o777:
            found.append(Wide(path, mode, most))
    return found


def narrow(paths: Iterable[tuple[Path, int]]) -> list[Wide]:
    """Take the rights away that are too many; returns what could not be narrowed."""
    left = []
    for wide in too_wide(paths):
        try:
            # Opened first, so that what is changed is what was looked at.
            descriptor = os.open(wide.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            left.append(wide)
            continue
        try:
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(descriptor).st_mode) & (wide.most | 0o7000))
        except OSError:
            left.append(wide)
        finally:
            os.close(descriptor)
    return left


def make_private(database: Path | None) -> None:
    """Make the hub's database where it is missing, so that it is private from its first moment."""
    if database is None or not database.parent.is_dir():
        return
    try:
        os.close(os.open(database, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, DATA_MODE))
    except OSError:
        return  # it is there, or the hub will say why it cannot be

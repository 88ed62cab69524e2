"""How much a person's workspace holds: measured in the background, for a bounded time, remembered a while.

Whoever asks never waits long: an older figure is returned while a new one is taken, and where there is
none yet the answer comes after `PATIENCE_S` or is unknown. Folders are walked by file descriptors without
following links, so no user can lead the walk (which runs with the hub's rights) out of the workspace.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from pathlib import Path

from .safefs import Folder
from .safewalk import Bounds, Walk

MAX_AGE_S = 120.0
PATIENCE_S = 2.0
BUDGET_S = 60.0
MAX_DEPTH = 200
"""Levels of folders, each of which holds a descriptor open; what lies deeper is not counted."""
MAX_ENTRIES = 20_000_000
MAX_KEPT = 5000


@dataclass(frozen=True)
class Measured:
    """Bytes on disk.

    ``complete`` is False where time or depth ran out or a folder is closed to us: there is at least so much.
    """

    bytes: int
    complete: bool = True


def measure(path: Path, budget: float = BUDGET_S) -> Measured | None:
    """What ``path`` holds on disk, hard links counted once; None where it cannot be read. Blocking."""
    try:
        with Folder.open(path, trusted=False) as top:
            return walk(top, time.monotonic() + budget, set())
    except FileNotFoundError:
        return Measured(0)
    except OSError:
        return None


def walk(top: Folder, deadline: float, linked: set[tuple[int, int]]) -> Measured:
    """What lies below the open folder ``top``. ``linked`` are hard links counted before."""
    everything = Walk(top, Bounds(entries=MAX_ENTRIES, depth=MAX_DEPTH, until=deadline))
    total = 0
    for entry in everything:
        status = entry.status
        if status.st_nlink > 1 and not entry.is_folder:
            if (status.st_dev, status.st_ino) in linked:
                continue
            linked.add((status.st_dev, status.st_ino))
        total += status.st_blocks * 512
    return Measured(total, everything.complete)


class UsedSpace:
    """Figures by workspace. Thread-safe; one measurement at a time, so that a disk is never walked twice."""

    def __init__(self, budget: float = BUDGET_S, max_age: float = MAX_AGE_S) -> None:
        self.budget, self.max_age = budget, max_age
        self._known: dict[Path, tuple[float, Measured | None]] = {}
        self._running: dict[Path, Future[Measured | None]] = {}
        self._lock = threading.Lock()
        self._walker = ThreadPoolExecutor(1, thread_name_prefix="ds01-used")

    def of(self, path: Path, enough: int, patience: float = PATIENCE_S) -> int | None:
        """Bytes in ``path``, or None while that is unknown.

        A figure that is not complete counts only when it is at least ``enough`` already.
        """
        with self._lock:
            at, known = self._known.get(path, (-self.max_age, None))
            full = known is not None and known.bytes >= enough
            # Whoever is short of space deletes files and asks again: then the figure is worth a wait.
            if time.monotonic() - at < (self.max_age / 10 if full else self.max_age):
                return _told(known, enough)
            future = self._running.get(path)
            if future is None:
                future = self._running[path] = self._walker.submit(self._measure, path)
        try:
            return _told(future.result(0 if known is not None and not full else patience), enough)
        except NotYet:
            return _told(known, enough)

    def _measure(self, path: Path) -> Measured | None:
        try:
            found = measure(path, self.budget)
        except Exception:
            found = None
        with self._lock:
            self._running.pop(path, None)
            while len(self._known) >= MAX_KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[path] = (time.monotonic(), found)
        return found


def _told(known: Measured | None, enough: int) -> int | None:
    if known is None or not (known.complete or known.bytes >= enough):
        return None
    return known.bytes

"""What each project of a workspace holds on disk, for its owner to see.

Measured by one thread of its own, for a bounded time and without following links (see `usage`), and
remembered: a page shows the last figures with their age and never starts a walk for each view.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from ..policy.options import is_project_name
from .safefs import Folder
from .used_space import BUDGET_S, Measured, walk

MAX_AGE = timedelta(minutes=10)
PATIENCE_S = 1.5
MAX_KEPT = 1000
NOTHING = Measured(0)


@dataclass(frozen=True)
class Spaces:
    """A workspace, project by project. A project that time did not suffice for is missing."""

    at: datetime
    projects: Mapping[str, Measured] = field(default_factory=dict)
    rest: Measured = NOTHING
    """What lies beside the projects."""
    complete: bool = True

    @property
    def total(self) -> Measured:
        """All of it; at least so much where it is not complete."""
        parts = [*self.projects.values(), self.rest]
        return Measured(sum(p.bytes for p in parts), self.complete and all(p.complete for p in parts))


def measure_projects(path: Path, at: datetime, budget: float = BUDGET_S) -> Spaces | None:
    """Measure a workspace now, hard links counted once; None where it cannot be read. Blocking."""
    try:
        with Folder.open(path, trusted=False) as top:
            return _measure(top, at, budget)
    except FileNotFoundError:
        return Spaces(at)
    except OSError:
        return None


def _measure(top: Folder, at: datetime, budget: float) -> Spaces:
    deadline, linked = time.monotonic() + budget, set[tuple[int, int]]()
    projects: dict[str, Measured] = {}
    rest, complete = NOTHING, True
    for name in sorted(top.names()):
        if time.monotonic() > deadline:
            complete = False
            break
        try:
            own = top.look(name).st_blocks * 512
            try:
                with top.child(name) as folder:
                    found = walk(folder, deadline, linked)
            except NotADirectoryError:  # a file, or a link to somewhere
                rest = Measured(rest.bytes + own, rest.complete)
                continue
        except FileNotFoundError:
            continue  # gone meanwhile
        except OSError:
            complete = False
            continue
        found = Measured(own + found.bytes, found.complete)
        if is_project_name(name):
            projects[name] = found
        else:
            rest = Measured(rest.bytes + found.bytes, rest.complete and found.complete)
    return Spaces(at, projects, rest, complete)


class SpaceBook:
    """The last figures of every workspace asked for. Thread-safe; one walk at a time."""

    def __init__(self, clock: Callable[[], datetime], budget: float = BUDGET_S) -> None:
        self._clock, self._budget = clock, budget
        self._known: dict[Path, tuple[datetime, Spaces | None]] = {}
        self._running: dict[Path, Future[Spaces | None]] = {}
        self._lock = threading.Lock()
        self._walker = ThreadPoolExecutor(1, thread_name_prefix="ds01-spaces")

    def look(self, path: Path) -> tuple[Spaces | None, Future[Spaces | None] | None]:
        """The last figures, however old (None while there are none), and the measurement under way.

        Figures older than `MAX_AGE` are measured anew for the next to ask. Never blocks.
        """
        with self._lock:
            at, known = self._known.get(path, (None, None))
            if at is not None and self._clock() - at < MAX_AGE:
                return known, None
            future = self._running.get(path)
            if future is None:
                future = self._running[path] = self._walker.submit(self._measure, path)
            return known, future

    async def of(self, path: Path, patience: float = PATIENCE_S) -> Spaces | None:
        """The last figures; where there are none yet, those that come within ``patience`` seconds."""
        known, under_way = self.look(path)
        if known is not None or under_way is None:
            return known
        try:
            return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(under_way)), patience)
        except asyncio.TimeoutError:  # not the built-in before Python 3.11
            return None

    def _measure(self, path: Path) -> Spaces | None:
        found = None
        try:
            found = measure_projects(path, self._clock(), self._budget)
        finally:
            with self._lock:
                self._running.pop(path, None)
                while len(self._known) >= MAX_KEPT:
                    self._known.pop(next(iter(self._known)))
                self._known[path] = (self._clock(), found)
        return found

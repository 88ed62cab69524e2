"""Processes that the kernel ended for want of memory, while their session goes on.

The count is in the session's cgroup (``oom_kill``); it only grows and goes with the container. Where the
files cannot be read, the engine's own ``oom`` events are asked for what happened since the last look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import docker.errors
import requests

from ...core.errors import EngineError
from ..base import EngineSession
from .cgroups import ROOT
from .limit_check import PROC, cgroup_of

FAILURES = (docker.errors.DockerException, requests.RequestException, OSError, ValueError)


@dataclass(frozen=True)
class Kills:
    """What one look found of one session."""

    record: EngineSession
    new: int
    """Processes ended since the last look."""
    key: str
    """The same for the same kills, whoever finds them and how often."""


class MemoryWatch:
    """Remembers how many kills each session had. Not thread-safe; `look` blocks."""

    def __init__(self, version: int, root: Path = ROOT, proc: Path = PROC) -> None:
        """``version`` is that of the machine's cgroups, 1 or 2."""
        self.version, self.root, self.proc = version, root, proc
        self._files: dict[str, Path | None] = {}
        self._counts: dict[str, int] = {}
        self._asked_until: datetime | None = None

    def look(
        self, client: Callable[[], Any], sessions: Iterable[EngineSession], now: datetime
    ) -> list[Kills]:
        """New kills of running sessions; `EngineError` when the engine must be asked and does not answer."""
        running = [r for r in sessions if r.state == "running"]
        known = {r.container for r in running}
        self._files = {c: f for c, f in self._files.items() if c in known}
        self._counts = {c: n for c, n in self._counts.items() if c in known}
        found, unseen = [], []
        for record in running:
            count = self._count(client, record.container)
            if count is None:
                unseen.append(record)
                continue
            new = count - self._counts.get(record.container, 0)
            self._counts[record.container] = count
            if new > 0:
                found.append(Kills(record, new, f"memory:{record.labels.session}:{count}"))
        if unseen:
            found += self._from_events(client, unseen, now)
        self._asked_until = now
        return found

    def _count(self, client: Callable[[], Any], container: str) -> int | None:
        if container not in self._files:
            self._files[container] = self._file(client, container)
        file = self._files[container]
        if file is None:
            return None
        try:
            return kill_count(file.read_text())
        except OSError:
            return None

    def _file(self, client: Callable[[], Any], container: str) -> Path | None:
        try:
            pid = int(client().inspect_container(container)["State"].get("Pid") or 0)
        except FAILURES as error:
            raise EngineError(f"the engine did not answer: {error}") from error
        path = cgroup_of(pid, "memory", self.version, self.proc) if pid else ""
        if container not in path:
            return None
        base = self.root if self.version == 2 else self.root / "memory"
        return base / path.strip("/") / ("memory.events" if self.version == 2 else "memory.oom_control")

    def _from_events(
        self, client: Callable[[], Any], sessions: Sequence[EngineSession], now: datetime
    ) -> list[Kills]:
        if self._asked_until is None:
            return []
        filters = {"type": "container", "event": "oom", "container": [r.container for r in sessions]}
        since, until = int(self._asked_until.timestamp()), int(now.timestamp())
        if until <= since:
            return []
        try:
            events = list(client().events(since=since, until=until, filters=filters, decode=True))
        except FAILURES as error:
            raise EngineError(f"the engine did not answer: {error}") from error
        found = []
        for record in sessions:
            new = sum(e.get("id") == record.container for e in events)
            if new:
                found.append(Kills(record, new, f"memory:{record.labels.session}:at{until}"))
        return found


def kill_count(text: str) -> int | None:
    """``oom_kill`` of a cgroup's file, v1 or v2; None where the kernel does not count. Pure."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill" and number.isdigit():
            return int(number)
    return None

"""Counters of every container from the host's ``/proc`` and cgroup files: no engine call at all.

One walk over ``/proc`` serves all sessions. It needs the host's PID namespace; keystrokes in terminals
need the right to look into the containers' ``/dev/pts`` (root). Blocking: call from a thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from datetime import datetime, timezone
from pathlib import Path

from .sample import Process, Sample, classify

_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_TICKS = os.sysconf("SC_CLK_TCK")
_MAX_FILE = 64 * 1024
_MAX_PROCESSES = 2000
"""Processes of one container looked at singly; its CPU counter covers the others."""


class HostSampler:
    """Reads ``proc`` and ``cgroup`` of the host this process runs on."""

    def __init__(self, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self.proc, self.cgroup = proc, cgroup

    def sample(self, containers: Collection[str]) -> dict[str, Sample]:
        """A look at each of ``containers`` (full ids); one without visible processes is missing."""
        wanted = set(containers)
        found: dict[str, tuple[list[int], str]] = {}
        for pid in self._pids():
            text = self._read(f"{pid}/cgroup")
            match = _ID.search(text)
            if match and match[0] in wanted:
                found.setdefault(match[0], ([], text))[0].append(pid)
        return {container: self._look(container, *where) for container, where in found.items()}

    def _pids(self) -> list[int]:
        try:
            return sorted(int(n) for n in os.listdir(self.proc) if n.isdigit())
        except OSError:
            return []

    def _look(self, container: str, pids: list[int], text: str) -> Sample:
        cpu, network = self._cpu(container, text), self._network(pids)
        processes = [p for pid in pids[:_MAX_PROCESSES] if (p := self._process(pid))]
        missing = (
            "" if cpu is not None and network is not None and processes else "its counters are unreadable"
        )
        typed_at, seen = self._typed_at(pids)
        return Sample(cpu, network, tuple(processes) or None, typed_at, missing, seen)

    def _cpu(self, container: str, text: str) -> float | None:
        """CPU seconds of the container's own cgroup, of whichever version accounts for CPU here."""
        for line in text.splitlines():
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            own = path[: path.find(container) + len(container)] if container in path else ""
            if own and path[len(own) :].startswith(".scope"):
                own += ".scope"
            if own and "cpuacct" in controllers.split(","):
                for name in ("cpuacct", controllers):
                    value = self._number(self.cgroup / name / own.lstrip("/") / "cpuacct.usage")
                    if value is not None:
                        return value / 1e9
            if own and controllers == "":
                for root in (self.cgroup, self.cgroup / "unified"):
                    stat = self._text(root / own.lstrip("/") / "cpu.stat")
                    match = re.search(r"^usage_usec (\d+)", stat, re.MULTILINE)
                    if match:
                        return int(match[1]) / 1e6
        return None

    def _network(self, pids: list[int]) -> int | None:
        for pid in pids:
            lines = self._read(f"{pid}/net/dev").splitlines()[2:]
            if lines:
                return sum(_traffic(line) for line in lines)
        return None

    def _process(self, pid: int) -> Process | None:
        stat = self._read(f"{pid}/stat")
        end = stat.rfind(")")
        fields = stat[end + 2 :].split()
        if end < 0 or len(fields) < 20 or fields[0] in "ZX":
            return None
        argv = self._read(f"{pid}/cmdline").split("\0")
        name, kind = classify(argv if argv[0] else [stat[stat.find("(") + 1 : end]])
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        return Process(pid, int(fields[19]), name, kind, cpu)

    def _typed_at(self, pids: list[int]) -> tuple[datetime | None, bool]:
        """When a terminal last read input, and whether that could be seen.

        Reading moves a tty's access time, output does not.
        """
        for pid in pids:
            folder = self.proc / str(pid) / "root/dev/pts"
            try:
                names = [n for n in os.listdir(folder) if n.isdigit()]
                times = [os.stat(folder / n, follow_symlinks=False).st_atime for n in names]
            except OSError:
                continue
            return (datetime.fromtimestamp(max(times), timezone.utc) if times else None), True
        return None, False

    def _number(self, path: Path) -> int | None:
        try:
            return int(self._text(path))
        except ValueError:
            return None

    def _read(self, name: str) -> str:
        return self._text(self.proc / name)

    @staticmethod
    def _text(path: Path) -> str:
        try:
            with open(path, "rb") as file:
                return file.read(_MAX_FILE).decode(errors="replace")
        except OSError:
            return ""


def _traffic(line: str) -> int:
    name, _, numbers = line.partition(":")
    fields = numbers.split()
    if name.strip() == "lo" or len(fields) < 9:
        return 0
    return int(fields[0]) + int(fields[8])

"""Whether a running session's limits are in force, read from the kernel and not from the engine's word.

Some small files of one container: those of its cgroup, found through its first process, and that
process's own limits. What cannot be read (an engine on another machine, a hub without sight of the
host's processes) is None and judged by nobody.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from ...policy.units import say_size
from .cgroups import ROOT, folder_of, read_cfs, read_cpu_max, read_number
from .create import Resources

PROC = Path("/proc")
_SIZES = frozenset({"memory", "memory with swap", "/dev/shm"})  # noqa: S108
PAGE = 64 * 1024
"""Kernels round sizes to pages; the largest page in use."""
_ULIMIT_TITLES = {
    "core": "Max core file size",
    "cpu": "Max cpu time",
    "data": "Max data size",
    "fsize": "Max file size",
    "locks": "Max file locks",
    "memlock": "Max locked memory",
    "msgqueue": "Max msgqueue size",
    "nice": "Max nice priority",
    "nofile": "Max open files",
    "nproc": "Max processes",
    "rss": "Max resident set",
    "rtprio": "Max realtime priority",
    "rttime": "Max realtime timeout",
    "sigpending": "Max pending signals",
    "stack": "Max stack size",
}


@dataclass(frozen=True)
class InForce:
    """What the kernel enforces: bytes, CPUs and counts; `inf` is no limit, None is not readable."""

    memory: float | None = None
    memory_and_swap: float | None = None
    cpus: float | None = None
    pids: float | None = None
    shm: float | None = None
    hard: Mapping[str, float] = field(default_factory=dict)
    """Hard ulimits by name."""
    parent: str = ""
    """The cgroup above the container's, from the root; empty when unknown."""

    @property
    def readable(self) -> bool:
        """Whether anything at all could be read."""
        return self.parent != ""


def cgroup_of(pid: int, controller: str, version: int, proc: Path = PROC) -> str:
    """The cgroup path of a process for one controller, from the root; empty where it cannot be seen."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (version == 2 and number == "0") or (version == 1 and controller in names.split(",")):
            return "" if ".." in path else path
    return ""


def read(pid: int, container: str, version: int, root: Path = ROOT, proc: Path = PROC) -> InForce:
    """The limits in force of a container whose first process is ``pid``, as the host numbers it.

    A process of that number that is not in this container's cgroup is somebody else's, on a machine
    that is not the engine's: then nothing is readable.
    """
    paths = {c: cgroup_of(pid, c, version, proc) for c in ("memory", "cpu", "pids")}
    if not all(container in path for path in paths.values()):
        return InForce()
    place = {c: (root if version == 2 else root / c) / path.strip("/") for c, path in paths.items()}
    if not place["memory"].is_dir():
        return InForce()
    if version == 2:
        limit, swap = (
            read_number(place["memory"] / "memory.max"),
            read_number(place["memory"] / "memory.swap.max"),
        )
        both = None if limit is None or swap is None else limit + swap
        cpus = read_cpu_max(place["cpu"] / "cpu.max")
    else:
        limit = read_number(place["memory"] / "memory.limit_in_bytes")
        both = read_number(place["memory"] / "memory.memsw.limit_in_bytes")
        cpus = read_cfs(place["cpu"])
    return InForce(
        memory=limit,
        memory_and_swap=both,
        cpus=cpus,
        pids=read_number(place["pids"] / "pids.max"),
        shm=_size_of(proc / str(pid) / "root/dev/shm"),
        hard=_hard_limits(proc / str(pid) / "limits"),
        parent=os.path.dirname(paths["memory"]),
    )


def shortfalls(wanted: Resources, found: InForce, *, swap: bool = True) -> list[str]:
    """What is allowed beyond ``wanted``, in words; empty when all is in force.

    ``swap`` says whether the engine can limit swap on this kernel at all. Pure.
    """
    both = None if wanted.memory is None or not swap else wanted.memory + wanted.swap
    rows: list[tuple[str, float | None, float | None, float]] = [
        ("memory", wanted.memory, found.memory, PAGE),
        ("memory with swap", both, found.memory_and_swap, 2 * PAGE),
        ("cpus", wanted.cpus, found.cpus, 0.011),
        ("processes", wanted.pids, found.pids, 0),
        ("/dev/shm", wanted.shm, found.shm, PAGE),  # noqa: S108
    ]
    beside = []
    if wanted.cgroup_parent and found.readable and not found.parent.endswith(folder_of(wanted.cgroup_parent)):
        beside = ["it is not below the ceiling over all sessions"]
    for name, (_, hard) in wanted.ulimits.items():
        rows.append((f"ulimit {name}", None if hard == -1 else hard, found.hard.get(name), 0))
    return beside + [
        f"{title} is {'unlimited' if have == inf else _say(title, have)} instead of {_say(title, want)}"
        for title, want, have, slack in rows
        if want is not None and have is not None and have > want + slack
    ]


def _say(title: str, value: float) -> str:
    return say_size(int(value)) if title in _SIZES else f"{value:g}"


def _size_of(place: Path) -> float | None:
    try:
        if not os.path.ismount(place):
            return None
        status = os.statvfs(place)
    except OSError:
        return None
    return float(status.f_blocks * status.f_frsize)


def _hard_limits(file: Path) -> dict[str, float]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    found = {}
    for name, title in _ULIMIT_TITLES.items():
        line = next((x for x in lines if x.startswith(title)), "")
        fields = line[len(title) :].split()
        if len(fields) >= 2:
            found[name] = inf if fields[1] == "unlimited" else float(fields[1])
    return found

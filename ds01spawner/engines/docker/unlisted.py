"""Containers that run on although their engine does not list them.

An engine that starts while its disk is full loads none of its containers ("failed to register container: no
space left on device"). They run on, and whoever takes its list for all there is grants their devices again.
So the machine is asked too: a control group that bears a container's id and has processes is a container that
runs. What it holds is known from when it was listed, or from the environment of its first process, where that
says that it is a session of this installation and may be read. Others are left alone: machines may have more
than one engine.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ..base import Finding
from .device_access import Evidence

INSTALLATION_ENV, UUIDS_ENV = "DS01_INSTALLATION", "DS01_GPU_UUIDS"
"""What every session is started with, see `create` and `attach`."""
CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
CONTROLLERS = ("pids", "memory", "devices", "cpu")
"""Trees of cgroup version 1, any of which has every container. Version 2 has one tree without names."""
KEPT_S = 1.0
"""How old a look at the control groups may be. An engine takes longer to start, so this is enough."""
DEEPEST = 8
"""Folders deep: a site's slice, a person's, the engine's own, the container's, and some."""
MOST_BYTES = 256 * 1024
_CONTAINER = re.compile(r"(?:docker-)?([0-9a-f]{64})(?:\.scope)?")


def running(root: Path = CGROUPS) -> dict[str, Path]:
    """Control groups of containers that have processes, by the container's id. To be read before the engine
    is asked: one that is made meanwhile is not missed, and one that is removed has no processes any more."""
    tree = next((root / c for c in CONTROLLERS if (root / c).is_dir()), root)
    return {ident: path for ident, path in _containers(str(tree), DEEPEST) if alive(path)}


class Groups:
    """The control groups that run, looked for once in `KEPT_S`: a busy machine has hundreds, and every claim
    and page asks. One that has ended meanwhile is asked again by `still_there`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._last, self._found = clock, -math.inf, dict[str, Path]()

    def running(self) -> dict[str, Path]:
        """See `running`. From any thread: two at once look twice."""
        now = self._clock()
        if not 0 <= now - self._last < KEPT_S:
            self._found = running()
            self._last = now
        return self._found


def alive(cgroup: Path) -> bool:
    """Whether a control group has processes, also those of another PID namespace."""
    try:
        return bool((cgroup / "cgroup.procs").read_text().strip())
    except OSError:
        return False


def still_there(
    before: Mapping[str, Path],
    listed: Collection[str],
    remembered: Mapping[str, Evidence],
    installation: str,
    proc: Path = PROC,
) -> dict[str, Evidence]:
    """Those of ``before`` that the engine does not list, that run all the same and of which something is
    known. They are no sessions that could be opened or retired, so each is a foreign holder."""
    found = {}
    for ident in before.keys() - listed:
        if not alive(before[ident]):
            continue
        evidence = remembered.get(ident) or _from_environment(ident, before[ident], installation, proc)
        if evidence is not None:
            found[ident] = replace(evidence, claim=None, standing=None, labels={})
    return found


def findings(
    before: Mapping[str, Path], running_listed: Collection[str], missed: Iterable[str]
) -> Iterator[Finding]:
    """What to tell an administrator. ``running_listed`` are containers that the engine says run."""
    names = ", ".join(sorted(i[:12] for i in missed))
    if names:
        yield Finding(
            "error",
            f"containers run that the engine does not list: {names}",
            "it started while its disk was full; none can open or retire them, and their devices stay taken",
            "make room on the engine's disk and restart the engine",
        )
    elif running_listed and not before.keys() & set(running_listed):
        yield Finding(
            "warning",
            "whether containers run that the engine does not list cannot be told: no control groups are seen",
            "an engine that starts while its disk is full forgets some, and their devices are granted again",
            "mount /sys/fs/cgroup of the machine, or keep the engine's data on a disk of its own",
        )


def _containers(folder: str, deep: int) -> Iterator[tuple[str, Path]]:
    try:
        entries = [e for e in os.scandir(folder) if e.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in entries:
        if (found := _CONTAINER.fullmatch(entry.name)) is not None:
            yield found[1], Path(entry.path)
        elif deep:
            yield from _containers(entry.path, deep - 1)


def _from_environment(ident: str, cgroup: Path, installation: str, proc: Path) -> Evidence | None:
    """What the first process was started with, where that is a session's of ours."""
    for pid in _pids(cgroup):
        told = _environment(proc / str(pid) / "environ")
        if installation and told.get(INSTALLATION_ENV) == installation:
            uuids = dict.fromkeys(u for u in told.get(UUIDS_ENV, "").split(",") if u)
            return Evidence(ident, tuple(("label", u) for u in uuids), {}, None)
    return None


def _pids(cgroup: Path) -> list[int]:
    try:
        return sorted(int(word) for word in (cgroup / "cgroup.procs").read_text().split() if word != "0")[:4]
    except (OSError, ValueError):
        return []


def _environment(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as file:
            words = file.read(MOST_BYTES).split(b"\0")
    except OSError:
        return {}
    pairs = (w.decode(errors="replace").partition("=") for w in words)
    return {key: value for key, _, value in pairs}

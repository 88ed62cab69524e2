"""The ceiling over all of a person's sessions: a cgroup that is the parent of their containers.

Names and values are pure functions; `Parents` makes, reads back and removes the cgroups, with files
where the engine's driver is ``cgroupfs`` and through ``systemctl`` where it is ``systemd``, on cgroup v1
and v2. Call `Parents.ensure` under the claim lock and `Parents.remove` only for people without any
container: the engine makes a container's cgroup at its start, and a parent that is gone by then would
come back without limits.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from ...core.errors import EngineError
from ...policy.model import Aggregate
from .answers import InfoJson

ROOT = Path("/sys/fs/cgroup")
TOP = "ds01"
PERIOD_US = 100_000
SYSTEMCTL_TIMEOUT_S = 10
V1_CONTROLLERS = ("memory", "cpu", "pids")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,47}")
_HASHED = re.compile(r".*_[0-9a-f]{8}")
_FILES = frozenset({"tasks", "notify_on_release", "release_agent"})
"""Files that lie in every cgroup v1 folder, so no folder there can have their names."""


@dataclass(frozen=True)
class Ceiling:
    """CPUs, bytes and processes all sessions of a person share; None is no limit."""

    cpus: float | None = None
    memory: int | None = None
    memory_high: int | None = None
    """Above this the kernel slows down and reclaims; cgroup v2 only."""
    pids: int | None = None

    @classmethod
    def of(cls, aggregate: Aggregate) -> Ceiling:
        """The part of the policy's ceiling that a cgroup can hold."""
        return cls(aggregate.cpus, aggregate.memory, aggregate.memory_high, aggregate.pids)


# --- names and values: pure -----------------------------------------------------------------------


def token(text: str) -> str:
    """A part of a cgroup's name, injective: the text itself, or a readable form with a hash.

    It has no hyphen, because in the name of a systemd slice a hyphen means a level.
    """
    if _PLAIN.fullmatch(text) and not _HASHED.fullmatch(text) and text not in _FILES:
        return text
    readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:38] or "x"
    return f"{readable}_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def parent_name(driver: str, hub_id: str, user: str) -> str:
    """The ``CgroupParent`` of a person's containers for the engine's cgroup driver."""
    if driver == "systemd":
        return f"{TOP}-{token(hub_id)}-{token(user)}.slice"
    return f"/{TOP}/{token(hub_id)}/{token(user)}"


def folder_of(name: str) -> str:
    """A parent's folder below the cgroup root: that of a slice lies in those of its prefixes."""
    if not name.endswith(".slice"):
        return name.strip("/")
    parts = name.removesuffix(".slice").split("-")
    return "/".join("-".join(parts[: i + 1]) + ".slice" for i in range(len(parts)))


def v1_values(ceiling: Ceiling) -> list[tuple[str, str, str]]:
    """(controller, file, value) in the order to write them."""
    quota = -1 if ceiling.cpus is None else max(1000, int(ceiling.cpus * PERIOD_US))
    return [
        ("memory", "memory.limit_in_bytes", str(-1 if ceiling.memory is None else ceiling.memory)),
        ("cpu", "cpu.cfs_period_us", str(PERIOD_US)),
        ("cpu", "cpu.cfs_quota_us", str(quota)),
        ("pids", "pids.max", "max" if ceiling.pids is None else str(ceiling.pids)),
    ]


def v2_values(ceiling: Ceiling) -> list[tuple[str, str]]:
    """(file, value) in the order to write them."""
    quota = "max" if ceiling.cpus is None else str(max(1000, int(ceiling.cpus * PERIOD_US)))
    return [
        ("memory.max", "max" if ceiling.memory is None else str(ceiling.memory)),
        ("memory.high", "max" if ceiling.memory_high is None else str(ceiling.memory_high)),
        ("cpu.max", f"{quota} {PERIOD_US}"),
        ("pids.max", "max" if ceiling.pids is None else str(ceiling.pids)),
    ]


def slice_properties(ceiling: Ceiling, version: int) -> list[str]:
    """The ceiling as properties of a systemd slice; every one is named, so that an old one goes."""
    cpus = "" if ceiling.cpus is None else f"{ceiling.cpus * 100:g}%"
    properties = [
        f"CPUQuota={cpus}",
        f"MemoryMax={_or_infinity(ceiling.memory)}",
        f"TasksMax={_or_infinity(ceiling.pids)}",
    ]
    if version == 2:
        properties.append(f"MemoryHigh={_or_infinity(ceiling.memory_high)}")
    return properties


def _or_infinity(value: int | None) -> str:
    return "infinity" if value is None else str(value)


def shortfall(wanted: Ceiling, found: Ceiling) -> str:
    """What of a ceiling is not in force, or empty. ``found`` has `inf` for unlimited, None for unknown."""
    for title, want, have, slack in (
        ("memory", wanted.memory, found.memory, 0),
        ("cpus", wanted.cpus, found.cpus, 0.011),
        ("pids", wanted.pids, found.pids, 0),
    ):
        if want is not None and (have is None or have > want + slack):
            return f"{title} of all sessions is {'unlimited' if have == inf else have} instead of {want}"
    return ""


# --- the adapter ----------------------------------------------------------------------------------


def run(argv: Sequence[str]) -> str:
    """Run a program; its output, or `EngineError` with what it said."""
    try:
        done = subprocess.run(
            list(argv), capture_output=True, text=True, timeout=SYSTEMCTL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{argv[0]} could not be run: {error}") from error
    if done.returncode:
        raise EngineError(f"{' '.join(argv[:2])}: {done.stderr.strip()[:300] or done.returncode}")
    return done.stdout


class Parents:
    """The parent cgroups of one engine on this machine. Blocking, some milliseconds a call."""

    def __init__(
        self,
        info: InfoJson,
        hub_id: str,
        root: Path = ROOT,
        run: Callable[[Sequence[str]], str] = run,
    ) -> None:
        """``info`` is what the engine says about itself."""
        self.driver = str(info.get("CgroupDriver") or "none")
        self.version = 2 if str(info.get("CgroupVersion")) == "2" else 1
        self.hub_id, self.root, self._run = hub_id, root, run

    def name(self, user: str) -> str:
        """The parent of a person's containers, as the engine is told."""
        return parent_name(self.driver, self.hub_id, user)

    def problem(self) -> str:
        """Why no ceiling can be enforced from here, or empty where it can."""
        if self.driver not in ("cgroupfs", "systemd"):
            return f"the engine's cgroup driver is {self.driver!r}"
        missing = [c for c in V1_CONTROLLERS if not self._controls(c)]
        if missing:
            return f"this machine's cgroups have no {' and no '.join(missing)} controller"
        if self.driver == "systemd":
            return "" if os.geteuid() == 0 and shutil.which("systemctl") else _NEEDS.format("systemctl")
        try:
            if self.version == 2:
                _enable(self.root)
            for base in self._bases():
                (base / TOP).mkdir(exist_ok=True)
        except OSError as error:
            return _NEEDS.format(f"{self.root} ({error.strerror})")
        return ""

    def ensure(self, user: str, ceiling: Ceiling) -> str:
        """Make or update a person's parent and return its name; `EngineError` when it is not in force."""
        name = self.name(user)
        try:
            if self.driver == "systemd":
                self._run(
                    ["systemctl", "set-property", "--runtime", name, *slice_properties(ceiling, self.version)]
                )
                self._run(["systemctl", "start", name])
            elif self.version == 2:
                self._write_v2(folder_of(name), ceiling)
            else:
                self._write_v1(folder_of(name), ceiling)
        except OSError as error:
            raise EngineError(f"the ceiling over your sessions cannot be set: {error}") from error
        if missing := shortfall(ceiling, self.read(name)):
            if not self._running(name):
                raise EngineError(f"the ceiling over your sessions is not in force: {missing}")
            # A ceiling cannot be put below what running sessions have; the former one, read back here,
            # stands until they end.
            if any(value in (None, inf) for value in self._asked(ceiling, self.read(name))):
                raise EngineError(f"the ceiling over your sessions is not in force: {missing}")
        return name

    def read(self, name: str) -> Ceiling:
        """The limits in force of a parent: `inf` is none, None is not readable."""
        folder = folder_of(name)
        if self.version == 2:
            base = self.root / folder
            return Ceiling(
                read_cpu_max(base / "cpu.max"),
                _whole(read_number(base / "memory.max")),
                _whole(read_number(base / "memory.high")),
                _whole(read_number(base / "pids.max")),
            )
        return Ceiling(
            read_cfs(self.root / "cpu" / folder),
            _whole(read_number(self.root / "memory" / folder / "memory.limit_in_bytes")),
            None,
            _whole(read_number(self.root / "pids" / folder / "pids.max")),
        )

    def listed(self) -> set[str]:
        """Names of this hub's parents that are there."""
        hub = token(self.hub_id)
        if self.driver == "systemd":
            base = self._bases()[0] / folder_of(f"{TOP}-{hub}.slice")
            return {p.name for p in _folders(base) if p.name.startswith(f"{TOP}-{hub}-")}
        return {f"/{TOP}/{hub}/{p.name}" for b in self._bases() for p in _folders(b / TOP / hub)}

    def remove(self, name: str) -> bool:
        """Remove an empty parent; False when something is in it or it cannot be removed."""
        if name not in self.listed() or self._running(name):
            return False
        if self.driver == "systemd":
            try:
                self._run(["systemctl", "stop", name])
                self._run(["systemctl", "revert", name])
            except EngineError:
                return False
            return True
        gone = True
        for base in self._hierarchies():
            place = base / folder_of(name)
            try:
                place.rmdir()
                place.parent.rmdir()
            except FileNotFoundError:
                continue
            except OSError:
                gone = gone and not place.exists()
        return gone

    # --- files ----------------------------------------------------------------------------------

    def _controls(self, controller: str) -> bool:
        if self.version == 2:
            return controller in _text(self.root / "cgroup.controllers").split()
        return (self.root / controller).is_dir()

    def _bases(self) -> list[Path]:
        return [self.root] if self.version == 2 else [self.root / c for c in V1_CONTROLLERS]

    def _hierarchies(self) -> list[Path]:
        """Every tree in which the engine makes a container's cgroup."""
        return [self.root] if self.version == 2 else [p for p in _folders(self.root) if not p.is_symlink()]

    def _running(self, name: str) -> bool:
        """Whether containers (or anything else) are below a parent."""
        return any(_folders(base / folder_of(name)) for base in self._bases())

    @staticmethod
    def _asked(wanted: Ceiling, found: Ceiling) -> list[Any]:
        pairs = ((wanted.cpus, found.cpus), (wanted.memory, found.memory), (wanted.pids, found.pids))
        return [have for want, have in pairs if want is not None]

    def _write_v1(self, folder: str, ceiling: Ceiling) -> None:
        for controller, file, value in v1_values(ceiling):
            place = self.root / controller / folder
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                if controller == "memory" and _text(place / "memory.use_hierarchy").strip() == "0":
                    (place / "memory.use_hierarchy").write_text("1")
            self._write(place / file, value)

    def _write_v2(self, folder: str, ceiling: Ceiling) -> None:
        place = self.root
        for part in folder.split("/"):
            # A level hands controllers down to the next one only when it is told to.
            _enable(place)
            place /= part
            place.mkdir(exist_ok=True)
        _enable(place)
        for file, value in v2_values(ceiling):
            self._write(place / file, value)

    @staticmethod
    def _write(file: Path, value: str) -> None:
        try:
            file.write_text(value)
        except OSError as error:
            # Below what running sessions have; what stands is read back and judged afterwards.
            if error.errno not in (errno.EBUSY, errno.EINVAL):
                raise


_NEEDS = "this process may not change the machine's cgroups: it needs root and {}"


def _enable(place: Path) -> None:
    have = _text(place / "cgroup.subtree_control").split()
    for controller in V1_CONTROLLERS:
        if controller not in have:
            (place / "cgroup.subtree_control").write_text(f"+{controller}")


def _folders(place: Path) -> list[Path]:
    try:
        return [p for p in place.iterdir() if p.is_dir()]
    except OSError:
        return []


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def read_number(file: Path) -> float | None:
    """A limit in a cgroup file; `inf` where there is none, None where it cannot be read."""
    text = _text(file).strip()
    if text == "max" or text.startswith("-"):
        return inf
    try:
        value = int(text)
    except ValueError:
        return None
    return inf if value >= 1 << 62 else value


def read_cpu_max(file: Path) -> float | None:
    """CPUs of a cgroup v2 ``cpu.max``."""
    quota, _, period = _text(file).strip().partition(" ")
    if quota == "max":
        return inf
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def read_cfs(folder: Path) -> float | None:
    """CPUs of a cgroup v1 folder."""
    quota, period = read_number(folder / "cpu.cfs_quota_us"), read_number(folder / "cpu.cfs_period_us")
    return None if quota is None or not period else quota / period


def _whole(value: float | None) -> Any:
    return value if value is None or value == inf else int(value)

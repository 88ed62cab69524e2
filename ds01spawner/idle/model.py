"""What the idle rules look at and what they answer. Plain frozen values, no I/O, no clock.

A *reading* keeps three things apart that must never be confused: a measured value, something this
session cannot have measured at all (``unsupported``: no GPU, a slice without counters, a server that
is not Jupyter), and a sensor that should have answered and did not (``failed``). What is unsupported
says nothing; what failed keeps the session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from .idle_document import DecisionJson

T = TypeVar("T")

Status = Literal["known", "unsupported", "failed"]
State = Literal["active", "idle", "warned", "retire"]
Verdict = Literal["active", "idle", "unknown", "unsupported", "ignored"]
Cause = Literal["idle", "lifetime", "deadline"]


@dataclass(frozen=True)
class Reading(Generic[T]):
    """One sensor's answer. ``value`` is set exactly when ``status`` is ``known``."""

    status: Status
    value: T | None = None
    reason: str = ""


def known(value: T) -> Reading[T]:
    """A measured value."""
    return Reading("known", value)


def unsupported(reason: str) -> Reading[Any]:
    """This cannot be measured for this session, ever; it stands neither for use nor for idleness."""
    return Reading("unsupported", None, reason)


def failed(reason: str) -> Reading[Any]:
    """The sensor did not answer: the session is kept."""
    return Reading("failed", None, reason)


NOT_ASKED: Reading[Any] = failed("not asked")


@dataclass(frozen=True)
class Kernels:
    """The kernels of a Jupyter server: names of those running code, and when any was last used."""

    busy: tuple[str, ...] = ()
    last_used: datetime | None = None
    open: int = 0


@dataclass(frozen=True)
class Work:
    """Programs beside the notebook server and its kernels: those at work, and the last keystroke.

    ``typed_at`` is when a terminal last read input, which output (``top``, ``watch``) does not move.
    """

    running: tuple[str, ...] = ()
    typed_at: datetime | None = None


@dataclass(frozen=True)
class Signals:
    """Everything measured about one session, as deltas over the time since the last look.

    ``cpu`` is in cores (1.0 = one core busy all the time), ``network`` in bytes a second both ways,
    ``gpu`` the busiest of the session's devices (0 to 1), ``gpu_change`` the change of its GPU memory in
    MiB, or infinity when its GPU processes changed. ``saved`` is when a file in the workspace last
    changed. ``hub`` is the hub's ``last_activity``, which an open browser tab moves.
    """

    hub: Reading[datetime] = NOT_ASKED
    kernels: Reading[Kernels] = NOT_ASKED
    work: Reading[Work] = NOT_ASKED
    saved: Reading[datetime] = NOT_ASKED
    cpu: Reading[float] = NOT_ASKED
    network: Reading[float] = NOT_ASKED
    gpu: Reading[float] = NOT_ASKED
    gpu_change: Reading[float] = NOT_ASKED


@dataclass(frozen=True)
class Deadline:
    """A time at which sessions end whatever they do: maintenance, a class window, an admin's decision."""

    at: datetime
    reason: str
    by: str = ""


@dataclass(frozen=True)
class Pressure:
    """How scarce devices are: share of them in use (0 to 1), and tickets waiting."""

    share: float = 0.0
    waiting: int = 0


@dataclass(frozen=True)
class PressureRule:
    """When devices are scarce the idle timeout of sessions that hold one is multiplied by ``factor``.

    Both conditions must hold. The timeout never becomes shorter than ``floor`` seconds; the lead time of
    the warning is never touched.
    """

    share: float
    factor: float
    floor: float
    waiting: int = 1


@dataclass(frozen=True)
class KeepAliveCaps:
    """Bounds of keeping alive, in seconds: one request, one session in all, one person in 24 hours."""

    request: float = 0.0
    session: float = 0.0
    day: float = 0.0
    file: float = 0.0
    """What touching ``.keep-alive`` asks for."""


@dataclass(frozen=True)
class IdleRules:
    """A person's idle limits, already resolved. Times in seconds.

    The values come from the policy (`rules.from_policy`), whose built-in defaults are the only ones.
    """

    timeout: float | None
    """Idle time after which a session is retired, or None for never."""
    start_grace: float
    warn_lead: float
    lifetime_lead: float
    """Lead of the warning before the end of the lifetime or before a deadline."""
    max_gap: float
    """A longer time without a look at the session does not count, and needs a fresh warning."""
    cpu_cores: float
    network_bps: float
    gpu_fraction: float
    gpu_memory_mib: float
    pressure: PressureRule | None = None
    keep_alive: KeepAliveCaps = field(default_factory=KeepAliveCaps)
    source: str = "site default"
    """Whose rule the timeout is, for people: ``group students``."""


@dataclass(frozen=True)
class Session:
    """The session decided on. ``id`` is the label ``ds01.session``: a new start is a new session."""

    id: str
    user: str
    server: str = ""
    project: str = ""
    started_at: datetime | None = None
    holds_gpu: bool = False
    lifetime_end: datetime | None = None
    extension_until: datetime | None = None
    deadline: Deadline | None = None

    @property
    def address(self) -> str:
        """``user`` or ``user/server``."""
        return f"{self.user}/{self.server}" if self.server else self.user


@dataclass(frozen=True)
class Warned:
    """A warning given: when it was decided, and since when its owner could see it (None: not yet)."""

    cause: Cause
    at: datetime
    visible_at: datetime | None = None


@dataclass(frozen=True)
class Memory:
    """What is remembered of one session between two looks. Losing it gives the session more time."""

    session: str
    seen_at: datetime | None = None
    idle_seconds: float = 0.0
    unknown_since: datetime | None = None
    warnings: tuple[Warned, ...] = ()
    keep_file_mtime: float = 0.0
    """Modification time of the last ``.keep-alive`` already granted."""

    def warning(self, cause: Cause) -> Warned | None:
        """The standing warning for ``cause``."""
        return next((w for w in self.warnings if w.cause == cause), None)

    def as_dict(self) -> dict[str, object]:
        """The JSON form; times as ISO 8601."""
        return _plain(asdict(self))  # type: ignore[no-any-return]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Memory:
        """Read the JSON form; ``ValueError``, ``KeyError`` or ``TypeError`` when it is not one."""
        names = {f.name for f in fields(cls)}
        raw = {k: v for k, v in data.items() if k in names}
        for name in ("seen_at", "unknown_since"):
            raw[name] = _time(raw.get(name))
        raw["idle_seconds"] = max(0.0, float(raw.get("idle_seconds") or 0.0))
        raw["warnings"] = tuple(
            Warned(_cause(w["cause"]), _must(_time(w["at"])), _time(w.get("visible_at")))
            for w in raw.get("warnings") or ()
        )
        return cls(**raw)


@dataclass(frozen=True)
class Ground:
    """One signal's part in a decision: what was measured, from where on it counts, what it says."""

    name: str
    verdict: Verdict
    measured: str
    threshold: str = ""


@dataclass(frozen=True)
class Decision:
    """The answer for one session at one time.

    ``warn`` asks the caller to deliver a warning now and to set its ``visible_at`` (see
    `decide.mark_visible`). ``retire_at`` is when the session ends if nothing changes, None when that is
    not in sight. ``idle_seconds`` is the idle time counted so far, ``limit`` the timeout that applies
    now (None: no limit), ``pressed`` whether scarcity shortened it.
    """

    state: State
    reason: str
    memory: Memory
    why: tuple[Ground, ...] = ()
    cause: Cause | None = None
    retire_at: datetime | None = None
    warn: bool = False
    idle_seconds: float = 0.0
    limit: float | None = None
    pressed: bool = False

    def time_left(self, now: datetime) -> float | None:
        """Seconds until ``retire_at``, never negative; None when there is no such time."""
        return None if self.retire_at is None else max(0.0, (self.retire_at - now).total_seconds())

    def as_dict(self) -> DecisionJson:
        """The JSON form for the API and ``--json``, without the memory."""
        data: DecisionJson = _plain({k: v for k, v in asdict(self).items() if k != "memory"})
        return data


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.isoformat() if isinstance(value, datetime) else value


def _time(value: Any) -> datetime | None:
    if value is None:
        return None
    time = datetime.fromisoformat(value)
    if time.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return time


def _must(value: datetime | None) -> datetime:
    if value is None:
        raise ValueError("a warning needs its time")
    return value


def _cause(value: Any) -> Cause:
    if value not in ("idle", "lifetime", "deadline"):
        raise ValueError(f"{value!r} is not a cause")
    return value  # type: ignore[no-any-return]

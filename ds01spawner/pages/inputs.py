"""What the pages are told: plain values the spawner and the service gather. Pure, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

EnvironmentKind = Literal["course", "mine", "shared", "lab"]


@dataclass(frozen=True)
class Quota:
    """One thing that is limited. ``used`` or ``limit`` None means unknown or without limit."""

    label: str
    used: float | None
    limit: float | None
    unit: str = ""
    source: str = ""
    """Where the limit comes from, such as ``group students``."""
    resets: str = ""
    """When use falls again, in words."""
    is_bytes: bool = False


@dataclass(frozen=True)
class ProjectInfo:
    """A folder of the person's workspace."""

    name: str
    size_bytes: int | None = None
    used_at: datetime | None = None
    description: str = ""


@dataclass(frozen=True)
class EnvironmentInfo:
    """An image a person may see on the form. ``ready`` False greys it with ``reason``."""

    id: str
    title: str
    kind: EnvironmentKind = "lab"
    description: str = ""
    size_bytes: int | None = None
    cuda: str = ""
    built_at: datetime | None = None
    preflight: Literal["ok", "failed", "unknown", "building"] = "unknown"
    reason: str = ""
    """Why it cannot be started; empty where it can."""
    present: bool = True
    """Whether the image is on this machine; if not, its first start pulls it."""
    warnings: tuple[str, ...] = ()
    ask_url: str = ""
    """Where to ask for it, where it is one's limits that stand against it."""


@dataclass(frozen=True)
class QueueHint:
    """What joining the queue would mean for one compute choice."""

    ahead: int
    estimate: str = ""
    """Rough wait in words; empty when nobody can tell."""


@dataclass(frozen=True)
class Rules:
    """When a session ends, and what stays. Durations None mean: no such rule."""

    idle_timeout: timedelta | None = None
    idle_source: str = ""
    warn_lead: timedelta | None = None
    lifetime: timedelta | None = None
    lifetime_source: str = ""
    workspace: str = "/workspace"
    kept: tuple[str, ...] = ()
    removed: tuple[str, ...] = ("packages you install", "files outside the project folder", "running kernels")


@dataclass(frozen=True)
class Banner:
    """A message across a page. ``kind`` is a Bootstrap alert class: info, warning, danger, success."""

    text: str
    kind: Literal["info", "warning", "danger", "success"] = "info"
    title: str = ""


@dataclass(frozen=True)
class Ending:
    """How the last session ended."""

    project: str
    at: datetime
    reason: str
    signals: tuple[str, ...] = ()
    """What was measured, one phrase each."""
    log_tail: str = ""
    crashed: bool = False


@dataclass(frozen=True)
class Series:
    """A measured course of one quantity, oldest first. None is a gap; ``unavailable`` says why there is
    none at all (a slice without a utilisation counter), which is never the same as zero."""

    label: str
    points: tuple[float | None, ...] = ()
    top: float | None = None
    """The value at full height, or None to scale by the points."""
    unit: str = "%"
    unavailable: str = ""


@dataclass(frozen=True)
class SessionInfo:
    """A running session as the engine and the store tell it."""

    user: str
    server: str
    project: str
    environment: str
    gpus: tuple[str, ...] = ()
    """Each device in words, such as ``1g.10gb on GPU 1``."""
    started_at: datetime | None = None
    expires_at: datetime | None = None
    state: str = "running"
    preemptible: bool = False


@dataclass(frozen=True)
class Runs:
    """The environment a session runs, as it is now."""

    title: str = ""
    kind: EnvironmentKind = "lab"
    newer: bool = False
    """Whether a start made now would get another image than the session runs."""


@dataclass(frozen=True)
class KeepAlive:
    """What keeping alive is still worth: the step it adds and what is left of the cap."""

    step: timedelta
    left: timedelta
    until: datetime | None = None
    """Kept alive until then, where it was asked for."""
    refused: str = ""

"""What the idle service publishes, as JSON: its last decisions, for pages and commands. Pure types."""

from __future__ import annotations

from typing import TypedDict


class GroundJson(TypedDict):
    """One signal's part in a decision (see `model.Ground`)."""

    name: str
    verdict: str
    measured: str
    threshold: str


class DecisionJson(TypedDict):
    """The decision for one session (see `model.Decision`), without its memory."""

    state: str
    reason: str
    why: list[GroundJson]
    cause: str | None
    retire_at: str | None
    warn: bool
    idle_seconds: float
    limit: float | None
    pressed: bool


class CaseJson(DecisionJson):
    """A decision, and whose session it is about."""

    user: str
    server: str
    address: str
    session: str
    project: str
    kept_until: str | None


class CountersJson(TypedDict, total=False):
    """Counted since the service began; ``retired`` by cause."""

    passes: int
    failures: int
    retired: dict[str, int]
    pass_seconds: float


class WrittenJson(TypedDict):
    """The file: when it was written, and how many seconds are between two passes."""

    version: int
    at: str
    poll: float
    sessions: list[CaseJson]
    counters: CountersJson


class PublishedJson(WrittenJson):
    """The file as it is read: how many seconds old, and whether that is so old that the service is down."""

    age: float
    stale: bool

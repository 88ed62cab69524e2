"""What the store gives: frozen rows, a class a table, with its columns' names. Lists come as tuples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import CursorResult

from .session_record import SessionRecord
from .shown import ShownJson

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class SessionRow(SessionRecord):
    """A session as history has it: its begin, and how it ended."""

    seen_at: datetime
    """When the engine was last seen to run it."""
    retiring_at: datetime | None = None
    """When it was decided to retire it; ``kind`` and ``reason`` are that decision's until it has ended."""
    ended_at: datetime | None = None
    kind: str = ""
    reason: str = ""


@dataclass(frozen=True)
class NoticeRow:
    """A message to a person, or to everybody."""

    id: int
    user: str
    text: str
    created_at: datetime
    server: str = ""
    session: str = ""
    kind: str = "info"
    level: str = "info"
    expires_at: datetime | None = None
    key: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    seen_at: datetime | None = None
    dismissed_at: datetime | None = None
    """When the person who asks saw and dismissed it; none where it was found by its key."""


@dataclass(frozen=True)
class ExtensionRow:
    """Seconds of life that a session was given beyond its idle time."""

    id: int
    session: str
    user: str
    seconds: int
    at: datetime
    server: str = ""
    by: str = ""
    source: str = ""
    reason: str = ""


@dataclass(frozen=True)
class BlockRow:
    """What keeps a device from being granted although no container holds it."""

    id: int
    kind: str
    uuid: str
    created_at: datetime
    starts_at: datetime
    owner: str = ""
    reason: str = ""
    by: str = ""
    exempt: tuple[str, ...] = ()
    until: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class TicketRow:
    """A place in the queue."""

    id: str
    user: str
    arrived: datetime
    server: str = ""
    groups: tuple[str, ...] = ()
    profile: str = ""
    count: int = 1
    preemptible: bool = False
    priority: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the start was asked with (`LaunchOptions`, stored)."""
    state: str = "waiting"
    reason: str = ""
    expires_at: datetime | None = None
    granted_at: datetime | None = None
    claim_until: datetime | None = None
    starting_at: datetime | None = None
    ended_at: datetime | None = None
    devices: tuple[str, ...] = ()
    attempts: int = 0
    version: int = 0
    shown: ShownJson = field(default_factory=lambda: ShownJson())
    """What the person is shown: position, reason, forecast."""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReservationRow:
    """Devices promised to a person, group or course."""

    id: str
    subject: str
    starts_at: datetime
    ends_at: datetime
    created_at: datetime
    title: str = ""
    devices: tuple[str, ...] = ()
    profile: str = ""
    count: int = 1
    zone: str = ""
    rrule: str = ""
    grace: int = 900
    released: tuple[str, ...] = ()
    """Begins of the occurrences whose devices were given back early."""
    by: str = ""
    cancelled_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RequestRow:
    """A wish for more than one's limits; once approved a dated override of the policy."""

    id: str
    user: str
    wanted: Mapping[str, object]
    """Policy keys and their values."""
    created_at: datetime
    reason: str = ""
    until: datetime | None = None
    state: str = "asked"
    by: str = ""
    decided_at: datetime | None = None
    answer: str = ""


@dataclass(frozen=True)
class DocumentRow:
    """A document with an owner and a state."""

    id: str
    owner: str
    state: str
    created_at: datetime
    updated_at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildRow(DocumentRow):
    """A build of an environment."""

    environment: str = ""


@dataclass(frozen=True)
class EnvironmentRow(DocumentRow):
    """An environment and its recipe."""

    kind: str = ""


@dataclass(frozen=True)
class CourseRow(DocumentRow):
    """A course and what it gives."""


@dataclass(frozen=True)
class LogLine:
    """One line of a build's log."""

    seq: int
    text: str


@dataclass(frozen=True)
class PublicationRow:
    """An image that a course gave from a moment on."""

    id: int
    course: str
    image: str
    by: str
    at: datetime
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ShareRow:
    """An environment that a group may use."""

    environment: str
    group: str
    owner: str
    by: str
    at: datetime


@dataclass(frozen=True)
class EventRow:
    """One line of the event log."""

    id: int
    at: datetime
    topic: str
    action: str
    user: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FactRow:
    """A remembered value."""

    key: str
    value: Any
    updated_at: datetime


def many(kind: type[R], result: CursorResult[Any]) -> list[R]:
    """Every row of a result, as ``kind``."""
    return [_made(kind, found) for found in result.mappings()]


def one(kind: type[R], result: CursorResult[Any]) -> R | None:
    """The first row of a result, or None."""
    found = result.mappings().first()
    return None if found is None else _made(kind, found)


def _made(kind: type[R], columns: Mapping[Any, Any]) -> R:
    return kind(**{str(k): tuple(v) if isinstance(v, list) else v for k, v in columns.items()})

"""Rows of the store for tests that have none: each says what it is about, the rest is filled in."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from ds01spawner.store.rows import (
    BlockRow,
    CourseRow,
    NoticeRow,
    RequestRow,
    ReservationRow,
    SessionRow,
    TicketRow,
)

WHEN = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)


def ticket(**said: Any) -> TicketRow:
    """A place in the queue."""
    return TicketRow(**{"id": "t", "user": "ann", "arrived": WHEN, **said})


def course(id: str = "nlp", owner: str = "prof", state: str = "published", **data: Any) -> CourseRow:
    """A course with its document."""
    return CourseRow(id, owner, state, WHEN, WHEN, data)


def block(**said: Any) -> BlockRow:
    """What stands against a device."""
    return BlockRow(**{"id": 1, "kind": "drain", "uuid": "*", "created_at": WHEN, "starts_at": WHEN, **said})


def notice(**said: Any) -> NoticeRow:
    """A message."""
    return NoticeRow(**{"id": 1, "user": "ann", "text": "", "created_at": WHEN, **said})


def request(**said: Any) -> RequestRow:
    """A wish for more."""
    return RequestRow(**{"id": "r", "user": "ann", "wanted": {}, "created_at": WHEN, **said})


def reservation(**said: Any) -> ReservationRow:
    """Devices promised."""
    known = {"id": "r", "subject": "user:ann", "starts_at": WHEN, "ends_at": WHEN, "created_at": WHEN}
    return ReservationRow(**{**known, **said})


def session(**said: Any) -> SessionRow:
    """A session of the history."""
    return SessionRow(**{"session": "s", "user": "ann", "started_at": WHEN, "seen_at": WHEN, **said})

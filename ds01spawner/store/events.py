"""The event log: what happened, in order, each line valid against a shipped `jupyter_events` schema.

The store is the log. `EventStream` publishes its lines through `jupyter_events`, so that a site's own
handlers get them; it remembers how far it came, and repeats a line rather than losing one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import cache
from importlib import resources
from typing import Any

import yaml
from sqlalchemy import Connection, select

from . import models as t
from .db import Facts, Part
from .rows import EventRow, many

TOPICS = ("session", "ticket", "device", "reservation", "request", "build", "environment", "course", "site")


@cache
def schema(topic: str) -> Mapping[str, Any]:
    """The shipped schema of a topic; ``ValueError`` when there is none."""
    if topic not in TOPICS:
        raise ValueError(f"no such event topic: {topic}")
    text = (resources.files(__package__) / "schemas" / f"{topic}.yaml").read_text()
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


def check(topic: str, action: str, fields: Iterable[str]) -> None:
    """Refuse an event that its schema does not know: a programming error, found where it is made."""
    properties = schema(topic)["properties"]
    if action not in properties["action"]["enum"]:
        raise ValueError(f"event {topic} has no action {action!r}")
    unknown = sorted(set(fields) - set(properties))
    if unknown:
        raise ValueError(f"event {topic} has no field {', '.join(unknown)}")


def append_event(c: Connection, at: datetime, topic: str, action: str, *, user: str = "", **data: Any) -> int:
    """Write an event inside a transaction that changes what it tells of. Empty fields are left out."""
    check(topic, action, (*data, "user"))
    kept = {k: v for k, v in data.items() if v not in ("", None, [], {})}
    values = {"at": at, "topic": topic, "action": action, "user": user, "data": kept}
    number = c.execute(t.events.insert().values(**values)).inserted_primary_key
    assert number is not None
    return int(number[0])


def as_json(event: EventRow) -> dict[str, object]:
    """One event as the flat JSON object that the schemas describe."""
    at = event.at.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    flat = {"id": event.id, "at": at, "action": event.action, **event.data}
    return flat | ({"user": event.user} if event.user else {})


class Events(Part):
    """Append and follow."""

    def add(self, at: datetime, topic: str, action: str, *, user: str = "", **data: Any) -> int:
        """Write one event and return its number; ``ValueError`` when its schema does not know it."""
        with self.db.write() as c:
            return append_event(c, at, topic, action, user=user, **data)

    def find(
        self,
        after: int = 0,
        *,
        topic: str | None = None,
        user: str | None = None,
        since: datetime | None = None,
        limit: int = 500,
        latest: bool = False,
    ) -> list[EventRow]:
        """Events with a number above ``after``, oldest first; ``latest`` takes the last ``limit`` of them."""
        e = t.events
        query = select(e).where(e.c.id > after).limit(limit)
        query = query.order_by(e.c.id.desc() if latest else e.c.id)
        if topic is not None:
            query = query.where(e.c.topic == topic)
        if user is not None:
            query = query.where(e.c.user == user)
        if since is not None:
            query = query.where(e.c.at >= since)
        with self.db.read() as c:
            found = many(EventRow, c.execute(query))
        return found[::-1] if latest else found

    def prune(self, before: datetime) -> int:
        """Delete events older than ``before``; returns how many."""
        with self.db.write() as c:
            return int(c.execute(t.events.delete().where(t.events.c.at < before)).rowcount)


class EventStream:
    """Publishes the store's events through a `jupyter_events` logger, each at least once and in order."""

    CURSOR = "events.published"

    def __init__(self, events: Events, facts: Facts, logger: Any) -> None:
        """``logger`` is a ``jupyter_events.EventLogger``; the schemas are registered on it here."""
        self.events, self.facts, self.logger = events, facts, logger
        for topic in TOPICS:
            if schema(topic)["$id"] not in logger.schemas:
                logger.register_event_schema(schema(topic))

    def publish(self, now: datetime) -> int:
        """Emit what is new since the last call, also of an earlier process; returns how many."""
        cursor = int(self.facts.get(self.CURSOR, 0))
        found = self.events.find(cursor)
        for event in found:
            self.logger.emit(schema_id=schema(event.topic)["$id"], data=as_json(event))
        if found:
            self.facts.set(self.CURSOR, found[-1].id, now)
        return len(found)

"""Session history: each session as it began and ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, select

from . import models as t
from .db import Part
from .events import append_event
from .rows import FactRow, SessionRow, many, one
from .session_record import SessionRecord

NOTE_AHEAD = "note:"


class Sessions(Part):
    """Sessions as they began and ended. Every call may be repeated without harm."""

    def started(self, record: SessionRecord) -> bool:
        """Write a session's begin; False when it was known already."""
        with self.db.write() as c:
            return start_session(c, record)

    def get(self, session: str) -> SessionRow | None:
        """One session's record, or None."""
        with self.db.read() as c:
            return one(SessionRow, c.execute(select(t.sessions).where(t.sessions.c.session == session)))

    def find(
        self, user: str | None = None, running: bool | None = None, limit: int = 100
    ) -> list[SessionRow]:
        """Sessions, newest first."""
        s = t.sessions
        query = select(s).order_by(s.c.started_at.desc(), s.c.session).limit(limit)
        if user is not None:
            query = query.where(s.c.user == user)
        if running is not None:
            query = query.where(s.c.ended_at.is_(None) if running else s.c.ended_at.is_not(None))
        with self.db.read() as c:
            return many(SessionRow, c.execute(query))

    def running(self, user: str, server: str) -> SessionRow | None:
        """The session of a server that history has no end of, the latest begun."""
        s = t.sessions
        query = select(s).where(s.c.user == user, s.c.server == server, s.c.ended_at.is_(None))
        with self.db.read() as c:
            return one(SessionRow, c.execute(query.order_by(s.c.started_at.desc()).limit(1)))


def start_session(c: Connection, record: SessionRecord) -> bool:
    """Write a session's begin in this transaction; False when it was known already."""
    s = t.sessions
    known = one(SessionRow, c.execute(select(s).where(s.c.session == record.session)))
    if known is not None:
        if known.ended_at is None and known.gpu_uuids != record.gpu_uuids:
            # A start that failed on one device goes on with another.
            values = {"gpu_uuids": list(record.gpu_uuids), "profile": record.profile}
            c.execute(
                s.update()
                .where(s.c.session == record.session)
                .values(**values, equivalents=record.equivalents)
            )
        return False
    values = {**asdict(record), "groups": list(record.groups), "gpu_uuids": list(record.gpu_uuids)}
    c.execute(s.insert().values(**values, seen_at=record.started_at))
    _take_note(c, record)
    append_event(
        c,
        record.started_at,
        "session",
        "started",
        user=record.user,
        server=record.server,
        session=record.session,
        project=record.project,
        environment=record.environment,
        image=record.image,
        devices=list(record.gpu_uuids),
        profile=record.profile,
    )
    return True


def note_ahead(c: Connection, session: str, note: Mapping[str, str], now: datetime) -> None:
    """Keep a decision about a session that history does not know yet."""
    key = f"{NOTE_AHEAD}{session}"
    c.execute(t.facts.delete().where(t.facts.c.key == key))
    c.execute(t.facts.insert().values(key=key, value=note, updated_at=now))


def _take_note(c: Connection, record: SessionRecord) -> None:
    key = f"{NOTE_AHEAD}{record.session}"
    kept = one(FactRow, c.execute(select(t.facts).where(t.facts.c.key == key)))
    if kept is None:
        return
    note = kept.value
    values = {
        "retiring_at": datetime.fromisoformat(note["at"]),
        "reason": note["reason"],
        "kind": note["kind"],
        "data": {**record.data, "note": {"by": note["by"]}},
    }
    c.execute(t.sessions.update().where(t.sessions.c.session == record.session).values(**values))
    c.execute(t.facts.delete().where(t.facts.c.key == key))

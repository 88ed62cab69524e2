"""Session history and what it adds up to: GPU-hours by user, group, course and project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, and_, or_, select

from ..core.labels import SessionLabels
from . import models as t
from .accounting import Interval, decayed_hours, overlap_hours
from .db import Part, row, rows
from .events import append_event

By = Literal["user", "group", "course", "project"]


@dataclass(frozen=True)
class SessionRecord:
    """What history keeps of a session from its start."""

    session: str
    user: str
    started_at: datetime
    server: str = ""
    project: str = ""
    hub: str = ""
    environment: str = ""
    image: str = ""
    course: str = ""
    groups: tuple[str, ...] = ()
    gpu_uuids: tuple[str, ...] = ()
    profile: str = ""
    """GPU profile held, such as ``1g.10gb``; empty for a CPU session."""
    equivalents: float = 0.0
    cpus: float = 0.0
    memory: int = 0
    """Memory limit in bytes, 0 when unlimited or unknown."""
    preemptible: bool = False
    expires_at: datetime | None = None
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_labels(
        cls,
        labels: SessionLabels,
        started_at: datetime,
        groups: Iterable[str] = (),
    ) -> SessionRecord:
        """A record from a container's labels; ``started_at`` is used where the label has no time.

        ``groups`` are all of its owner's, where they are known: the label may hold fewer.
        """
        limits = _limits(labels.limits)
        return cls(
            session=labels.session,
            user=labels.user,
            server=labels.server,
            project=labels.project,
            hub=labels.hub,
            environment=labels.environment,
            image=labels.image,
            course=labels.course,
            groups=tuple(groups) or labels.groups,
            gpu_uuids=labels.gpu_uuids,
            profile=labels.profile,
            equivalents=labels.gpu_equivalents,
            cpus=_number(limits.get("cpus")),
            memory=int(_number(limits.get("memory"))),
            preemptible=labels.preemptible,
            started_at=_time(labels.created_at) or started_at,
            expires_at=_time(labels.expires_at),
        )


def _limits(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else None


class Sessions(Part):
    """Sessions as they began and ended. Every call may be repeated without harm."""

    def started(self, record: SessionRecord) -> bool:
        """Write a session's begin; False when it was known already."""
        with self.db.write() as c:
            return start_session(c, record)

    def get(self, session: str) -> dict[str, Any] | None:
        """One session's record, or None."""
        with self.db.read() as c:
            return row(c.execute(select(t.sessions).where(t.sessions.c.session == session)))

    def find(
        self, user: str | None = None, running: bool | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Sessions, newest first."""
        s = t.sessions
        query = select(s).order_by(s.c.started_at.desc(), s.c.session).limit(limit)
        if user is not None:
            query = query.where(s.c.user == user)
        if running is not None:
            query = query.where(s.c.ended_at.is_(None) if running else s.c.ended_at.is_not(None))
        with self.db.read() as c:
            return rows(c.execute(query))

    def running(self, user: str, server: str) -> dict[str, Any] | None:
        """The session of a server that history has no end of, the latest begun."""
        s = t.sessions
        query = select(s).where(s.c.user == user, s.c.server == server, s.c.ended_at.is_(None))
        with self.db.read() as c:
            return row(c.execute(query.order_by(s.c.started_at.desc()).limit(1)))


class Usage(Part):
    """What the sessions add up to."""

    def gpu_hours(self, user: str, since: datetime, now: datetime) -> float:
        """GPU-equivalent hours of ``user`` in the window, running sessions included up to ``now``."""
        return _total(self._overlapping(since, now, user=user), since, now)

    def gpu_uses(self, user: str, since: datetime, now: datetime) -> list[tuple[Interval, float]]:
        """Each session's interval and GPU-equivalents of ``user`` in the window."""
        return [(_interval(r), r["equivalents"]) for r in self._overlapping(since, now, user=user)]

    def gpu_hours_group(self, group: str, since: datetime, now: datetime) -> float:
        """GPU-equivalent hours of everybody whose session counted for ``group`` in the window."""
        return _total((r for r in self._overlapping(since, now) if group in r["groups"]), since, now)

    def gpu_hours_course(self, course: str, since: datetime, now: datetime) -> float:
        """GPU-equivalent hours of a course's sessions in the window."""
        return _total((r for r in self._overlapping(since, now) if r["course"] == course), since, now)

    def gpu_hours_project(self, user: str, project: str, since: datetime, now: datetime) -> float:
        """GPU-equivalent hours of one person's project in the window."""
        found = self._overlapping(since, now, user=user)
        return _total((r for r in found if r["project"] == project), since, now)

    def by(self, by: By, since: datetime, now: datetime, user: str | None = None) -> list[dict[str, Any]]:
        """Accounting rows ``{key, sessions, running, session_hours, cpu_hours, gpu_hours}``, most GPU first.

        A session of somebody in two groups counts for each of them, so groups do not add up to the total.
        ``user`` takes only that person's sessions.
        """
        totals: dict[str, dict[str, Any]] = {}
        for r in self._overlapping(since, now, user=user):
            hours = overlap_hours(_interval(r), since, now)
            for key in _keys(by, r):
                line = totals.setdefault(key, dict.fromkeys(_USAGE, 0))
                line["sessions"] += 1
                line["running"] += r["ended_at"] is None
                line["session_hours"] += hours
                line["cpu_hours"] += hours * r["cpus"]
                line["gpu_hours"] += hours * r["equivalents"]
        ordered = sorted(totals.items(), key=lambda kv: (-kv[1]["gpu_hours"], kv[0]))
        return [{"key": k, **{n: round(v, 4) for n, v in line.items()}} for k, line in ordered]

    def decayed(self, now: datetime, half_life: timedelta) -> tuple[dict[str, float], dict[str, float]]:
        """Decayed GPU-hours by user, and by group and ``course:…``, which fair share compares.

        Ten half-lives back.
        """
        users: dict[str, float] = {}
        groups: dict[str, float] = {}
        for r in self._overlapping(now - 10 * half_life, now):
            hours = decayed_hours(_interval(r), now, half_life) * r["equivalents"]
            users[r["user"]] = users.get(r["user"], 0.0) + hours
            for group in (*r["groups"], *([f"course:{r['course']}"] if r["course"] else ())):
                groups[group] = groups.get(group, 0.0) + hours
        return users, groups

    def durations(self, now: datetime, limit: int = 2000) -> list[dict[str, Any]]:
        """The latest ended sessions' ``{profile, course, groups, hours}``: the basis of estimates."""
        s = t.sessions
        query = select(s).where(s.c.ended_at.is_not(None), s.c.ended_at <= now, s.c.kind.not_in(NO_DURATION))
        with self.db.read() as c:
            found = rows(c.execute(query.order_by(s.c.ended_at.desc()).limit(limit)))
        return [
            {
                "profile": r["profile"],
                "course": r["course"],
                "groups": tuple(r["groups"]),
                "hours": overlap_hours(_interval(r), r["started_at"], r["ended_at"]),
            }
            for r in found
        ]

    def _overlapping(
        self, since: datetime, now: datetime, user: str | None = None
    ) -> Sequence[dict[str, Any]]:
        s = t.sessions
        query = select(s).where(and_(s.c.started_at < now, or_(s.c.ended_at.is_(None), s.c.ended_at > since)))
        if user is not None:
            query = query.where(s.c.user == user)
        with self.db.read() as c:
            return rows(c.execute(query))


NO_DURATION = ("lost", "failed", "refused", "cancelled", "leftover")
"""Kinds of ends that say nothing about how long people work."""
NOTE_AHEAD = "note:"
_USAGE = ("sessions", "running", "session_hours", "cpu_hours", "gpu_hours")


def _keys(by: By, r: dict[str, Any]) -> list[str]:
    if by == "group":
        return list(dict.fromkeys(r["groups"])) or ["(no group)"]
    if by == "course":
        return [r["course"] or "(no course)"]
    return [f"{r['user']}/{r['project']}" if by == "project" else r["user"]]


def _interval(r: dict[str, Any]) -> Interval:
    return r["started_at"], r["ended_at"]


def _total(found: Iterable[dict[str, Any]], since: datetime, now: datetime) -> float:
    return sum(overlap_hours(_interval(r), since, now) * float(r["equivalents"]) for r in found)


def start_session(c: Connection, record: SessionRecord) -> bool:
    """Write a session's begin in this transaction; False when it was known already."""
    s = t.sessions
    known = row(c.execute(select(s).where(s.c.session == record.session)))
    if known is not None:
        if known["ended_at"] is None and known["gpu_uuids"] != list(record.gpu_uuids):
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


def note_ahead(c: Connection, session: str, note: dict[str, Any], now: datetime) -> None:
    """Keep a decision about a session that history does not know yet."""
    key = f"{NOTE_AHEAD}{session}"
    c.execute(t.facts.delete().where(t.facts.c.key == key))
    c.execute(t.facts.insert().values(key=key, value=note, updated_at=now))


def _take_note(c: Connection, record: SessionRecord) -> None:
    key = f"{NOTE_AHEAD}{record.session}"
    kept = row(c.execute(select(t.facts).where(t.facts.c.key == key)))
    if kept is None:
        return
    note = kept["value"]
    values = {
        "retiring_at": datetime.fromisoformat(note["at"]),
        "reason": note["reason"],
        "kind": note["kind"],
        "data": {**record.data, "note": {"by": note["by"]}},
    }
    c.execute(t.sessions.update().where(t.sessions.c.session == record.session).values(**values))
    c.execute(t.facts.delete().where(t.facts.c.key == key))

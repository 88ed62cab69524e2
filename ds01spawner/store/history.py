"""Session history and what it adds up to: GPU-hours by user, group, course and project."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Connection, and_, or_, select

from ..labels import SessionLabels
from . import models as t
from .accounting import Interval, decayed_hours, overlap_hours
from .db import Part, row, rows
from .events import append_event

By = Literal["user", "group", "course", "project"]
RETIRE_NOTE_SECONDS = 600
"""How long a reason noted before a retire explains the end that follows."""
RECONCILE_GRACE_SECONDS = 30
"""A session younger than this may be missing from a list that was read before it began."""


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
        course: str = "",
        profile: str = "",
    ) -> SessionRecord:
        """A record from a container's labels; ``started_at`` is used where the label has no time."""
        limits = _limits(labels.limits)
        return cls(
            session=labels.session,
            user=labels.user,
            server=labels.server,
            project=labels.project,
            hub=labels.hub,
            environment=labels.environment,
            image=labels.image,
            course=course,
            groups=tuple(groups),
            gpu_uuids=labels.gpu_uuids,
            profile=profile,
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


class History(Part):
    """Sessions as they began and ended. Every call may be repeated without harm."""

    def session_started(self, record: SessionRecord) -> bool:
        """Write a session's begin; False when it was known already."""
        with self.db.write() as c:
            return _start(c, record)

    def session_retiring(
        self, session: str, at: datetime, reason: str, kind: str, data: dict[str, Any] | None = None
    ) -> None:
        """Note why a session is about to be retired, so that the end which follows carries the reason.

        ``data`` holds the measured signals. The note counts for `RETIRE_NOTE_SECONDS`; a retire that did
        not happen leaves no false explanation of a later end.
        """
        s = t.sessions
        with self.db.write() as c:
            known = row(c.execute(select(s.c.data).where(s.c.session == session)))
            if known is not None:
                merged = {**known["data"], **({"retire": data} if data else {})}
                values = {"retiring_at": at, "reason": reason, "kind": kind, "data": merged}
                c.execute(s.update().where(s.c.session == session, s.c.ended_at.is_(None)).values(**values))

    def session_ended(self, session: str, at: datetime, reason: str = "", kind: str = "stopped") -> bool:
        """Write a session's end; False when it is unknown or had ended. A noted reason is kept."""
        with self.db.write() as c:
            return _end(c, session, at, reason, kind)

    def reconcile_sessions(self, present: Iterable[SessionRecord], now: datetime) -> dict[str, list[str]]:
        """Make history agree with the engine: ``present`` is every session it listed at ``now``.

        Open sessions that are gone end at the time they were last seen; unknown ones are added. Returns
        the ids ``{"added", "reopened", "closed"}``. Never call this with a list from a failed engine call.
        """
        found = {r.session: r for r in present}
        s = t.sessions
        report: dict[str, list[str]] = {"added": [], "reopened": [], "closed": []}
        with self.db.write() as c:
            known = {r["session"]: r for r in rows(c.execute(select(s).where(s.c.session.in_(found))))}
            for session, record in found.items():
                if session not in known:
                    _start(c, record)
                    report["added"].append(session)
                elif known[session]["ended_at"] is not None and known[session]["kind"] == "lost":
                    c.execute(
                        s.update()
                        .where(s.c.session == session)
                        .values(ended_at=None, kind="", reason="", retiring_at=None)
                    )
                    report["reopened"].append(session)
            c.execute(s.update().where(s.c.session.in_(found), s.c.ended_at.is_(None)).values(seen_at=now))
            old = now - timedelta(seconds=RECONCILE_GRACE_SECONDS)
            gone = select(s.c.session, s.c.seen_at).where(s.c.ended_at.is_(None), s.c.started_at < old)
            for r in rows(c.execute(gone.where(s.c.session.not_in(found)))):
                _end(
                    c,
                    r["session"],
                    r["seen_at"],
                    "the container was gone when it was next looked for",
                    "lost",
                )
                report["closed"].append(r["session"])
        return report

    def session(self, session: str) -> dict[str, Any] | None:
        """One session's record, or None."""
        with self.db.read() as c:
            return row(c.execute(select(t.sessions).where(t.sessions.c.session == session)))

    def sessions(
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

    def last_ended(self, user: str, server: str | None = None) -> dict[str, Any] | None:
        """The session of ``user`` that ended last (on ``server``): what "why was I retired" shows."""
        s = t.sessions
        query = select(s).where(s.c.user == user, s.c.ended_at.is_not(None)).order_by(s.c.ended_at.desc())
        if server is not None:
            query = query.where(s.c.server == server)
        with self.db.read() as c:
            return row(c.execute(query.limit(1)))

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

    def usage(self, by: By, since: datetime, now: datetime, user: str | None = None) -> list[dict[str, Any]]:
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

    def decayed_usage(self, now: datetime, half_life: timedelta) -> tuple[dict[str, float], dict[str, float]]:
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
        query = select(s).where(s.c.ended_at.is_not(None), s.c.ended_at <= now, s.c.kind != "lost")
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


def _start(c: Connection, record: SessionRecord) -> bool:
    s = t.sessions
    if row(c.execute(select(s.c.session).where(s.c.session == record.session))):
        return False
    values = {**asdict(record), "groups": list(record.groups), "gpu_uuids": list(record.gpu_uuids)}
    c.execute(s.insert().values(**values, seen_at=record.started_at))
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


def _end(c: Connection, session: str, at: datetime, reason: str, kind: str) -> bool:
    s = t.sessions
    known = row(c.execute(select(s).where(s.c.session == session)))
    if known is None or known["ended_at"] is not None:
        return False
    noted = known["retiring_at"]
    if noted is not None and at - noted <= timedelta(seconds=RETIRE_NOTE_SECONDS) and kind != "lost":
        reason, kind = known["reason"], known["kind"]
    at = max(at, known["started_at"])
    c.execute(s.update().where(s.c.session == session).values(ended_at=at, reason=reason, kind=kind))
    append_event(
        c,
        at,
        "session",
        "ended",
        user=known["user"],
        server=known["server"],
        session=session,
        project=known["project"],
        reason=reason,
        kind=kind,
        devices=list(known["gpu_uuids"]),
    )
    return True

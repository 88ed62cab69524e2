"""What the sessions add up to: GPU-hours by user, group, course and project."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import and_, or_, select

from . import models as t
from .accounting import Interval, decayed_hours, overlap_hours
from .db import Part
from .rows import SessionRow, many

By = Literal["user", "group", "course", "project"]
NO_DURATION = ("lost", "failed", "refused", "cancelled", "leftover")
"""Kinds of ends that say nothing about how long people work."""


@dataclass(frozen=True)
class UsageRow:
    """What one user, group, course or project used."""

    key: str
    sessions: int = 0
    running: int = 0
    session_hours: float = 0.0
    cpu_hours: float = 0.0
    gpu_hours: float = 0.0


@dataclass(frozen=True)
class Length:
    """How long a session that ended was, and what for: the basis of estimates."""

    profile: str
    course: str
    groups: tuple[str, ...]
    hours: float


class Usage(Part):
    """Sums over sessions; a running one counts up to now."""

    def gpu_hours(self, user: str, since: datetime, now: datetime) -> float:
        """GPU-equivalent hours of ``user`` in the window."""
        found = self._overlapping(since, now, user=user)
        return sum(overlap_hours(_interval(r), since, now) * r.equivalents for r in found)

    def gpu_uses(self, user: str, since: datetime, now: datetime) -> list[tuple[Interval, float]]:
        """Each session's interval and GPU-equivalents of ``user`` in the window."""
        return [(_interval(r), r.equivalents) for r in self._overlapping(since, now, user=user)]

    def by(self, by: By, since: datetime, now: datetime, user: str | None = None) -> list[UsageRow]:
        """Accounting rows, most GPU-hours first.

        A session of a person in two groups counts for each of them, so groups do not add up to the total.
        ``user`` takes only that person's sessions.
        """
        sums: dict[str, list[float]] = {}
        for r in self._overlapping(since, now, user=user):
            hours = overlap_hours(_interval(r), since, now)
            used = (1, r.ended_at is None, hours, hours * r.cpus, hours * r.equivalents)
            for key in _keys(by, r):
                sums[key] = [a + b for a, b in zip(sums.get(key, [0] * len(used)), used, strict=True)]
        ordered = sorted(sums.items(), key=lambda kv: (-kv[1][-1], kv[0]))
        return [
            UsageRow(key, int(sessions), int(running), round(hours, 4), round(cpu, 4), round(gpu, 4))
            for key, (sessions, running, hours, cpu, gpu) in ordered
        ]

    def decayed(self, now: datetime, half_life: timedelta) -> tuple[dict[str, float], dict[str, float]]:
        """Decayed GPU-hours by user, and by group and ``course:…``, which fair share compares.

        Ten half-lives back.
        """
        users: dict[str, float] = {}
        groups: dict[str, float] = {}
        for r in self._overlapping(now - 10 * half_life, now):
            hours = decayed_hours(_interval(r), now, half_life) * r.equivalents
            users[r.user] = users.get(r.user, 0.0) + hours
            for group in (*r.groups, *([f"course:{r.course}"] if r.course else ())):
                groups[group] = groups.get(group, 0.0) + hours
        return users, groups

    def lengths(self, now: datetime, limit: int = 2000) -> list[Length]:
        """How long the sessions that ended last were."""
        s = t.sessions
        query = select(s).where(s.c.ended_at.is_not(None), s.c.ended_at <= now, s.c.kind.not_in(NO_DURATION))
        with self.db.read() as c:
            found = many(SessionRow, c.execute(query.order_by(s.c.ended_at.desc()).limit(limit)))
        return [
            Length(r.profile, r.course, r.groups, overlap_hours(_interval(r), r.started_at, now))
            for r in found
        ]

    def _overlapping(self, since: datetime, now: datetime, user: str | None = None) -> Sequence[SessionRow]:
        s = t.sessions
        query = select(s).where(and_(s.c.started_at < now, or_(s.c.ended_at.is_(None), s.c.ended_at > since)))
        if user is not None:
            query = query.where(s.c.user == user)
        with self.db.read() as c:
            return many(SessionRow, c.execute(query))


def _keys(by: By, r: SessionRow) -> list[str]:
    if by == "group":
        return list(dict.fromkeys(r.groups)) or ["(no group)"]
    if by == "course":
        return [r.course or "(no course)"]
    return [f"{r.user}/{r.project}" if by == "project" else r.user]


def _interval(r: SessionRow) -> Interval:
    return r.started_at, r.ended_at

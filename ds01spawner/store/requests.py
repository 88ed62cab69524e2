"""Requests for more than one's limits, and the dated overrides that approval makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import func, or_, select

from . import models as t
from .db import Part
from .events import append_event
from .rows import RequestRow, many, one

DAY = timedelta(days=1)


class Requests(Part):
    """asked → approved, denied or withdrawn; each change is an event."""

    def add(
        self,
        user: str,
        wanted: Mapping[str, object],
        reason: str,
        now: datetime,
        until: datetime | None = None,
        admit: Callable[[int, int], None] = lambda open_, day: None,
    ) -> str:
        """Ask for the policy values ``wanted`` until ``until``; returns the request's id.

        ``admit`` raises where one more is too many: it gets the user's open requests and those of the last
        24 hours, counted in the transaction that writes.
        """
        number = uuid4().hex[:12]
        values = {"id": number, "user": user, "wanted": wanted, "reason": reason, "until": until}
        q = t.requests
        with self.db.write() as c:
            theirs = select(func.count()).select_from(q).where(q.c.user == user)
            waiting = c.execute(theirs.where(q.c.state == "asked")).scalar_one()
            admit(waiting, c.execute(theirs.where(q.c.created_at > now - DAY)).scalar_one())
            c.execute(q.insert().values(**values, state="asked", created_at=now))
            append_event(
                c,
                now,
                "request",
                "asked",
                user=user,
                request=number,
                wanted=wanted,
                reason=reason,
                until=_iso(until),
            )
        return number

    def find(self, user: str | None = None, state: str | None = None) -> list[RequestRow]:
        """Requests, newest first."""
        q = t.requests
        query = select(q).order_by(q.c.created_at.desc(), q.c.id)
        if user is not None:
            query = query.where(q.c.user == user)
        if state is not None:
            query = query.where(q.c.state == state)
        with self.db.read() as c:
            return many(RequestRow, c.execute(query))

    def decide(
        self,
        number: str,
        state: str,
        by: str,
        now: datetime,
        *,
        answer: str = "",
        wanted: Mapping[str, object] | None = None,
        until: datetime | None = None,
    ) -> bool:
        """Answer an open request with ``approved``, ``denied`` or ``withdrawn``; False when it is not open.

        The approver may grant less (``wanted``) or for another time (``until``).
        """
        if state not in ("approved", "denied", "withdrawn"):
            raise ValueError(f"a request cannot become {state!r}")
        q = t.requests
        with self.db.write() as c:
            known = one(RequestRow, c.execute(select(q).where(q.c.id == number, q.c.state == "asked")))
            if known is None:
                return False
            change = q.update().where(q.c.id == number)
            change = change.values(state=state, by=by, decided_at=now, answer=answer)
            if wanted is not None:
                change = change.values(wanted=wanted)
            if until is not None:
                change = change.values(until=until)
            c.execute(change)
            append_event(
                c, now, "request", state, user=known.user, by=by, request=number, reason=answer,
                wanted=wanted or known.wanted, until=_iso(until or known.until),
            )  # fmt: skip
            return True

    def overrides(self, now: datetime, user: str | None = None) -> list[RequestRow]:
        """Approved requests in force at ``now``, oldest first: dated overrides for the policy."""
        q = t.requests
        live = or_(q.c.until.is_(None), q.c.until > now)
        query = select(q).where(q.c.state == "approved", live).order_by(q.c.decided_at, q.c.id)
        if user is not None:
            query = query.where(q.c.user == user)
        with self.db.read() as c:
            return many(RequestRow, c.execute(query))


def _iso(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds")

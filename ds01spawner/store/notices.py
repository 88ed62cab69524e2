"""Notices to people, and the audit of every extension a session was given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import and_, func, or_, select

from . import models as t
from .db import Part
from .events import append_event
from .rows import ExtensionRow, NoticeRow, many, one

EVERYBODY = "*"


class Notices(Part):
    """Messages to a session's owner or to everybody; each person sees and dismisses for themselves."""

    def add(
        self,
        user: str,
        text: str,
        now: datetime,
        *,
        kind: str = "info",
        level: str = "info",
        server: str = "",
        session: str = "",
        expires_at: datetime | None = None,
        key: str | None = None,
        data: Mapping[str, object] | None = None,
    ) -> int:
        """Write a notice to ``user`` (or `EVERYBODY`) and return its number.

        ``level`` is ``info``, ``warning`` or ``danger``. With a ``key`` the same notice is written once:
        a second call returns the first number, so a loop may repeat itself after a crash.
        """
        n = t.notices
        with self.db.write() as c:
            if key is not None:
                known = c.execute(select(n.c.id).where(n.c.key == key)).scalar()
                if known is not None:
                    return int(known)
            values = {
                "user": user,
                "text": text,
                "created_at": now,
                "kind": kind,
                "level": level,
                "server": server,
                "session": session,
                "expires_at": expires_at,
                "key": key,
                "data": data or {},
            }
            number = c.execute(n.insert().values(**values)).inserted_primary_key
            assert number is not None
            return int(number[0])

    def of(self, user: str, now: datetime, dismissed: bool = False) -> list[NoticeRow]:
        """What ``user`` should see now, newest first, with ``seen_at`` and ``dismissed_at``."""
        n, m = t.notices, t.notice_marks
        query = (
            select(n, m.c.seen_at, m.c.dismissed_at)
            .select_from(n.outerjoin(m, and_(m.c.notice == n.c.id, m.c.user == user)))
            .where(n.c.user.in_((user, EVERYBODY)), or_(n.c.expires_at.is_(None), n.c.expires_at > now))
            .order_by(n.c.created_at.desc(), n.c.id.desc())
        )
        if not dismissed:
            query = query.where(m.c.dismissed_at.is_(None))
        with self.db.read() as c:
            return many(NoticeRow, c.execute(query))

    def by_key(self, key: str) -> NoticeRow | None:
        """The notice written with ``key``, or None: how a warning is found again after a restart."""
        with self.db.read() as c:
            return one(NoticeRow, c.execute(select(t.notices).where(t.notices.c.key == key)))

    def see(self, number: int, user: str, at: datetime) -> bool:
        """Mark as shown to ``user``, the first time only; False when it is not theirs."""
        return self._mark(number, user, "seen_at", at)

    def dismiss(self, number: int, user: str, at: datetime) -> bool:
        """Never show it to ``user`` again; False when it is not theirs."""
        return self._mark(number, user, "dismissed_at", at)

    def expire(self, key: str, now: datetime) -> None:
        """End the notice written with ``key``: what it warned of is no longer so."""
        n = t.notices
        live = or_(n.c.expires_at.is_(None), n.c.expires_at > now)
        with self.db.write() as c:
            c.execute(n.update().where(n.c.key == key, live).values(expires_at=now))

    def expire_sessions(self, sessions: Iterable[str], now: datetime) -> None:
        """End every notice about sessions that are over."""
        n, gone = t.notices, list(sessions)
        live = or_(n.c.expires_at.is_(None), n.c.expires_at > now)
        if gone:
            with self.db.write() as c:
                c.execute(n.update().where(n.c.session.in_(gone), live).values(expires_at=now))

    def delete(self, key: str) -> None:
        """Remove the notice written with ``key``, so that the same key may warn afresh."""
        with self.db.write() as c:
            c.execute(t.notices.delete().where(t.notices.c.key == key))

    def _mark(self, number: int, user: str, column: str, at: datetime) -> bool:
        n, m = t.notices, t.notice_marks
        with self.db.write() as c:
            theirs = select(n.c.id).where(n.c.id == number, n.c.user.in_((user, EVERYBODY)))
            if c.execute(theirs).scalar() is None:
                return False
            mine = and_(m.c.notice == number, m.c.user == user)
            if c.execute(select(m.c.notice).where(mine)).first() is None:
                c.execute(m.insert().values(notice=number, user=user, **{column: at}))
            else:
                c.execute(m.update().where(mine, m.c[column].is_(None)).values(**{column: at}))
            return True


class Extensions(Part):
    """Every second of life a session was given beyond its idle time, and by whom."""

    def grant(
        self,
        session: str,
        user: str,
        now: datetime,
        seconds: int,
        *,
        by: str,
        source: str,
        server: str = "",
        reason: str = "",
        cap_session: int | None = None,
        cap_day: int | None = None,
        day_start: datetime | None = None,
    ) -> int:
        """Grant up to ``seconds`` within what both caps leave, and return how many were granted.

        Asking and granting are one transaction, so that two clicks at once cannot pass a cap.
        ``cap_day`` counts all of ``user``'s sessions since ``day_start``.
        """
        e = t.extensions
        total = func.coalesce(func.sum(e.c.seconds), 0)
        with self.db.write() as c:
            granted = max(0, seconds)
            if cap_session is not None:
                used = c.execute(select(total).where(e.c.session == session)).scalar_one()
                granted = min(granted, max(0, cap_session - int(used)))
            if cap_day is not None and day_start is not None:
                used = c.execute(select(total).where(e.c.user == user, e.c.at >= day_start)).scalar_one()
                granted = min(granted, max(0, cap_day - int(used)))
            if granted:
                values = {"session": session, "user": user, "server": server, "seconds": granted}
                c.execute(e.insert().values(**values, by=by, source=source, reason=reason, at=now))
                append_event(
                    c,
                    now,
                    "session",
                    "extended",
                    user=user,
                    server=server,
                    session=session,
                    by=by,
                    reason=reason,
                    seconds=granted,
                    kind=source,
                )
            return granted

    def total(self, session: str) -> int:
        """Seconds granted to ``session`` so far."""
        return sum(r.seconds for r in self.find(session=session))

    def since(self, user: str, since: datetime) -> int:
        """Seconds granted to all sessions of ``user`` since ``since``."""
        return sum(r.seconds for r in self.find(user=user) if r.at >= since)

    def find(self, session: str | None = None, user: str | None = None) -> list[ExtensionRow]:
        """The audit, oldest first."""
        e = t.extensions
        query = select(e).order_by(e.c.id)
        if session is not None:
            query = query.where(e.c.session == session)
        if user is not None:
            query = query.where(e.c.user == user)
        with self.db.read() as c:
            return many(ExtensionRow, c.execute(query))

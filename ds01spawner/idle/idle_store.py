"""What the idle service reads from and writes to the store. Blocking; raises `StoreError`.

A store that does not answer stops a pass: without it nobody knows who was granted an extension, so nobody
is retired, and the time does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..core.errors import Refusal
from ..store import Store
from . import keepalive
from .keepalive import DAY, Extension, Grant, Used
from .model import Deadline, Decision, IdleRules, Session

ALL_DEVICES = "*"


@dataclass(frozen=True)
class Facts:
    """One pass's view of the store."""

    kept_until: dict[str, datetime] = field(default_factory=dict)
    """Session id to the end of its extensions."""
    deadlines: tuple[tuple[str, Deadline], ...] = ()
    """Maintenance: (device UUID or ``*``, deadline)."""
    waiting: int = 0

    def deadline(self, uuids: Iterable[str]) -> Deadline | None:
        """The first deadline that concerns a session holding ``uuids``."""
        mine = {ALL_DEVICES, "", *uuids}
        return min((d for uuid, d in self.deadlines if uuid in mine), key=lambda d: d.at, default=None)


class Book:
    """Extensions, deadlines, queue length, and the record of what happened."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store

    def facts(self, sessions: Iterable[str], now: datetime) -> Facts:
        """Everything a pass needs, in one go."""
        store = self._store()
        kept = {s: end for s in sessions if (end := self.kept_until(s)) is not None}
        deadlines = tuple(
            (m.uuid or ALL_DEVICES, Deadline(m.starts_at, m.reason, m.by))
            for m in store.blocks.maintenance(now)
        )
        waiting = sum(1 for ticket in store.tickets.find() if ticket.state == "waiting")
        return Facts(kept, deadlines, waiting)

    def kept_until(self, session: str) -> datetime | None:
        """Until when ``session`` was kept alive."""
        rows = self._store().extensions.find(session=session)
        return keepalive.until(Extension(r.at, r.seconds, r.by, r.source) for r in rows)

    def keep_alive(
        self,
        session: Session,
        rules: IdleRules,
        wanted: float,
        now: datetime,
        *,
        by: str,
        source: str,
        reason: str = "",
    ) -> Grant | Refusal:
        """Keep a session alive within its owner's caps, and book it. ``source`` is button, cli or file.

        Two requests at once cannot pass a cap: the store grants inside one transaction, and what it
        granted is what the answer tells.
        """
        store, caps = self._store(), rules.keep_alive
        since = now - timedelta(seconds=DAY)
        used = Used(store.extensions.total(session.id), store.extensions.since(session.user, since))
        current = self.kept_until(session.id)
        answer = keepalive.ask(now, wanted, caps, used, current, rules.source)
        if isinstance(answer, Refusal) or answer.seconds == 0:
            return answer
        granted = store.extensions.grant(
            session.id,
            session.user,
            now,
            answer.seconds,
            by=by,
            source=source,
            server=session.server,
            reason=reason,
            cap_session=int(caps.session),
            cap_day=int(caps.day),
            day_start=since,
        )
        if granted == answer.seconds:
            return answer
        used = Used(
            store.extensions.total(session.id) - granted,
            store.extensions.since(session.user, since) - granted,
        )
        return keepalive.ask(now, wanted, caps, used, current, rules.source)

    def retiring(self, session: Session, decision: Decision, now: datetime) -> None:
        """Record why a session is about to be retired, with the measured values, before it is."""
        kind = {"idle": "idle", "lifetime": "lifetime", "deadline": "admin"}[decision.cause or "idle"]
        data = {
            "idle_seconds": round(decision.idle_seconds),
            "limit": decision.limit,
            "grounds": {g.name: f"{g.verdict}: {g.measured}" for g in decision.why},
        }
        store = self._store()
        store.ends.retiring(session.id, now, decision.reason, kind, data)
        store.events.add(
            now,
            "session",
            "retiring",
            user=session.user,
            by="idle service",
            reason=decision.reason,
            data=data,
            server=session.server,
            session=session.id,
            project=session.project,
            kind=kind,
        )

    def over(self, sessions: Iterable[str], now: datetime) -> None:
        """Take the warnings of sessions that are gone from the pages."""
        self._store().notices.expire_sessions(sessions, now)

    def warned(self, session: Session, decision: Decision, now: datetime) -> None:
        """Record that a warning was given."""
        self._store().events.add(
            now,
            "session",
            "warned",
            user=session.user,
            by="idle service",
            reason=decision.reason,
            server=session.server,
            session=session.id,
            project=session.project,
            kind=decision.cause or "",
            until=decision.retire_at.isoformat() if decision.retire_at else "",
        )

"""How sessions end in history: decisions noted before, one record of the end, agreement with the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, not_, select

from ..core.ending import NOTE_COUNTS, TAIL_KEPT, Clock, Ended, decided, merged, rank, without_records
from ..messages import end_clauses as words
from . import models as t
from .db import MADE, REPLACED, Part
from .events import append_event
from .history import NOTE_AHEAD, note_ahead, start_session
from .rows import SessionRow, many, one
from .session_record import SessionRecord

REPLACED_NOTICED = timedelta(seconds=10)
"""A decision written just before a store was lost may be carried out so much after that was noticed."""
RECONCILE_GRACE_SECONDS = 30
"""A session younger than this may be missing from a list that was read before it began."""


CLOCK_WRONG = timedelta(minutes=10)
"""A begin that is so far from what the engine says was told by a wrong clock."""
OPEN = t.sessions.c.ended_at.is_(None)


class Ends(Part):
    """Every call may be repeated without harm, by any process and in any order."""

    def retiring(
        self,
        session: str,
        at: datetime,
        reason: str,
        kind: str,
        data: Mapping[str, object] | None = None,
        by: str = "",
    ) -> None:
        """Note why a session is about to be retired, so that the end which follows carries the reason.

        ``data`` holds the measured signals. A note that comes after the end explains it as well, where it
        was made before it.
        """
        note = Ended(session, at, kind, reason, by=by, since=at)
        with self.db.write() as c:
            known = _row(c, session)
            if known is None:  # kept until the reconciler adds it, or its end comes
                note_ahead(c, session, {"at": at.isoformat(), "reason": reason, "kind": kind, "by": by}, at)
                return
            if known.ended_at is not None:
                end = ended_of(known)
                assert end is not None
                _keep(c, known, end, decided(end, note))
                return
            before = _note_of(known)
            if before is not None and rank(kind) < rank(before.kind) and at - before.at <= NOTE_COUNTS:
                return  # the hub stops what another part had decided to end
            merged_data = {**known.data, "note": {"by": by}, **({"retire": data} if data else {})}
            values = {"retiring_at": at, "reason": reason, "kind": kind, "data": merged_data}
            c.execute(t.sessions.update().where(t.sessions.c.session == session).values(**values))

    def record(self, ended: Ended, record: SessionRecord | None = None) -> Ended | None:
        """Write how a session ended, or make the record better; returns what history says now.

        ``record`` is its begin, for a session that history does not know; None where both are unknown.
        """
        with self.db.write() as c:
            known = _row(c, ended.session)
            before = ended_of(known) if known else None
            if known is None or (before is not None and before.reason == words.WITH_FORMER_STORE):
                ended = _since_the_store_began(c, ended)
            if known is None and record is not None:
                start_session(c, record)
                known = _row(c, ended.session)
            if known is None:
                return None
            after = merged(before, ended)
            if before is None and (note := _note_of(known)) is not None:
                after = decided(after, note)
            return _keep(c, known, before, after)

    def still_open(self) -> list[str]:
        """The ids of all sessions that history has no end of."""
        with self.db.read() as c:
            return list(c.execute(select(t.sessions.c.session).where(OPEN)).scalars())

    def of(self, session: str) -> Ended | None:
        """How a session ended; None while it runs, or where it is not known."""
        with self.db.read() as c:
            known = _row(c, session)
        return ended_of(known) if known else None

    def last(self, user: str, server: str | None = None) -> SessionRow | None:
        """The session of ``user`` that ended last (on ``server``): what "why was I retired" shows."""
        s = t.sessions
        query = select(s).where(s.c.user == user, s.c.ended_at.is_not(None), s.c.kind != "cancelled")
        query = query.order_by(s.c.ended_at.desc())
        if server is not None:
            query = query.where(s.c.server == server)
        with self.db.read() as c:
            return one(SessionRow, c.execute(query.limit(1)))

    def prune_notes(self, before: datetime) -> int:
        """Forget decisions about sessions that history never learned of; returns how many."""
        f = t.facts
        old = f.delete().where(f.c.key.startswith(NOTE_AHEAD, autoescape=True), f.c.updated_at < before)
        with self.db.write() as c:
            return int(c.execute(old).rowcount)

    def by_kind(self) -> dict[str, int]:
        """How many sessions ended in which way, for metrics."""
        from sqlalchemy import func

        s = t.sessions
        query = select(s.c.kind, func.count()).where(s.c.ended_at.is_not(None)).group_by(s.c.kind)
        with self.db.read() as c:
            return {kind: int(count) for kind, count in c.execute(query)}

    def reconcile(
        self,
        present: Iterable[SessionRecord],
        now: datetime,
        open_before: Iterable[str],
        leave: Iterable[str] = (),
    ) -> dict[str, list[str]]:
        """Make history agree with the engine: ``present`` is every session it said to run at ``now``.

        Unknown ones are added, ones that were taken for lost go on. Returns the ids ``{"added", "reopened",
        "missing"}``: what history had as running before the engine was asked (``open_before``) and is neither
        present nor in ``leave`` is missing, and how it ended is for the caller to find out. Never call this
        with a list from a failed engine call.
        """
        found = {r.session: r for r in present}
        s = t.sessions
        report: dict[str, list[str]] = {"added": [], "reopened": [], "missing": []}
        with self.db.write() as c:
            known = {
                r.session: r for r in many(SessionRow, c.execute(select(s).where(s.c.session.in_(found))))
            }
            for session, record in found.items():
                if session not in known:
                    start_session(c, record)
                    report["added"].append(session)
                elif known[session].ended_at is not None and known[session].kind == "lost":
                    reopened = {"ended_at": None, "kind": "", "reason": "", "retiring_at": None}
                    c.execute(s.update().where(s.c.session == session).values(**reopened))
                    report["reopened"].append(session)
                if session in known and abs(known[session].started_at - record.started_at) > CLOCK_WRONG:
                    begun = {"started_at": record.started_at}
                    c.execute(s.update().where(s.c.session == session).values(**begun))
            c.execute(s.update().where(s.c.session.in_(found), s.c.ended_at.is_(None)).values(seen_at=now))
            # A start that goes on with another device has no container for a moment. A begin that lies ahead
            # was told by a wrong clock, and says nothing of how long ago it was.
            old = now - timedelta(seconds=RECONCILE_GRACE_SECONDS)
            young = and_(s.c.started_at >= old, s.c.started_at <= now)
            gone = select(s.c.session).where(s.c.ended_at.is_(None), not_(young))
            gone = gone.where(s.c.session.in_(set(open_before) - {*found, *leave})).order_by(s.c.started_at)
            report["missing"] = list(c.execute(gone).scalars())
        return report


def ended_of(known: SessionRow) -> Ended | None:
    """The end that a row of history tells, or None while it runs."""
    if known.ended_at is None:
        return None
    end = known.data.get("end") or {}
    return Ended(
        session=known.session,
        at=known.ended_at,
        kind=known.kind,
        reason=known.reason,
        exit_code=end.get("exit_code"),
        oom=bool(end.get("oom")),
        by=str(end.get("by") or ""),
        clock=Clock(end.get("clock", Clock.noticed)),
        since=known.retiring_at,
        log_tail=str(end.get("log_tail") or ""),
    )


def _note_of(known: SessionRow) -> Ended | None:
    """The decision to retire that is noted of a running session."""
    at = known.retiring_at
    if at is None:
        return None
    by = str((known.data.get("note") or {}).get("by") or "")
    return Ended(known.session, at, known.kind, known.reason, by=by, since=at)


def _since_the_store_began(c: Connection, ended: Ended) -> Ended:
    """An end of which history knows nothing, without a cause that only this store's silence suggests."""
    f = t.facts
    moments = list(c.execute(select(f.c.updated_at).where(f.c.key.in_((MADE, REPLACED)))).scalars())
    if not moments or ended.at > max(moments) + REPLACED_NOTICED:
        return ended
    return without_records(ended, words.WITH_FORMER_STORE)


def _row(c: Connection, session: str) -> SessionRow | None:
    return one(SessionRow, c.execute(select(t.sessions).where(t.sessions.c.session == session)))


def _keep(c: Connection, known: SessionRow, before: Ended | None, after: Ended) -> Ended:
    # The engine's time of the end is exact; a begin after it was told by a clock that was wrong.
    begun = min(known.started_at, after.at) if after.clock is Clock.engine else known.started_at
    after = replace(after, at=max(after.at, begun), log_tail=after.log_tail[-TAIL_KEPT:])
    if after == before:
        return after
    end = {
        "exit_code": after.exit_code,
        "oom": after.oom,
        "by": after.by,
        "clock": int(after.clock),
        "log_tail": after.log_tail,
    }
    values = {
        "started_at": begun,
        "ended_at": after.at,
        "kind": after.kind,
        "reason": after.reason,
        "retiring_at": after.since,
        "data": {**known.data, "end": end},
    }
    c.execute(t.sessions.update().where(t.sessions.c.session == after.session).values(**values))
    if before is None or (before.kind, before.reason) != (after.kind, after.reason):
        append_event(
            c,
            after.at,
            "session",
            "ended" if before is None else "corrected",
            user=known.user,
            by=after.by,
            server=known.server,
            session=after.session,
            project=known.project,
            reason=after.reason,
            kind=after.kind,
            devices=list(known.gpu_uuids),
            data={} if after.exit_code is None else {"exit_code": after.exit_code, "oom": after.oom},
        )
    return after

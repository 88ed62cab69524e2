"""Tickets and reservations as rows. What may become of them is decided in `ds01spawner.queue`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy import func, select

from . import models as t
from .blocks import end_holds, write_hold
from .db import Part
from .events import append_event
from .rows import ReservationRow, TicketRow, many, one
from .shown import ShownJson

LIVE = ("waiting", "granted", "starting")
DAY = timedelta(days=1)


class _Owner(TypedDict):
    id: str
    user: str


class NewTicket(_Owner, total=False):
    """The columns of a ticket that is written; those of `TicketRow` that are left out have its defaults."""

    server: str
    groups: Sequence[str]
    profile: str
    count: int
    preemptible: bool
    priority: int
    options: Mapping[str, object]
    expires_at: datetime | None


class TicketChanges(TypedDict, total=False):
    """The columns that a step of a ticket changes."""

    state: str
    reason: str
    granted_at: datetime
    claim_until: datetime | None
    starting_at: datetime | None
    ended_at: datetime
    devices: tuple[str, ...]
    attempts: int


class _Subject(TypedDict):
    id: str
    subject: str


class NewReservation(_Subject, total=False):
    """The columns of a reservation that is written, as `NewTicket`."""

    starts_at: datetime
    ends_at: datetime
    zone: str
    rrule: str
    devices: Sequence[str]
    profile: str
    count: int
    grace: int
    title: str
    by: str


class Tickets(Part):
    """Places in the queue; each change carries the version the caller saw, so that none is lost."""

    def add(
        self,
        values: NewTicket,
        now: datetime,
        admit: Callable[[int, int], None] = lambda live, day: None,
    ) -> TicketRow:
        """Write a waiting ticket, or return the live one of the same user and server.

        Clicking twice, or a retried request, never gives two places. ``admit`` raises where one more is too
        many: it gets the user's live tickets and those of the last 24 hours, counted in the transaction
        that writes, so that requests side by side cannot pass a limit.
        """
        k = t.tickets
        with self.db.write() as c:
            same = [k.c.user == values["user"], k.c.server == values.get("server", ""), k.c.state.in_(LIVE)]
            known = one(TicketRow, c.execute(select(k).where(*same)))
            if known is not None:
                return known
            theirs = select(func.count()).select_from(k).where(k.c.user == values["user"])
            live = c.execute(theirs.where(k.c.state.in_(LIVE))).scalar_one()
            admit(live, c.execute(theirs.where(k.c.arrived > now - DAY)).scalar_one())
            c.execute(k.insert().values(**values, state="waiting", arrived=now))
            append_event(
                c, now, "ticket", "waiting", user=values["user"], ticket=values["id"],
                server=values.get("server", ""), profile=values.get("profile", ""),
                count=values.get("count", 1),
            )  # fmt: skip
            added = one(TicketRow, c.execute(select(k).where(k.c.id == values["id"])))
            assert added is not None
            return added

    def get(self, ticket: str) -> TicketRow | None:
        """One ticket, or None."""
        with self.db.read() as c:
            return one(TicketRow, c.execute(select(t.tickets).where(t.tickets.c.id == ticket)))

    def find(
        self, states: Iterable[str] | None = LIVE, user: str | None = None, limit: int = 10_000
    ) -> list[TicketRow]:
        """Tickets in arrival order; ``states`` None means all, with the newest ``limit``."""
        k = t.tickets
        query = select(k).order_by(k.c.arrived.desc(), k.c.id.desc()).limit(limit)
        if states is not None:
            query = query.where(k.c.state.in_(list(states)))
        if user is not None:
            query = query.where(k.c.user == user)
        with self.db.read() as c:
            return many(TicketRow, c.execute(query))[::-1]

    def move(
        self,
        ticket: str,
        version: int,
        now: datetime,
        changes: TicketChanges,
        *,
        action: str = "",
        hold: Iterable[str] | None = None,
        release: bool = False,
    ) -> bool:
        """Change a ticket that still has ``version``, its hold and its event in one transaction.

        ``hold`` are the devices kept free for it until ``changes["claim_until"]``; ``release`` ends them.
        False means that somebody else changed it first, and nothing was written.
        """
        k = t.tickets
        with self.db.write() as c:
            known = one(TicketRow, c.execute(select(k).where(k.c.id == ticket, k.c.version == version)))
            if known is None:
                return False
            c.execute(k.update().where(k.c.id == ticket).values(**changes, version=version + 1))
            owner = f"ticket:{ticket}"
            if hold is not None:
                reason = "held for the next person in the queue"
                exempt = (owner, f"user:{known.user}")
                until = changes["claim_until"]
                assert until is not None, "a hold has an end"
                write_hold(c, owner, hold, reason, now, until, exempt)
            if release:
                end_holds(c, owner, now)
            if action:
                append_event(
                    c, now, "ticket", action, user=known.user, ticket=ticket, server=known.server,
                    profile=known.profile, count=known.count, devices=list(changes.get("devices", ())),
                    reason=changes.get("reason", ""), waited=(now - known.arrived).total_seconds(),
                )  # fmt: skip
            return True

    def show(self, shown: Mapping[str, ShownJson]) -> None:
        """Keep what each waiting ticket is told (position, reason, estimate); no version, no event."""
        k = t.tickets
        with self.db.write() as c:
            for ticket, values in shown.items():
                c.execute(k.update().where(k.c.id == ticket, k.c.state == "waiting").values(shown=values))

    def claim_keys(self, user: str, server: str, now: datetime) -> frozenset[str]:
        """The ``ticket:…`` keys that let a start of ``user/server`` take the devices on hold for it."""
        k = t.tickets
        mine = [k.c.user == user, k.c.server == server, k.c.state.in_(("granted", "starting"))]
        with self.db.read() as c:
            return frozenset(
                f"ticket:{number}" for number in c.execute(select(k.c.id).where(*mine)).scalars()
            )


class Reservations(Part):
    """Devices promised from–to, perhaps repeating."""

    def add(self, values: NewReservation, now: datetime) -> str:
        """Write a reservation (see `ds01spawner.queue.reservations.Reservation` for the fields)."""
        with self.db.write() as c:
            c.execute(t.reservations.insert().values(**values, created_at=now))
            append_event(
                c, now, "reservation", "created", by=values.get("by", ""), reservation=values["id"],
                subject=values["subject"], title=values.get("title", ""),
                devices=list(values.get("devices", ())),
                profile=values.get("profile", ""), count=values.get("count", 1),
            )  # fmt: skip
        return str(values["id"])

    def find(self, cancelled: bool = False) -> list[ReservationRow]:
        """Reservations by their first begin; past ones are among them."""
        r = t.reservations
        query = select(r).order_by(r.c.starts_at, r.c.id)
        if not cancelled:
            query = query.where(r.c.cancelled_at.is_(None))
        with self.db.read() as c:
            return many(ReservationRow, c.execute(query))

    def cancel(self, reservation: str, by: str, now: datetime) -> bool:
        """Call a reservation off and free what it keeps; False when it is unknown or was cancelled."""
        r = t.reservations
        with self.db.write() as c:
            live = [r.c.id == reservation, r.c.cancelled_at.is_(None)]
            if not c.execute(r.update().where(*live).values(cancelled_at=now)).rowcount:
                return False
            end_holds(c, f"reservation:{reservation}", now)
            append_event(c, now, "reservation", "cancelled", by=by, reservation=reservation)
            return True

    def keep(
        self,
        reservation: str,
        uuids: Iterable[str],
        reason: str,
        now: datetime,
        until: datetime,
        exempt: Iterable[str],
    ) -> None:
        """Keep devices for the running occurrence; replaces what it kept."""
        with self.db.write() as c:
            owner = f"reservation:{reservation}"
            write_hold(c, owner, uuids, reason, now, until, exempt, kind="reservation")

    def release(self, reservation: str, occurrence: datetime, reason: str, now: datetime) -> bool:
        """Give an occurrence's devices back early (nobody came); False when that was done before."""
        r = t.reservations
        stamp = occurrence.isoformat()
        with self.db.write() as c:
            known = c.execute(select(r.c.released).where(r.c.id == reservation)).scalar()
            if known is None or stamp in known:
                return False
            released = [*known, stamp]
            c.execute(r.update().where(r.c.id == reservation).values(released=released))
            end_holds(c, f"reservation:{reservation}", now)
            append_event(
                c, now, "reservation", "no-show", reservation=reservation, occurrence=stamp, reason=reason
            )
            return True

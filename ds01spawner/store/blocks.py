"""What keeps a device from being granted although no container holds it.

Drains (an admin), maintenance (a drain with a deadline, perhaps for all devices), quarantines (a device
that failed), holds (a granted ticket's claim window) and reservations that run. All are rows of one
table, bounded in time where they can be; `blocks` turns them into what placement reads.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, or_, select

from ..placement.devices import Block, State
from . import models as t
from .db import Facts, Part
from .events import append_event
from .rows import BlockRow, many

ALL_DEVICES = "*"
GUARD = "queue"
"""Owner of the guards, and the key that lifts them: only the queue has it."""
_STATES: dict[str, State] = {
    "guard": "reserved",
    "reservation": "reserved",
    "hold": "reserved",
    "quarantine": "unready",
    "maintenance": "drained",
    "drain": "drained",
}
_RANK = {kind: rank for rank, kind in enumerate(_STATES)}
"""Which of several blocks on one device speaks: a hold was granted with the reservation in view, so it is
the narrower one; a drain stands above all."""


class Blocks(Part):
    """Drains, quarantines, maintenance and holds."""

    @property
    def _facts(self) -> Facts:
        return Facts(self.db)

    def at(self, now: datetime, uuids: Iterable[str] = ()) -> dict[str, Block]:
        """What stands against each device at ``now``, keyed by UUID.

        A maintenance of all devices is given for each of ``uuids``, and under ``"*"`` when it runs, for
        callers that do not know the devices.
        """
        chosen: dict[str, BlockRow] = {}
        for r in self.live(now):
            targets = (ALL_DEVICES, *uuids) if r.uuid == ALL_DEVICES else (r.uuid,)
            for uuid in targets:
                if uuid not in chosen or _RANK[chosen[uuid].kind] < _RANK[r.kind]:
                    chosen[uuid] = r
        return {uuid: as_block(r) for uuid, r in chosen.items()}

    def live(self, now: datetime, kind: str | None = None) -> list[BlockRow]:
        """The rows in force at ``now``, oldest first."""
        b = t.device_blocks
        query = select(b).where(_live(now), b.c.starts_at <= now).order_by(b.c.id)
        if kind is not None:
            query = query.where(b.c.kind == kind)
        with self.db.read() as c:
            return many(BlockRow, c.execute(query))

    def drain(self, uuid: str, reason: str, by: str, now: datetime, until: datetime | None = None) -> None:
        """Take a device (or card) out of use for new sessions; running ones stay. Repeats replace."""
        with self.db.write() as c:
            _end_blocks(c, now, uuid=uuid, kind="drain")
            add_block(c, "drain", uuid, now, reason=reason, by=by, until=until)
            append_event(c, now, "device", "drained", by=by, reason=reason, device=uuid, until=_iso(until))

    def undrain(self, uuid: str, by: str, now: datetime) -> bool:
        """Give a drained or quarantined device back; False when it was neither."""
        with self.db.write() as c:
            ended = _end_blocks(c, now, uuid=uuid, kind="drain")
            ended += _end_blocks(c, now, uuid=uuid, kind="quarantine")
            if ended:
                append_event(c, now, "device", "undrained", by=by, device=uuid)
            return ended > 0

    def quarantine(self, uuid: str, reason: str, now: datetime, until: datetime) -> None:
        """Keep a device that failed a start out of use until ``until``."""
        with self.db.write() as c:
            _end_blocks(c, now, uuid=uuid, kind="quarantine")
            add_block(c, "quarantine", uuid, now, reason=reason, by="ds01", until=until)
            append_event(c, now, "device", "quarantined", reason=reason, device=uuid, until=_iso(until))

    def device_failed(
        self, uuid: str, reason: str, now: datetime, *, after: int, window: float, until: datetime
    ) -> bool:
        """Count a failed start on ``uuid``; the ``after``-th within ``window`` seconds quarantines it."""
        key = f"failures.{uuid}"
        earlier = [s for s in self._facts.get(key, []) if now.timestamp() - s < window]
        failures = [*earlier, now.timestamp()]
        if len(failures) < after:
            self._facts.set(key, failures, now)
            return False
        self._facts.set(key, [], now)
        self.quarantine(uuid, reason, now, until)
        return True

    def add_maintenance(
        self,
        deadline: datetime,
        reason: str,
        by: str,
        now: datetime,
        until: datetime | None = None,
        uuid: str = ALL_DEVICES,
    ) -> int:
        """All sessions (or those on ``uuid``) end at ``deadline``; no new ones until ``until``."""
        with self.db.write() as c:
            number = add_block(
                c, "maintenance", uuid, now, reason=reason, by=by, until=until, starts_at=deadline
            )
            append_event(
                c, now, "device", "maintenance", by=by, reason=reason, device=uuid, until=_iso(deadline)
            )
            return number

    def end_maintenance(self, number: int, by: str, now: datetime) -> bool:
        """Call a maintenance off, or over; False when it was."""
        b = t.device_blocks
        mine = [b.c.id == number, b.c.kind == "maintenance", b.c.ended_at.is_(None)]
        with self.db.write() as c:
            done = c.execute(b.update().where(*mine).values(ended_at=now)).rowcount > 0
            if done:
                append_event(c, now, "device", "maintenance-ended", by=by)
            return bool(done)

    def maintenance(self, now: datetime) -> list[BlockRow]:
        """Announced and running maintenance: ``starts_at`` is the deadline at which sessions end."""
        b = t.device_blocks
        query = select(b).where(_live(now), b.c.kind == "maintenance").order_by(b.c.starts_at)
        with self.db.read() as c:
            return many(BlockRow, c.execute(query))

    def hold(
        self,
        owner: str,
        uuids: Iterable[str],
        reason: str,
        now: datetime,
        until: datetime,
        exempt: Iterable[str],
    ) -> None:
        """Keep devices free for ``owner`` (``ticket:…``) until ``until``; repeats replace."""
        with self.db.write() as c:
            write_hold(c, owner, uuids, reason, now, until, exempt)

    def guard(self, uuids: Iterable[str], now: datetime, until: datetime) -> None:
        """Keep devices that people wait for from starts that did not queue, until ``until``.

        Written anew only when the devices change or the time is half over: a loop may call it often.
        """
        wanted = set(uuids)
        known = {r.uuid: r.until for r in self.live(now, "guard")}
        if wanted == set(known) and all(end and end - now > (until - now) / 2 for end in known.values()):
            return
        with self.db.write() as c:
            reason = "people wait for it in the queue"
            write_hold(c, GUARD, wanted, reason, now, until, (GUARD,), kind="guard")

    def release(self, owner: str, now: datetime) -> int:
        """End every hold and reserved device of ``owner``; returns how many."""
        with self.db.write() as c:
            return _end_blocks(c, now, owner=owner)


def as_block(r: BlockRow) -> Block:
    """One row as placement reads it."""
    return Block(state=_STATES[r.kind], reason=r.reason, until=_iso(r.until), exempt=frozenset(r.exempt))


def add_block(
    c: Connection,
    kind: str,
    uuid: str,
    now: datetime,
    *,
    reason: str,
    by: str = "ds01",
    until: datetime | None = None,
    owner: str = "",
    exempt: Iterable[str] = (),
    starts_at: datetime | None = None,
) -> int:
    """Insert one row inside a transaction."""
    new = t.device_blocks.insert().values(
        kind=kind, uuid=uuid, owner=owner, reason=reason, by=by, until=until, exempt=sorted(exempt),
        created_at=now, starts_at=starts_at or now,
    )  # fmt: skip
    number = c.execute(new).inserted_primary_key
    assert number is not None
    return int(number[0])


def write_hold(
    c: Connection,
    owner: str,
    uuids: Iterable[str],
    reason: str,
    now: datetime,
    until: datetime,
    exempt: Iterable[str],
    kind: str = "hold",
) -> None:
    """Replace the holds of ``owner`` inside a transaction."""
    exempt = list(exempt)
    _end_blocks(c, now, owner=owner)
    for uuid in uuids:
        add_block(c, kind, uuid, now, reason=reason, until=until, owner=owner, exempt=exempt)


def end_holds(c: Connection, owner: str, now: datetime) -> int:
    """End the holds of ``owner`` inside a transaction."""
    return _end_blocks(c, now, owner=owner)


def _end_blocks(
    c: Connection,
    now: datetime,
    *,
    owner: str | None = None,
    uuid: str | None = None,
    kind: str | None = None,
) -> int:
    b = t.device_blocks
    where: list[ColumnElement[bool]] = [b.c.ended_at.is_(None)]
    for column, value in ((b.c.owner, owner), (b.c.uuid, uuid), (b.c.kind, kind)):
        if value is not None:
            where.append(column == value)
    return int(c.execute(b.update().where(*where).values(ended_at=now)).rowcount)


def _live(now: datetime) -> ColumnElement[bool]:
    b = t.device_blocks
    return b.c.ended_at.is_(None) & or_(b.c.until.is_(None), b.c.until > now)


def _iso(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds")

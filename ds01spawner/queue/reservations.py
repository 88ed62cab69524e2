"""Devices promised for a time, perhaps repeating. Pure.

A reservation repeats by an iCalendar RRULE in the wall-clock time of its zone: a class at 14:00 stays at
14:00 when the clocks change. Nobody is thrown out for it: from a lead time before its begin no device it
needs is given to others, and sessions that would run into it are warned.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import islice, pairwise
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dateutil.rrule import rrulestr

from .. import messages
from ..core.errors import Refused
from ..placement.devices import Device, Holding, Inventory
from ..store.rows import ReservationRow
from ..store.tickets import NewReservation

SUBJECT = re.compile(r"(user|group|course):[^\s:][^\s]{0,200}")
LEAD = timedelta(minutes=30)
"""From so long before its begin devices are kept for an occurrence."""
LONGEST = timedelta(days=31)
MOST_OCCURRENCES = 2000
_FREQUENCIES = ("DAILY", "WEEKLY", "MONTHLY", "YEARLY")


@dataclass(frozen=True)
class Reservation:
    """Who gets what, when. ``devices`` names UUIDs; else ``count`` of ``profile`` are chosen in time."""

    id: str
    subject: str
    """``user:alice``, ``group:nlp`` or ``course:nlp-s26``."""
    starts_at: datetime
    ends_at: datetime
    zone: str = "UTC"
    rrule: str = ""
    devices: tuple[str, ...] = ()
    profile: str = ""
    count: int = 1
    grace: timedelta = timedelta(minutes=15)
    """When nobody has come so long after the begin, the devices are given back."""
    title: str = ""
    released: frozenset[datetime] = frozenset()
    """Begins of occurrences that were given back."""

    @property
    def exempt(self) -> frozenset[str]:
        """Whose starts may take the devices. A course's members carry ``course:…`` or its group's key."""
        kind, _, name = self.subject.partition(":")
        return frozenset({self.subject, f"group:{name}"} if kind == "course" else {self.subject})

    @property
    def wants(self) -> str:
        """What is reserved, in words."""
        return f"{len(self.devices)} named devices" if self.devices else f"{self.count} × {self.profile}"


@dataclass(frozen=True, order=True)
class Occurrence:
    """One time a reservation holds."""

    start: datetime
    end: datetime
    reservation: str


@dataclass(frozen=True)
class Collision:
    """A session that may still run when a reservation needs its device."""

    holding: Holding
    occurrence: Occurrence
    sure: bool
    """Whether no other device could serve the reservation instead."""


def check(reservation: Reservation, inventory: Inventory | None = None) -> None:
    """Raise `Refused` (400) unless the reservation can be kept at all."""
    if not SUBJECT.fullmatch(reservation.subject):
        raise bad("it is for nobody", 'name "user:…", "group:…" or "course:…"')
    length = reservation.ends_at - reservation.starts_at
    if not timedelta(0) < length <= LONGEST:
        raise bad("its end is not after its begin, or more than 31 days later", "give another time")
    if not reservation.devices and (not reservation.profile or reservation.count < 1):
        raise bad("it names no devices", "name a profile and a count, or UUIDs")
    _check_rule(reservation, length)
    if inventory is not None and inventory.state == "ok":
        _check_devices(reservation, inventory)


def occurrences(reservation: Reservation, since: datetime, until: datetime) -> list[Occurrence]:
    """The times it holds that touch ``[since, until)``, given-back ones left out, in order."""
    length = reservation.ends_at - reservation.starts_at
    starts: Iterable[datetime] = (reservation.starts_at,)
    if reservation.rrule:
        zone = ZoneInfo(reservation.zone)
        wall = reservation.starts_at.astimezone(zone).replace(tzinfo=None)
        rule = rrulestr(reservation.rrule, dtstart=wall)
        first = (since - length).astimezone(zone).replace(tzinfo=None) - timedelta(hours=2)
        found = islice(rule.xafter(first, inc=True), MOST_OCCURRENCES)
        starts = (w.replace(tzinfo=zone).astimezone(timezone.utc) for w in found)
    held = []
    for start in starts:
        if start >= until:
            break
        if start + length > since and start not in reservation.released:
            held.append(Occurrence(start, start + length, reservation.id))
    return held


def current(reservation: Reservation, now: datetime, lead: timedelta = LEAD) -> Occurrence | None:
    """The occurrence that holds now or begins within ``lead``, or None."""
    found = occurrences(reservation, now, now + lead + timedelta(microseconds=1))
    return found[0] if found else None


def choose(
    reservation: Reservation,
    inventory: Inventory,
    holdings: Iterable[Holding],
    taken: frozenset[str],
    ends: Mapping[str, datetime],
    kept: Iterable[str] = (),
    courses: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """The devices to keep for a current occurrence.

    Those it keeps already stay; then free ones, then those that come free first. ``taken`` are kept for
    somebody else or out of order; ``courses`` says of what course a session is, by session id.
    """
    if reservation.devices:
        return reservation.devices
    held = {h.uuid: h for h in holdings}
    before = set(kept)

    def cost(d: Device) -> tuple[bool, bool, float, int, str]:
        busy = d.uuid in held and not _theirs(reservation, held[d.uuid], courses)
        end = ends.get(d.uuid)
        far = end.timestamp() if end is not None else float("inf")
        return (d.uuid not in before, busy, far if busy else 0.0, d.index, d.uuid)

    fitting = [
        d for d in inventory.devices if d.profile == reservation.profile and not {d.uuid, d.card} & taken
    ]
    return tuple(d.uuid for d in sorted(fitting, key=cost)[: reservation.count])


def no_show(
    reservation: Reservation,
    occurrence: Occurrence,
    kept: Iterable[str],
    holdings: Iterable[Holding],
    now: datetime,
) -> bool:
    """Whether nobody entitled uses the kept devices though the grace is over."""
    if now < occurrence.start + reservation.grace:
        return False
    mine = set(kept)
    return bool(mine) and not any(h.uuid in mine and h.kind == "session" for h in holdings)


def collisions(
    reservations: Iterable[Reservation],
    inventory: Inventory,
    holdings: Iterable[Holding],
    lasts_until: Mapping[str, datetime],
    now: datetime,
    horizon: timedelta,
    courses: Mapping[str, str] = MappingProxyType({}),
) -> list[Collision]:
    """Sessions whose lifetime reaches into an occurrence that could need their device.

    ``lasts_until`` gives each session's end by its lifetime, by session id; unknown means for ever.
    ``courses`` as in `choose`.
    """
    found = []
    everything = list(holdings)
    sessions = [h for h in everything if h.kind == "session"]
    for reservation in reservations:
        fitting = _fitting(reservation, inventory)
        for occurrence in occurrences(reservation, now, now + horizon):
            late = [
                h
                for h in sessions
                if h.uuid in fitting
                and not _theirs(reservation, h, courses)
                and lasts_until.get(h.session, occurrence.end) > occurrence.start
            ]
            others = {h.uuid for h in everything if h.kind != "session"}
            enough = len(fitting - {h.uuid for h in late} - others) >= reservation.count
            sure = bool(reservation.devices) or not enough
            found += [Collision(h, occurrence, sure) for h in late]
    return found


def from_row(row: ReservationRow) -> Reservation:
    """A stored reservation."""
    return Reservation(
        id=row.id,
        subject=row.subject,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        zone=row.zone or "UTC",
        rrule=row.rrule,
        devices=row.devices,
        profile=row.profile,
        count=row.count,
        grace=timedelta(seconds=row.grace),
        title=row.title,
        released=frozenset(datetime.fromisoformat(s) for s in row.released),
    )


def to_row(reservation: Reservation, by: str) -> NewReservation:
    """The columns to store."""
    return {
        "id": reservation.id,
        "subject": reservation.subject,
        "starts_at": reservation.starts_at,
        "ends_at": reservation.ends_at,
        "zone": reservation.zone,
        "rrule": reservation.rrule,
        "devices": reservation.devices,
        "profile": reservation.profile,
        "count": reservation.count,
        "grace": int(reservation.grace.total_seconds()),
        "title": reservation.title,
        "by": by,
    }


def _theirs(reservation: Reservation, holding: Holding, courses: Mapping[str, str]) -> bool:
    """Whether the holder is known to be of those reserved for (groups are not on a holding)."""
    course = courses.get(holding.session, "")
    return reservation.subject in (f"user:{holding.user}", f"course:{course}")


def _fitting(reservation: Reservation, inventory: Inventory) -> set[str]:
    if reservation.devices:
        return set(reservation.devices)
    return {d.uuid for d in inventory.devices if d.profile == reservation.profile}


def _check_rule(reservation: Reservation, length: timedelta) -> None:
    try:
        zone = ZoneInfo(reservation.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise bad(f"there is no time zone {reservation.zone!r}", 'name one as "Europe/Berlin"') from None
    if not reservation.rrule:
        return
    text = reservation.rrule.upper()
    frequency = re.search(r"FREQ=([A-Z]+)", text)
    if "\n" in text or "DTSTART" in text or frequency is None or frequency[1] not in _FREQUENCIES:
        raise bad("its rule is not one RRULE that repeats daily or less often", 'give "FREQ=WEEKLY;BYDAY=MO"')
    if re.search(r"BY(HOUR|MINUTE|SECOND)", text):
        raise bad("its rule changes the time of day", "make one reservation for each time of day")
    try:
        wall = reservation.starts_at.astimezone(zone).replace(tzinfo=None)
        starts = list(islice(rrulestr(reservation.rrule, dtstart=wall), 50))
    except (ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise bad(f"its rule cannot be read ({error})", 'give it as "FREQ=WEEKLY;BYDAY=MO,WE"') from None
    if not starts:
        raise bad("its rule never holds", "give another rule")
    if any(b - a < length for a, b in pairwise(starts)):
        raise bad("it begins again before it has ended", "make it shorter, or repeat less often")


def _check_devices(reservation: Reservation, inventory: Inventory) -> None:
    known = inventory.by_uuid()
    missing = [u for u in reservation.devices if u not in known]
    if missing:
        raise bad(f"this machine has no device {missing[0]}", "name devices as ds01 gpus shows them")
    have = sum(d.profile == reservation.profile for d in inventory.devices)
    if not reservation.devices and have < reservation.count:
        raise bad(f"this machine has {have} × {reservation.profile}", "reserve fewer, or another profile")


def bad(why: str, *do: str) -> Refused:
    """A reservation that cannot be made, as the exception to raise."""
    return Refused(messages.bad_reservation(why, *do))

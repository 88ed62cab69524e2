"""Making and listing reservations: what REST, command and course pages share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict
from uuid import uuid4
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ..core import freetext
from ..core.text import stamp
from ..placement.devices import Inventory
from ..store import Store
from .reservations import Reservation, bad, check, from_row, occurrences, to_row

HORIZON = timedelta(days=14)
FIELDS = {
    "subject": "string",
    "title": "string",
    "start": "string",
    "end": "string",
    "zone": "string",
    "rrule": "string",
    "profile": "string",
    "count": "integer",
    "devices": "array",
    "grace_minutes": "integer",
}
"""Fields of a wish and their JSON types."""
_TYPES: dict[str, type] = {"string": str, "integer": int, "array": list}


class OccurrenceJson(TypedDict):
    """One of a reservation's times, ISO 8601."""

    start: str
    end: str


class _ReservationJson(TypedDict):
    id: str
    subject: str
    title: str
    what: str
    profile: str
    count: int
    devices: list[str]
    zone: str
    rrule: str
    times: list[OccurrenceJson]


class ReservationJson(_ReservationJson, total=False):
    """A reservation with its next times; whoever makes it is told what stands in its way."""

    warnings: list[str]


def parse(body: Mapping[str, Any]) -> Reservation:
    """A wish as it comes from outside; `Refused` (400) names the first thing wrong.

    ``start`` and ``end`` are ISO 8601; without an offset they are meant in ``zone``.
    """
    for name, value in body.items():
        if name not in FIELDS:
            raise bad(f"{name[:40]!r} is not known; known are {', '.join(FIELDS)}")
        if not isinstance(value, _TYPES[FIELDS[name]]) or isinstance(value, bool):
            raise bad(f"{name} is not of type {FIELDS[name]}")
    devices = body.get("devices", [])
    if not all(isinstance(d, str) for d in devices) or len(devices) > 256:
        raise bad("devices is a list of UUIDs")
    grace = body.get("grace_minutes", 15)
    if not 0 <= grace <= 24 * 60:
        raise bad("grace_minutes is from 0 to 1440")
    if why := freetext.problem(body.get("title", "")):
        raise bad(f"title is one line of printable text; {why}")
    zone = body.get("zone") or "UTC"
    return Reservation(
        id=uuid4().hex[:12],
        subject=body.get("subject", ""),
        starts_at=_time(body, "start", zone),
        ends_at=_time(body, "end", zone),
        zone=zone,
        rrule=body.get("rrule", "").strip().removeprefix("RRULE:"),
        devices=tuple(dict.fromkeys(devices)),
        profile=body.get("profile", ""),
        count=len(devices) or body.get("count", 1),
        grace=timedelta(minutes=grace),
        title=body.get("title", "")[:200],
    )


def reserve(
    store: Store, wanted: Reservation, inventory: Inventory | None, by: str, now: datetime
) -> ReservationJson:
    """Keep a reservation, with what stands in its way as ``warnings``; `Refused` when it cannot be."""
    check(wanted, inventory)
    found = occurrences(wanted, now, now + timedelta(days=400))
    if not found:
        raise bad("all of its times are past")
    warnings = _overlaps(store, wanted, inventory, now)
    store.reservations.add(to_row(wanted, by), now)
    return {**describe(wanted, now), "warnings": warnings}


def coming(store: Store, now: datetime, horizon: timedelta = HORIZON) -> list[ReservationJson]:
    """Reservations that hold within ``horizon``, the next first."""
    found = [describe(from_row(r), now, horizon) for r in store.reservations.find()]
    return sorted((r for r in found if r["times"]), key=lambda r: r["times"][0]["start"])


def describe(reservation: Reservation, now: datetime, horizon: timedelta = HORIZON) -> ReservationJson:
    """A reservation as JSON, with its next times."""
    times = occurrences(reservation, now, now + horizon)
    return {
        "id": reservation.id,
        "subject": reservation.subject,
        "title": reservation.title,
        "what": reservation.wants,
        "profile": reservation.profile,
        "count": reservation.count,
        "devices": list(reservation.devices),
        "zone": reservation.zone,
        "rrule": reservation.rrule,
        "times": [{"start": o.start.isoformat(), "end": o.end.isoformat()} for o in times],
    }


def _overlaps(store: Store, wanted: Reservation, inventory: Inventory | None, now: datetime) -> list[str]:
    """Other reservations that together with this one want more than there is."""
    if inventory is None or wanted.devices:
        return []
    have = sum(d.profile == wanted.profile for d in inventory.devices)
    mine = occurrences(wanted, now, now + HORIZON)
    warnings = []
    for row in store.reservations.find():
        other = from_row(row)
        if other.profile != wanted.profile or other.count + wanted.count <= have:
            continue
        theirs = occurrences(other, now, now + HORIZON)
        clash = next((a for a in mine for b in theirs if a.start < b.end and b.start < a.end), None)
        if clash is not None:
            title = other.title or other.subject
            warnings.append(f"on {stamp(clash.start)} {title} wants {other.wants} too; there are {have}")
    return warnings


def _time(body: Mapping[str, object], name: str, zone: str) -> datetime:
    try:
        at = datetime.fromisoformat(str(body.get(name, "")).strip().replace("Z", "+00:00"))
        return at if at.tzinfo else at.replace(tzinfo=ZoneInfo(zone))
    except ZoneInfoNotFoundError:
        raise bad(f"there is no time zone {zone!r}") from None
    except (ValueError, OSError):
        raise bad(f"{name} is not a time such as 2026-03-02T14:00") from None

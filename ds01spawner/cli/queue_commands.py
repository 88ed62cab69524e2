"""``ds01 queue`` and ``ds01 reserve``: the line, places in it, and devices kept for a time."""

from __future__ import annotations

import getpass
from typing import Annotated, Any

import typer

from ..core.errors import DS01Error, Refused
from ..core.settings import load_settings
from ..core.text import duration
from ..policy.resolve import Person
from ..queue import booking, joining
from ..queue.booking import ReservationJson
from ..queue.joining import TicketJson
from ..queue.ticket import LIVE
from ..store import Store
from .common import Json, emit, refuse, table
from .times import utcnow


def queue(
    cancel: Annotated[str | None, typer.Option(help="Id of a place to take out of the line.")] = None,
    as_json: Json = False,
) -> None:
    """Show the line: position, class, state, reason and estimate of everybody's place."""
    store = Store.open(load_settings().store)
    admin = Person(getpass.getuser(), admin=True)
    if cancel is not None:
        try:
            row = joining.cancel(store, cancel, admin, utcnow())
        except Refused as refused:
            refuse(refused.refusal.sentence, as_json)
        emit({"ok": True, "id": row.id}, as_json, lambda d: print(f"{d['id']} is out of the line."))
        return
    emit(joining.listing(store.tickets.find(LIVE), admin), as_json, _show)


def reserve(
    subject: Annotated[str | None, typer.Argument(help="user:…, group:… or course:…")] = None,
    start: Annotated[str, typer.Option("--from", help="2026-03-02T14:00, in --zone.")] = "",
    end: Annotated[str, typer.Option("--to", help="End, the same way.")] = "",
    profile: Annotated[str, typer.Option(help="Such as 1g.10gb or full.")] = "",
    count: Annotated[int, typer.Option(help="How many of the profile.", min=1)] = 1,
    device: Annotated[list[str] | None, typer.Option(help="UUID instead of a profile; repeatable.")] = None,
    repeat: Annotated[str, typer.Option(help="RRULE, such as FREQ=WEEKLY;BYDAY=MO;COUNT=12.")] = "",
    zone: Annotated[str, typer.Option(help="Time zone the times are meant in.")] = "UTC",
    title: Annotated[str, typer.Option(help="Shown to everybody.")] = "",
    cancel: Annotated[str | None, typer.Option(help="Id of a reservation to call off.")] = None,
    as_json: Json = False,
) -> None:
    """Keep devices for somebody from–to, perhaps repeating; without arguments, list what is coming."""
    settings, now, who = load_settings(), utcnow(), getpass.getuser()
    store = Store.open(settings.store)
    if cancel is not None:
        if not store.reservations.cancel(cancel, who, now):
            refuse(f"There is no reservation {cancel}.", as_json)
        emit({"ok": True, "id": cancel}, as_json, lambda d: print(f"Reservation {cancel} is called off."))
    elif subject is None:
        emit(booking.coming(store, now), as_json, _show_reservations)
    else:
        body = {
            "subject": subject, "start": start, "end": end, "profile": profile, "count": count,
            "devices": device or [], "rrule": repeat, "zone": zone, "title": title,
        }  # fmt: skip
        try:
            made = booking.reserve(store, booking.parse(body), _inventory(settings), who, now)
        except Refused as refused:
            refuse(refused.refusal.sentence, as_json)
        emit(made, as_json, _show_made)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(queue)
    app.command()(reserve)


def _inventory(settings: Any) -> Any:
    """What the machine has, or None when that cannot be read: then counts are not checked."""
    from ..gpu import read_inventory

    try:
        return read_inventory(settings)
    except DS01Error:
        return None


def _show(found: list[TicketJson]) -> None:
    columns = ("number", "id", "user", "server", "wants", "state", "90 % within", "reason")
    table(
        columns,
        [
            (
                "" if r["position"] is None else r["position"],
                r["id"],
                r["user"],
                r["server"],
                r["class"],
                r["state"],
                _within(r),
                r["reason"],
            )
            for r in found
        ],
    )


def _within(r: TicketJson) -> str | None:
    return duration(r["estimate"]["p90_s"]) if r["estimate"] else None


def _show_reservations(found: list[ReservationJson]) -> None:
    columns = ("id", "next", "until", "for", "what", "repeats", "title")
    rows = []
    for r in found:
        at = r["times"][0]
        rows.append((r["id"], at["start"], at["end"], r["subject"], r["what"], r["rrule"], r["title"]))
    table(columns, rows)


def _show_made(made: ReservationJson) -> None:
    print(f"Reserved {made['what']} for {made['subject']}: {made['id']}")
    for warning in made["warnings"]:
        print(f"Mind: {warning}")

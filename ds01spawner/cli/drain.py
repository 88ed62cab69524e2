"""``ds01 drain``, ``undrain`` and ``maintenance``: take devices out of use, and give them back."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import Annotated, TypedDict

import typer

from ..core.errors import DS01Error
from ..core.settings import Settings, load_settings
from ..core.text import stamp
from ..store import EVERYBODY, Store
from ..store.rows import BlockRow
from .common import Json, emit, reason_of, refuse, table
from .times import HELP, parse_time, utcnow

Uuid = Annotated[str, typer.Argument(help="UUID of a device or card, or its unique beginning.")]


def drain(
    uuid: Uuid,
    reason: Annotated[str, typer.Option(help="Why; people read it.")],
    until: Annotated[str | None, typer.Option(help=f"Until when: {HELP}.")] = None,
    as_json: Json = False,
) -> None:
    """Take a device out of use for new sessions. Running sessions stay."""
    settings, now = load_settings(), utcnow()
    reason = reason_of(reason, "A drain needs a reason: people see it where the device would be.", as_json)
    end = parse_time(until, now) if until else None
    if end is not None and end <= now:
        refuse("The time in --until is past.", as_json)
    full = _resolve(uuid, settings, as_json)
    Store.open(settings.store).blocks.drain(full, reason, getpass.getuser(), now, end)
    data = {"ok": True, "uuid": full, "state": "drained", "reason": reason, "until": end}
    emit(data, as_json, lambda d: print(f"{full} is drained: no new session gets it."))


def undrain(uuid: Uuid, as_json: Json = False) -> None:
    """Give a drained or quarantined device back."""
    settings = load_settings()
    store, now = Store.open(settings.store), utcnow()
    blocked = {b.uuid for b in store.blocks.live(now) if b.kind in ("drain", "quarantine")}
    full = _only(uuid, blocked)
    if full is None or not store.blocks.undrain(full, getpass.getuser(), now):
        refuse(f"{uuid} is not drained. Drained are: {', '.join(sorted(blocked)) or 'none'}.", as_json)
    emit({"ok": True, "uuid": full}, as_json, lambda d: print(f"{full} can be used again."))


def maintenance(
    at: Annotated[str | None, typer.Argument(help=f"When all sessions end: {HELP}.")] = None,
    reason: Annotated[str, typer.Option(help="Why; people read it.")] = "",
    until: Annotated[str | None, typer.Option(help="When new sessions may start again.")] = None,
    device: Annotated[str, typer.Option(help="Only this device or card.")] = "*",
    end: Annotated[int | None, typer.Option(help="Number of the maintenance to call off or end.")] = None,
    as_json: Json = False,
) -> None:
    """Announce that all sessions end at a time; without arguments, list what is announced."""
    settings, now, who = load_settings(), utcnow(), getpass.getuser()
    store = Store.open(settings.store)
    if end is not None:
        if not store.blocks.end_maintenance(end, who, now):
            refuse(f"There is no maintenance {end}.", as_json)
        store.notices.expire(f"maintenance:{end}", now)
        emit({"ok": True, "id": end}, as_json, lambda d: print(f"Maintenance {end} is over."))
    elif at is None:
        emit([_line(m) for m in store.blocks.maintenance(now)], as_json, _print_maintenance)
    else:
        deadline = parse_time(at, now)
        over = parse_time(until, now) if until else None
        reason = reason_of(reason, "", as_json)
        if not reason or deadline < now or (over is not None and over <= deadline):
            refuse("It needs a --reason, a time ahead, and an --until after it.", as_json)
        uuid = device if device == "*" else _resolve(device, settings, as_json)
        number = store.blocks.add_maintenance(deadline, reason, who, now, over, uuid)
        which = "All sessions" if uuid == "*" else f"Sessions on {uuid}"
        text = f"{which} end at {stamp(deadline)}: {reason}"
        store.notices.add(
            EVERYBODY, text, now, kind="maintenance", level="warning", expires_at=over,
            key=f"maintenance:{number}",
        )  # fmt: skip
        emit({"ok": True, "id": number, "deadline": deadline}, as_json, lambda d: print(text))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(drain)
    app.command()(undrain)
    app.command()(maintenance)


class MaintenanceJson(TypedDict):
    """A maintenance as ``--json`` tells it: sessions end at its deadline."""

    id: int
    deadline: datetime
    until: datetime | None
    device: str
    reason: str
    by: str


def _line(m: BlockRow) -> MaintenanceJson:
    return {
        "id": m.id, "deadline": m.starts_at, "until": m.until,
        "device": m.uuid, "reason": m.reason, "by": m.by,
    }  # fmt: skip


def _print_maintenance(found: list[MaintenanceJson]) -> None:
    columns = ("number", "sessions end", "until", "device", "reason")
    table(columns, [(m["id"], m["deadline"], m["until"], m["device"], m["reason"]) for m in found])


def _resolve(given: str, settings: Settings, as_json: bool) -> str:
    """The full UUID. What cannot be looked up now (a lost card) is taken as it was given."""
    from ..gpu import read_inventory

    try:
        inventory = read_inventory(settings)
    except DS01Error:
        return given
    known = {d.uuid for d in inventory.devices} | {c.uuid for c in inventory.cards}
    if inventory.state != "ok" or not known:
        return given
    full = _only(given, known)
    if full is None:
        refuse(f"{given} is not one device or card here. There are: {', '.join(sorted(known))}.", as_json)
    return full


def _only(given: str, known: set[str]) -> str | None:
    """The one of ``known`` that is, or begins with, ``given``."""
    if given in known:
        return given
    found = [u for u in known if given and u.startswith(given)]
    return found[0] if len(found) == 1 else None

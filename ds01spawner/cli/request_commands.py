"""``ds01 request``, ``requests``, ``approve`` and ``deny``: dated exceptions from the limits."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from ..admission import limit_requests
from ..admission.limit_requests import RequestJson
from ..core.errors import Refused
from ..core.settings import load_settings
from ..core.text import stamp
from ..policy.load import load_policy
from ..policy.requested import overrides_from
from ..policy.resolve import Person, resolve
from ..store import Store
from .common import Json, emit, printable, refuse, table
from .times import HELP, parse_time, utcnow

Number = Annotated[str, typer.Argument(metavar="ID", help="The request's id, or its unique beginning.")]
Until = Annotated[str | None, typer.Option(help=f"Until when: {HELP}.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("request")(request)
    app.command("requests")(requests)
    app.command("approve")(approve)
    app.command("deny")(deny)


def request(
    user: Annotated[str, typer.Argument(help="Who asks, by the hub's name.")],
    wanted: Annotated[
        list[str],
        typer.Argument(metavar="KEY=VALUE", help="Such as session.memory=32g, as the policy writes it."),
    ],
    reason: Annotated[str, typer.Option(help="What it is needed for.")],
    until: Annotated[str, typer.Option(help=f"Until when: {HELP}.")],
    groups: Annotated[str, typer.Option(help="The person's hub groups, with commas.")] = "",
    json: Json = False,
) -> None:
    """Ask for more than somebody's limits, in their name."""
    settings, now = load_settings(), utcnow()
    store, end = Store.open(settings.store), parse_time(until, now)
    person = Person(user, frozenset(g.strip() for g in groups.split(",") if g.strip()))
    try:
        values = _values(wanted)
        limits = resolve(
            load_policy(settings.policy), person, now, overrides_from(store.requests.overrides(now))
        )
        number = limit_requests.ask(store, limits, values, reason, end, now)
    except Refused as refused:
        refuse(refused.refusal.sentence, json, refusal=refused.refusal.as_dict())
    data = {"ok": True, "id": number, "user": user, "wanted": values, "until": end}
    emit(data, json, lambda d: print(f"{number}: asked. Answer it with: ds01 approve {number}"))


def requests(
    user: Annotated[str, typer.Option(help="Only this person's.")] = "",
    state: Annotated[
        str, typer.Option(help="asked, approved, denied, withdrawn, or all of them with all.")
    ] = "asked",
    json: Json = False,
) -> None:
    """List requests, newest first; the open ones unless --state says otherwise."""
    states = ("asked", "approved", "denied", "withdrawn", "all")
    if state not in states:
        raise typer.BadParameter(f"{state!r} is none of {', '.join(states)}")
    store = Store.open(load_settings().store)
    rows = store.requests.find(user or None, None if state == "all" else state)
    emit([limit_requests.as_json(r) for r in rows], json, lambda d: _show(d, state))


def approve(
    number: Number,
    value: Annotated[
        list[str] | None, typer.Option("--value", metavar="KEY=VALUE", help="Grant this instead.")
    ] = None,
    until: Until = None,
    answer: Annotated[str, typer.Option(help="What the person reads.")] = "",
    json: Json = False,
) -> None:
    """Approve a request: a dated exception, in force from now on."""
    end = parse_time(until, utcnow()) if until else None
    _decide(number, "approved", answer, value, end, json)


def deny(
    number: Number,
    reason: Annotated[str, typer.Option(help="Why; the person reads it.")],
    json: Json = False,
) -> None:
    """Deny a request, with a reason."""
    _decide(number, "denied", reason, None, None, json)


def _decide(
    number: str, state: str, answer: str, value: Sequence[str] | None, until: datetime | None, json: bool
) -> None:
    store, now = Store.open(load_settings().store), utcnow()
    try:
        wanted = _values(value) if value else None
        full = _full(store, number)
        done = limit_requests.decide(
            store, full, state, getpass.getuser(), now, answer=answer, wanted=wanted, until=until
        )
    except Refused as refused:
        refuse(refused.refusal.sentence, json, refusal=refused.refusal.as_dict())
    emit({"ok": True, **limit_requests.as_json(done)}, json, _say)


def _full(store: Store, number: str) -> str:
    """The one open request that begins so; else what was typed, which then is not found."""
    found = [r.id for r in store.requests.find(state="asked") if r.id.startswith(number)]
    return found[0] if len(found) == 1 else number


def _values(pairs: Sequence[str]) -> dict[str, object]:
    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE")
        found[key.strip()] = limit_requests.parse_value(text)
    return found


def _say(data: RequestJson) -> None:
    until = f" until {stamp(data['until'])}" if data["until"] and data["state"] == "approved" else ""
    print(printable(f"{data['user']}: {data['text']} is {data['state']}{until}."))


def _show(rows: list[RequestJson], state: str) -> None:
    if not rows:
        print("No request." if state == "all" else f"No request is {state}.")
        return
    table(
        ("id", "who", "asks for", "until", "state", "why"),
        [
            (
                r["id"],
                r["user"],
                r["text"],
                stamp(r["until"]) if r["until"] else None,
                r["state"],
                r["reason"],
            )
            for r in rows
        ],
    )

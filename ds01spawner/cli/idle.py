"""``ds01 keep-alive`` and ``ds01 idle``: give a session more time, and see what the idle service sees."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import Annotated

import typer

from ..core.errors import Refusal
from ..core.installation import load
from ..core.settings import Settings, load_settings
from ..core.text import clock, duration
from ..engines.docker.engine_reader import EngineReader, Running
from ..idle.idle_document import PublishedJson
from ..idle.idle_store import Book
from ..idle.model import IdleRules, Session
from ..idle.rules import from_policy
from ..idle.state import IdleFiles
from ..policy.resolve import Person
from ..site import Site
from ..store import Store
from .common import REFUSED, Json, emit, problems, reason_of, refuse, table
from .times import parse_span, utcnow

POLL_SECONDS = 60.0


def keep_alive(
    session: Annotated[str, typer.Argument(metavar="USER[/SERVER]", help="Whose session.")],
    span: Annotated[str, typer.Option("--for", help='How long from now, such as "4h".')] = "4h",
    reason: Annotated[str, typer.Option(help="Why; kept in the audit.")] = "",
    as_json: Json = False,
) -> None:
    """Keep a session from being retired as idle, within its owner's caps."""
    settings, now, wanted = load_settings(), utcnow(), parse_span(span).total_seconds()
    reason = reason_of(reason, "", as_json)
    found = _find(settings, session, as_json)
    store = Store.open(settings.store)
    labels = found.labels
    mine = Session(labels.session, labels.user, labels.server, labels.project)
    rules = _rules(settings, store, mine, now)
    answer = Book(lambda: store).keep_alive(
        mine, rules, wanted, now, by=getpass.getuser(), source="cli", reason=reason
    )
    if isinstance(answer, Refusal):
        refuse(answer.sentence, as_json, code=answer.code)
    data = {
        "ok": True,
        "session": labels.address,
        "seconds": answer.seconds,
        "until": answer.until.isoformat(),
        "left_session": answer.left_session,
        "left_day": answer.left_day,
        "message": answer.sentence,
    }
    emit(data, as_json, lambda d: print(f"{labels.address}: {d['message']}"))


def idle(
    session: Annotated[
        str | None, typer.Argument(metavar="[USER[/SERVER]]", help="One session, with every signal.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show each session's state, since when it is idle, when it is retired, and why."""
    settings, now = load_settings(), utcnow()
    document = IdleFiles(settings.state_dir).published(now)
    if document is None:
        refuse("The idle service has decided nothing yet: it does not run, or did not look once.", as_json)
    if session is not None:
        document["sessions"] = [s for s in document["sessions"] if s["address"] == session]
        if not document["sessions"]:
            refuse(f"The idle service knows no running session {session}.", as_json)
    emit(document, as_json, lambda d: _show(d, now, session is not None))
    if document["stale"]:
        raise typer.Exit(REFUSED)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("keep-alive")(keep_alive)
    app.command("idle")(idle)


def _find(settings: Settings, address: str, as_json: bool) -> Running:
    from ..engines.docker.engine_reader import connect

    running = EngineReader(lambda: connect(settings), lambda: load(settings.state_dir)).running()
    found = [r for r in running if r.labels.address == address]
    if found:
        return found[0]
    theirs = sorted(r.labels.address for r in running if r.labels.user == address.partition("/")[0])
    also = f" Running are: {', '.join(theirs)}." if theirs else ""
    refuse(f"There is no running session {address}.{also}", as_json)


def _rules(settings: Settings, store: Store, session: Session, now: datetime) -> IdleRules:
    """The owner's rules; the hub's groups are those noted at the start of the session."""
    record = store.sessions.get(session.id)
    person = Person(session.user, frozenset(record.groups if record else ()))
    limits = Site(settings).limits(person, now)
    return from_policy(limits.idle, limits.source("idle.timeout"), POLL_SECONDS)


def _show(document: PublishedJson, now: datetime, whole: bool) -> None:
    if document["stale"]:
        problems.print(
            f"The idle service last looked {duration(document['age'])} ago: it does not run. "
            "Nobody is retired meanwhile.",
            style="red",
        )
    rows = [
        (s["address"], s["state"], duration(s["idle_seconds"]), _end(s["retire_at"], now), s["reason"])
        for s in document["sessions"]
    ]
    table(("session", "state", "idle", "retired at", "why"), rows)
    if whole:
        grounds = document["sessions"][0]["why"]
        signals = [(g["name"], g["verdict"], g["measured"], g["threshold"]) for g in grounds]
        table(("signal", "says", "measured", "counts from"), signals)


def _end(retire_at: str | None, now: datetime) -> str:
    return clock(datetime.fromisoformat(retire_at), now) if retire_at else "-"

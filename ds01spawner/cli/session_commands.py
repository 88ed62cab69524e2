"""``ds01 sessions`` and ``ds01 retire``: what runs, and ending it with a reason its owner reads."""

from __future__ import annotations

import getpass
from datetime import datetime
from typing import Annotated

import typer

from .. import messages
from ..core import text
from ..core.installation import Standing
from ..core.settings import load_settings
from ..engines.base import EngineSession
from ..intents.carry import carry
from ..intents.intent import IntentError, intend
from ..site import Site
from ..store import SessionRecord as HistoryRecord
from .common import Json, emit, problems, reason_of, refuse, table
from .times import utcnow


def sessions(
    user: Annotated[str, typer.Option(help="Only this person's.")] = "",
    as_json: Json = False,
) -> None:
    """List every session on this machine, of whichever hub."""
    ledger = Site(load_settings()).engine.look()
    found = [r for r in (*ledger.sessions, *ledger.others) if not user or r.labels.user == user]
    now = utcnow()
    emit([as_dict(r) for r in found], as_json, lambda _: _show(found, now))


def retire(
    session: Annotated[str, typer.Argument(metavar="USER[/SERVER]", help="Whose session.")],
    reason: Annotated[str, typer.Option(help="Why; its owner reads it.")],
    grace: Annotated[int, typer.Option(help="Seconds its processes get to save.", min=1, max=60)] = 30,
    as_json: Json = False,
) -> None:
    """Retire a session: stop it, remove the container, free its devices. The files stay."""
    reason = reason_of(reason, "A retire needs a reason: the session's owner reads it.", as_json)
    site, now = Site(load_settings()), utcnow()
    record = find(site, session, as_json)
    by = getpass.getuser()
    said = f"{reason} (retired by {by})"
    site.endings.started(HistoryRecord.from_labels(record.labels, now))
    site.endings.noted(record.labels.session, now, said, "admin", by)
    wanted = intend(
        record.labels, now, reason=said, kind="admin", by=by, container=record.container, grace=grace
    )
    durable = True
    try:
        wanted = site.intents.ask(wanted)
    except IntentError as error:
        durable = False
        problems.print(f"A crash now would forget this retire: {error}", style="yellow", markup=False)
    done = carry(site, wanted, utcnow())
    site.endings.flush()
    if site.endings.spool.waiting():
        problems.print("The store is down: history has this later.", style="yellow", markup=False)
    data = {"ok": done.gone, **as_dict(record), "reason": reason, "log_tail": done.log_tail}
    if not done.gone:
        sentence = messages.retiring(done.problem) if durable else messages.NOT_RETIRED
        data |= {"state": "retiring" if durable else "running"}
        text_ = f"{record.labels.address}: {sentence} ({done.problem})"
        emit({**data, "message": text_}, as_json, lambda _: problems.print(text_, style="red", markup=False))
        raise typer.Exit(1)
    emit({**data, "state": "retired"}, as_json, lambda _: print(_retired(record)))


def find(site: Site, address: str, as_json: bool) -> EngineSession:
    """The session of this hub that an address ``USER[/SERVER]`` means; exits 1 where there is none."""
    ledger = site.engine.look()
    found = [r for r in ledger.sessions if r.labels.address == address]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(r.name for r in found)
        refuse(f"There are several sessions {address!r}, which cannot be: {names}. Run ds01 check.", as_json)
    for other in (r for r in ledger.others if r.labels.address == address):
        refuse(f"The session {address!r} is {whose(other)}: this command does nothing to it.", as_json)
    known = ", ".join(sorted(r.labels.address for r in ledger.sessions)) or "none"
    refuse(f"There is no session {address!r} of this hub. Running are: {known}.", as_json)


def whose(record: EngineSession) -> str:
    """Whose session it is, in words."""
    if record.standing is Standing.OURS:
        return "of this hub"
    if record.standing is Standing.FORGED:
        return f"of no user: the labels of the container {record.name} are forged"
    hub, of = record.labels.hub, record.labels.installation
    return f"of another installation (hub {hub!r}" + (f", installation {of})" if of else ")")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sessions)
    app.command()(retire)


def as_dict(record: EngineSession) -> dict[str, object]:
    """One session as ``--json`` tells it."""
    labels = record.labels
    return {
        **labels.identity(),
        "hub": labels.hub,
        "whose": record.standing.value,
        "state": record.state,
        "devices": list(labels.gpu_uuids),
        "equivalents": labels.gpu_equivalents,
        "created_at": labels.created_at,
        "expires_at": labels.expires_at or None,
        "container": record.container,
        "name": record.name,
    }


def _show(found: list[EngineSession], now: datetime) -> None:
    rows = [
        (
            r.labels.address,
            _hub(r),
            r.labels.project,
            r.labels.environment,
            ", ".join(r.labels.gpu_uuids) or "CPU only",
            r.state,
            text.ago(text.parse_time(r.labels.created_at), now),
            text.moment(text.parse_time(r.labels.expires_at)) if r.labels.expires_at else "no end",
        )
        for r in found
    ]
    table(("session", "hub", "project", "environment", "devices", "state", "started", "ends"), rows)
    print(f"{text.plural(len(found), 'session')}.")


def _hub(record: EngineSession) -> str:
    notes = {Standing.OURS: "", Standing.FOREIGN: " (another)", Standing.FORGED: " (forged labels)"}
    return f"{record.labels.hub}{notes[record.standing]}"


def _retired(record: EngineSession) -> str:
    labels = record.labels
    freed = f" {text.plural(len(labels.gpu_uuids), 'device')} came free." if labels.gpu_uuids else ""
    return f"{labels.address} is retired: its container is gone.{freed} The project {labels.project} stays."

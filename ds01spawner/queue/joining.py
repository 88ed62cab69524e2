"""Joining, leaving and looking at the queue: what page, REST, form and command share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypedDict
from uuid import uuid4

from .. import messages
from ..core.errors import Refusal, Refused, StoreError
from ..core.names import is_server_name
from ..placement.place import sevenths
from ..policy.options import LaunchOptions
from ..policy.plan import equivalents_of
from ..policy.resolve import Limits, Person
from ..site import Site
from ..store import Store
from ..store.rows import TicketRow
from ..store.shown import AheadJson, EstimateJson, ShownJson
from ..store.tickets import NewTicket
from . import ticket_rules

JOINS_A_DAY = 200
"""Places that one person may take within 24 hours: each is kept in the history, whatever became of it."""

_Place = TypedDict("_Place", {"state": str, "position": int | None, "class": str})


class TicketJson(_Place, total=False):
    """A place in the queue; ``id`` to ``devices`` are for its owner and admins alone."""

    id: str
    user: str
    server: str
    project: str
    reason: str
    ahead: list[AheadJson]
    estimate: EstimateJson | None
    arrived: str | None
    expires_at: str | None
    claim_until: str | None
    devices: list[str]
    mine: bool


def join(
    store: Store,
    person: Person,
    limits: Limits,
    options: LaunchOptions,
    server: str,
    now: datetime,
    known: Iterable[str] = (),
) -> TicketRow:
    """A place in the queue for these options, or the one the same server has already.

    ``known`` are servers that the hub has already, whatever their names. Raises `Refused` when the hub
    cannot have such a server, or the policy gives no (more) places. Quota is checked when its turn comes.
    """
    if not is_server_name(server) and server not in known:
        raise Refused(messages.bad_server(server))
    wait = limits.queue.max_wait
    stored = options.stored()
    values: NewTicket = {
        "id": uuid4().hex[:12],
        "user": person.name,
        "server": server,
        "groups": sorted(person.groups),
        "profile": options.gpu,
        "count": options.gpu_count,
        "preemptible": options.preemptible,
        "priority": limits.queue.priority,
        "options": {k: v for k, v in stored.items() if k not in ("wait", "profile")},
        "expires_at": None if wait is None else now + timedelta(seconds=wait),
    }
    return store.tickets.add(values, now, partial(_admit, limits))


def _admit(limits: Limits, live: int, day: int) -> None:
    most = limits.queue.max_tickets
    if most is not None and live >= most:
        raise Refused(messages.too_many_tickets(most, limits.source("queue.max_tickets")))
    if day >= JOINS_A_DAY:
        raise Refused(messages.too_many_a_day("places in the queue", JOINS_A_DAY))


def addresses(refusal: Refusal, service_url: str) -> dict[str, str]:
    """HTTP headers of an answer with a place in the queue: its address, and the page a browser goes to."""
    if not refusal.ticket:
        return {}
    page = f"{service_url}queue?ticket={refusal.ticket}"
    return {"Location": f"{service_url}api/queue/{refusal.ticket}", "Refresh": f"0; url={page}"}


CURED_BY_WAITING = ("gpus-full", "gpus-unavailable", "gpus-drained", "gpu-quota", "sessions-max")
"""Refusals of a start that a place in the queue answers."""


def instead_of(
    site: Site,
    person: Person,
    options: LaunchOptions,
    server: str,
    refusal: Refusal,
    now: datetime,
    url: str = "",
) -> Refusal:
    """What a refused start answers: a place in the queue where its owner chose to wait and waiting helps.

    Blocking. Where the queue cannot be joined the answer says why, and the first refusal stays in it.
    """
    if not options.wait or refusal.code not in CURED_BY_WAITING:
        return refusal
    limits = site.limits(person, now)
    most = limits.gpu.max_equivalents
    if most is not None and round(equivalents_of(options.gpu) * options.gpu_count * 7) > sevenths(most):
        return refusal  # more than the whole quota: no waiting mends that
    try:
        row = join(site.store(), person, limits, options, server, now, known=(server,))
    except Refused as refused:
        return replace(refused.refusal, asked=f"{refusal.asked}; {refusal.limit}")
    except StoreError:
        return replace(refusal, do="try again later: the queue cannot be joined at the moment")
    return messages.queued(row.count, row.profile, row.id, url)


def cancel(store: Store, ticket: str, by: Person, now: datetime) -> TicketRow:
    """Give a place up; its owner or an admin may. A stranger learns nothing: 404."""
    for _ in range(5):  # another writer may be faster; then look again at what it did
        row = store.tickets.get(ticket)
        if row is None or (row.user != by.name and not by.admin):
            raise Refused(messages.ticket_unknown())
        reason = "given up" if row.user == by.name else f"taken out by {by.name}"
        change = ticket_rules.cancel(row.state, now, reason)
        if store.tickets.move(
            ticket, row.version, now, change.changes, action=change.action, release=change.release
        ):
            if row.user != by.name:
                text = f"Your place in the queue for {ticket_rules.from_row(row).kind} was {reason}."
                store.notices.add(row.user, text, now, kind="queue", level="warning")
            return replace(row, **change.changes)
    raise Refused(messages.ticket_unknown())


def own(store: Store, ticket: str, person: Person) -> TicketJson:
    """One ticket in full, for its owner or an admin."""
    row = store.tickets.get(ticket)
    if row is None or (row.user != person.name and not person.admin):
        raise Refused(messages.ticket_unknown())
    return describe(row)


def listing(rows: Iterable[TicketRow], person: Person, names: bool = False) -> list[TicketJson]:
    """The line as ``person`` may see it: the own places in full, those of others by class alone."""
    found: list[TicketJson] = []
    for row in rows:
        mine = row.user == person.name
        line = describe(row) if mine or names or person.admin else _class(row)
        found.append({**line, "mine": mine})
    order = {"starting": 0, "granted": 1, "waiting": 2}
    found.sort(key=lambda r: (order.get(r["state"], 3), r["position"] or 0))
    return found


def describe(row: TicketRow) -> TicketJson:
    """One ticket as JSON."""
    shown: ShownJson = row.shown or {}
    return {
        **_class(row),
        "id": row.id,
        "user": row.user,
        "server": row.server,
        "project": row.options.get("project", ""),
        "reason": (shown.get("reason", "") if row.state == "waiting" else "") or row.reason,
        "ahead": shown.get("ahead", []) if row.state == "waiting" else [],
        "estimate": shown.get("estimate") if row.state == "waiting" else None,
        "arrived": _iso(row.arrived),
        "expires_at": _iso(row.expires_at),
        "claim_until": _iso(row.claim_until),
        "devices": list(row.devices),
    }


def _class(row: TicketRow) -> TicketJson:
    waiting = row.state == "waiting"
    return {
        "state": row.state,
        "position": (row.shown or {}).get("position") if waiting else None,
        "class": ticket_rules.from_row(row).kind,
    }


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="seconds")

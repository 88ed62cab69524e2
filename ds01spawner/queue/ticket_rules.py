"""What may become of a ticket. Pure.

waiting → granted (devices on hold for the claim window) → starting → started; or expired, cancelled,
failed. A start that fails puts the ticket back in its old place, a few times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from .. import messages
from ..core.errors import Refused
from ..placement.devices import GpuRequest
from ..store.rows import TicketRow
from ..store.tickets import TicketChanges
from .ticket import Ticket, TicketState

Step = Literal["grant", "start", "running", "return", "fail", "expire", "cancel"]
MAX_ATTEMPTS = 3
"""Starts that may fail before the ticket does."""

_MOVES: dict[tuple[str, Step], TicketState] = {
    ("waiting", "grant"): "granted",
    ("waiting", "running"): "started",
    ("waiting", "expire"): "expired",
    ("waiting", "cancel"): "cancelled",
    ("granted", "start"): "starting",
    ("granted", "running"): "started",
    ("granted", "return"): "waiting",
    ("granted", "expire"): "expired",
    ("granted", "fail"): "failed",
    ("granted", "cancel"): "cancelled",
    ("starting", "running"): "started",
    ("starting", "return"): "waiting",
    ("starting", "fail"): "failed",
    ("starting", "cancel"): "cancelled",
}


def after(state: str, step: Step) -> TicketState | None:
    """The state after ``step``, or None where that cannot happen (any more)."""
    return _MOVES.get((state, step))


@dataclass(frozen=True)
class Change:
    """A change to write: the columns, the event, and what to do with the hold."""

    changes: TicketChanges
    action: str
    hold: tuple[str, ...] | None = None
    release: bool = False


def grant(state: str, devices: tuple[str, ...], now: datetime, claim_window: timedelta) -> Change:
    """Hold ``devices`` for the claim window."""
    _must(state, "grant")
    changes: TicketChanges = {
        "state": "granted",
        "granted_at": now,
        "claim_until": now + claim_window,
        "devices": devices,
        "reason": "",
    }
    return Change(changes, "granted", hold=devices)


def start(state: str, now: datetime, attempts: int) -> Change:
    """Note, before the hub is asked, that it will be; a second asking is recognised by this."""
    _must(state, "start")
    return Change({"state": "starting", "starting_at": now, "attempts": attempts + 1}, "starting")


def running(state: str, now: datetime) -> Change:
    """The session is there, by whatever way: the place was used."""
    _must(state, "running")
    return Change({"state": "started", "ended_at": now, "reason": ""}, "started", release=True)


def give_back(state: str, now: datetime, reason: str, attempts: int) -> Change:
    """The start did not work: back to the old place, or failed after `MAX_ATTEMPTS`."""
    if attempts >= MAX_ATTEMPTS and after(state, "fail"):
        return Change({"state": "failed", "ended_at": now, "reason": reason}, "failed", release=True)
    _must(state, "return")
    changes: TicketChanges = {
        "state": "waiting",
        "reason": reason,
        "devices": (),
        "claim_until": None,
        "starting_at": None,
    }
    return Change(changes, "returned", release=True)


def fail(state: str, now: datetime, reason: str) -> Change:
    """The start can never work (a refusal that waiting does not mend)."""
    _must(state, "fail")
    return Change({"state": "failed", "ended_at": now, "reason": reason}, "failed", release=True)


def expire(state: str, now: datetime, reason: str) -> Change:
    """Waited longer than the policy lets, or not claimed in time."""
    _must(state, "expire")
    return Change({"state": "expired", "ended_at": now, "reason": reason}, "expired", release=True)


def cancel(state: str, now: datetime, reason: str) -> Change:
    """Given up by its owner, or with their account."""
    _must(state, "cancel")
    return Change({"state": "cancelled", "ended_at": now, "reason": reason}, "cancelled", release=True)


def overdue(row: TicketRow, now: datetime) -> str:
    """Why a ticket as stored must expire now, or ``""``."""
    if row.state == "waiting" and row.expires_at is not None and now >= row.expires_at:
        return "it waited as long as the policy lets a place wait"
    if row.state == "granted" and row.claim_until is not None and now >= row.claim_until:
        return "the devices were kept for the claim window and the session was not started in it"
    return ""


def from_row(row: TicketRow, groups: tuple[str, ...] | None = None, **changed: Any) -> Ticket:
    """A stored ticket as the order sees it; ``changed`` are rights read anew (request, priority)."""
    request = GpuRequest(row.profile or "none", row.count, preemptible=row.preemptible)
    ticket = Ticket(
        id=row.id,
        user=row.user,
        server=row.server,
        arrived=row.arrived,
        groups=row.groups if groups is None else groups,
        request=request,
        priority=row.priority,
        state=cast(TicketState, row.state),
    )
    return replace(ticket, **changed)


def _must(state: str, step: Step) -> None:
    if after(state, step) is None:
        raise Refused(messages.ticket_over(step, state))

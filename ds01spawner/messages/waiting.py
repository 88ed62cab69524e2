"""What is said of places in the queue and of reservations. Pure."""

from __future__ import annotations

from ..core.errors import Refusal
from .examples import RETRY_SOON, example

_STEPS = {
    "grant": "be granted",
    "start": "be started",
    "running": "be marked as started",
    "return": "be put back",
    "fail": "be marked as failed",
    "expire": "expire",
    "cancel": "be cancelled",
}


@example(count=1, profile="1g.10gb", ticket="3f9c", url="/services/ds01/queue")
def queued(count: int, profile: str, ticket: str, url: str = "") -> Refusal:
    """A start that became a place in the queue: accepted, not failed. 202, because 5xx answers count towards
    the hub's limits on failures."""
    at = f" at {url}?ticket={ticket}" if url else ""
    return Refusal(
        code="queued",
        asked=f"{count} × {profile} was asked for",
        limit="nothing that fits is free, so you have a place in the queue",
        do=f"you need do nothing: the session starts by itself when it is your turn; see the queue page{at}",
        status=202,
        retry_after=2 * RETRY_SOON,
        ticket=ticket,
    )


@example()
def ticket_unknown() -> Refusal:
    """There is no such place in the queue, or it is another person's."""
    return Refusal(
        code="no-ticket",
        asked="this place in the queue was asked for",
        limit="there is none of yours by that number",
        do="look at the queue page for the places you hold",
        status=404,
    )


@example(step="cancel", state="started")
def ticket_over(step: str, state: str) -> Refusal:
    """A place in the queue cannot take this step from the state it is in."""
    return Refusal(
        code="ticket-over",
        asked=f"the place in the queue should {_STEPS[step]}",
        limit=f"it is {state} already",
        do="look at the queue page for how it stands, or join the queue again",
        status=409,
    )


@example(why="the container engine did not answer")
def not_readable_now(why: str) -> Refusal:
    """Something that the start rests on could not be read; the queue tries again."""
    return Refusal("unknown", "your session should start", why, "it is tried again by itself")


@example(why="from is not a time such as 2026-03-02T14:00")
def bad_reservation(why: str, do: str = "correct it and send it again; nothing was reserved") -> Refusal:
    """A reservation that cannot be made as it stands."""
    return Refusal(
        code="bad-reservation", asked="this reservation cannot be made", limit=why, do=do, status=400
    )

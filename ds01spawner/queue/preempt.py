"""Which preemptible sessions must make room for people who are entitled to their devices. Pure.

Their owners took devices beyond their quota, or in front of a reservation, on these terms. The fewest go:
only where somebody entitled could start then, only as many as that takes, and the youngest first, because
the least work is lost with it. Who was warned already goes before who was not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..placement.devices import Holding
from .ticket import Ticket

Place = Callable[[Ticket, Sequence[Holding]], tuple[str, ...] | None]
"""The devices a ticket would get if only these holdings stood, or None."""


@dataclass(frozen=True)
class Preemptible:
    """A running session that goes first. ``warned``: it has been told already."""

    session: str
    user: str
    server: str
    project: str
    started: datetime
    warned: bool = False


def victims(
    line: Iterable[Ticket],
    sessions: Mapping[str, Preemptible],
    holdings: Sequence[Holding],
    place: Place,
    reserved: Mapping[str, datetime] | None = None,
) -> list[Preemptible]:
    """Who must go for the ``line`` (entitled, not preemptible, in order) and the ``reserved`` devices.

    ``reserved`` says from when each device was kept: a session that began later is of those it is for.
    """
    kept = reserved or {}
    gone = {
        h.session
        for h in holdings
        if h.session in sessions and h.uuid in kept and sessions[h.session].started < kept[h.uuid]
    }
    left = [h for h in holdings if h.session not in gone]
    for ticket in line:
        if (devices := place(ticket, left)) is None:
            leave, devices = _fewest(ticket, sessions, left, place)
            gone |= leave
            left = [h for h in left if h.session not in leave]
        left += [Holding(u, holder="somebody in the queue", kind="session") for u in devices or ()]
    return [sessions[s] for s in sorted(gone)]


def _fewest(
    ticket: Ticket, sessions: Mapping[str, Preemptible], left: Sequence[Holding], place: Place
) -> tuple[set[str], tuple[str, ...] | None]:
    """The fewest sessions without which the ticket fits (taken one after the other), and its devices."""
    holding = {h.session for h in left if h.session in sessions}
    order = sorted(holding, key=lambda s: (not sessions[s].warned, -sessions[s].started.timestamp(), s))
    for alone in order:
        if devices := place(ticket, [h for h in left if h.session != alone]):
            return {alone}, devices
    leave: set[str] = set()
    for session in order:
        leave.add(session)
        if devices := place(ticket, [h for h in left if h.session not in leave]):
            return _needed(ticket, leave, left, place, devices)
    return set(), None


def _needed(
    ticket: Ticket, leave: set[str], left: Sequence[Holding], place: Place, devices: tuple[str, ...]
) -> tuple[set[str], tuple[str, ...]]:
    """Without those that turn out not to be in the way."""
    for session in sorted(leave):
        fewer = leave - {session}
        if fewer and (found := place(ticket, [h for h in left if h.session not in fewer])):
            leave, devices = fewer, found
    return leave, devices

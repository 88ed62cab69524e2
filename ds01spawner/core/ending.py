"""How a session ended: one record, and which of two reports about the same end knows better. Pure.

Several processes see a session end: the hub's poll, its stop, the reconciler, the engine's events, an
admin's command. Each reports what it knows; `merged` makes one record of it, whatever the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum

RANKS: tuple[tuple[str, ...], ...] = (
    ("lost",),
    ("unknown",),
    ("removed",),
    ("killed", "engine", "shutdown"),
    ("crashed", "oom"),
    ("failed", "refused", "cancelled", "leftover"),
    ("stopped",),
    ("retired", "idle", "lifetime", "admin", "preempted", "orphan"),
)
"""Kinds of ends by how much whoever reports them knows, least first.

``lost``: gone when next looked for. ``unknown``: it ended, and no reason was recorded. Then what the
engine's own record says: ``removed`` from outside, which whoever still found the container knows better;
``killed`` from outside, ended with the container ``engine``, ``shutdown`` from inside, ``crashed``,
``oom``. A start that never came up was ``failed``, ``refused`` or ``cancelled``; what one left behind is a
``leftover``. ``stopped`` is a stop through the hub whose author is not known. Last the decisions, whose
authors say why: ``retired`` by its owner, ``idle``, ``lifetime``, ``admin``, ``preempted``, ``orphan`` (the
hub had lost it, and nobody came back to it).
"""
KNOWLEDGE: Mapping[str, int] = {kind: rank for rank, kinds in enumerate(RANKS) for kind in kinds}
BY_SOMEBODY = frozenset({"removed", "killed", "engine", "shutdown"})
"""Ends of which the engine tells what was done, and not by whom."""
SKEW = timedelta(seconds=1)
"""How far the clocks of the engine and of this process may differ."""
NOTE_COUNTS = timedelta(minutes=10)
"""How long a decision that was noted explains the end that follows: one that was not carried out leaves
no false explanation of a later end."""
TAIL_KEPT = 4000


class Clock(IntEnum):
    """Whose time an end has, the least exact first."""

    last_seen = 0
    """It ended some time after this."""
    noticed = 1
    """Somebody found it ended, or ended it, at this time."""
    engine = 2
    """The engine's own record of the moment."""


@dataclass(frozen=True)
class Ended:
    """The end of one session.

    ``since`` is when the cause came into the world (a decision to retire): an end before it had another.
    """

    session: str
    at: datetime
    kind: str
    reason: str = ""
    exit_code: int | None = None
    oom: bool = False
    by: str = ""
    """Who or what decided it; empty where it ended by itself."""
    clock: Clock = Clock.noticed
    since: datetime | None = None
    log_tail: str = ""


def without_records(ended: Ended, reason: str) -> Ended:
    """What may be said of an end where the decisions of its time are lost: not that there was none. Pure.

    The engine says that a container was removed or stopped, whoever had it done. Its word alone would read
    "from outside" of sessions that their owners retired.
    """
    if ended.kind not in BY_SOMEBODY:
        return ended
    return replace(ended, kind="unknown", reason=reason)


def merged(known: Ended | None, new: Ended) -> Ended:
    """One record of two reports: the cause from whoever knows it better, the time from the better clock."""
    if known is None:
        return new
    cause, other = (new, known) if knows_better(new, known) else (known, new)
    time = new if new.clock > known.clock else known
    measured = cause if cause.exit_code is not None else other
    return replace(
        cause,
        at=time.at,
        clock=time.clock,
        exit_code=measured.exit_code,
        oom=measured.oom,
        log_tail=cause.log_tail or other.log_tail,
    )


def knows_better(new: Ended, known: Ended) -> bool:
    """Whether ``new`` explains this end better than ``known``; where neither does, what was known stays."""
    if not _can_have_caused(new, known):
        return False
    if not _can_have_caused(known, new):
        return True
    return rank(new.kind) > rank(known.kind)


def carried_out(decision: Ended, itself: Ended | None) -> Ended:
    """A decision whose session was seen to run after it was made: it came before the end, whatever the
    clocks of those who decided and of the engine say. Pure."""
    if itself is None or decision.since is None:
        return decision
    return replace(decision, since=min(decision.since, itself.at))


def rank(kind: str) -> int:
    """How much a report of this kind knows; a kind of another version as little as none."""
    return KNOWLEDGE.get(kind, KNOWLEDGE["unknown"])


def decided(end: Ended, note: Ended) -> Ended:
    """An end as the decision ``note``, made before it, explains it; the end itself where it does not.

    Nobody carries out a decision for ever: one that is older than `NOTE_COUNTS` explains nothing.
    """
    if note.since is None or end.at - note.since > NOTE_COUNTS:
        return end
    if end.clock is Clock.last_seen:
        end = replace(end, at=max(end.at, note.since))  # whoever decided it saw it run
    return merged(end, replace(note, at=end.at, clock=end.clock))


def _can_have_caused(cause: Ended, end: Ended) -> bool:
    return cause.since is None or end.clock is not Clock.engine or end.at >= cause.since - SKEW

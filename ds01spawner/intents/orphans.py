"""Which sessions nobody owns, and what becomes of them. Pure: one look in, decisions out.

A container of this installation is owned by a server that the hub lists, or by an intent. One that has
neither for a while gets an intent: at once where it does not run (a start or an end left it behind), and
with time for its owner to come back where it does. While the hub does not answer nothing is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ..core.labels import SessionLabels
from ..messages import end_clauses
from .intent import Intent, intend

UNKNOWN_S = 60.0
"""How long the hub must not list a session's server before that means something: a hub that was just
started lists its servers within seconds, and a start that was cut off is cleared within them."""
LOOKS = 3
"""At so many looks at least, so that one slow look after a long pause proves nothing."""
ENDED_UNKNOWN_S, ENDED_LOOKS = 15.0, 2
"""The same for a container whose process has ended: it cannot come back to the hub, and its device is kept
until it is removed. A hub that fails now and then must not put that off for ever, so what was seen before it
stopped answering counts on."""
ENDED = frozenset({"exited", "dead"})
DEAD = ENDED | {"created"}


@dataclass(frozen=True)
class Present:
    """A container of this installation, as the engine lists it."""

    labels: SessionLabels
    container: str
    state: str = "running"


@dataclass(frozen=True)
class Server:
    """A server that the hub lists as running, starting or stopping. ``container`` is the one it knows."""

    container: str = ""
    ready: bool = True


@dataclass(frozen=True)
class Missed:
    """Since when, and at how many looks, the hub did not list a session's server."""

    since: datetime
    looks: int = 1


@dataclass(frozen=True)
class Rules:
    """``limit`` is the longest a session runs without a server, ``lead`` the shortest its owner is warned."""

    limit: timedelta = timedelta(hours=24)
    lead: timedelta = timedelta(minutes=15)
    unknown: timedelta = timedelta(seconds=UNKNOWN_S)
    ended: timedelta = timedelta(seconds=ENDED_UNKNOWN_S)

    def long_enough(self, state: str, seen: Missed, now: datetime) -> bool:
        """Whether a container in that ``state`` has been without a server for so long that it has none."""
        least, looks = (self.ended, ENDED_LOOKS) if state in ENDED else (self.unknown, LOOKS)
        return now - seen.since >= least and seen.looks >= looks


@dataclass(frozen=True)
class Plan:
    """What follows from one look. ``missed`` is for the next one."""

    ask: tuple[Intent, ...] = ()
    withdraw: tuple[str, ...] = ()
    """Sessions whose server the hub lists again, or that are gone."""
    missed: Mapping[str, Missed] = field(default_factory=dict)


def plan(
    present: Iterable[Present],
    servers: Mapping[tuple[str, str], Server] | None,
    intents: Mapping[str, Intent],
    missed: Mapping[str, Missed],
    now: datetime,
    rules: Rules,
) -> Plan:
    """Decide for every session. ``servers`` None: the hub does not answer, so nothing is unknown."""
    present = list(present)
    if servers is None:
        ended = {p.labels.session for p in present if p.state in ENDED}
        return Plan(missed={s: m for s, m in missed.items() if s in ended})
    there = {p.labels.session for p in present}
    ask, still = [], dict[str, Missed]()
    withdraw = [i.session for i in intents.values() if i.waits(now) and i.session not in there]
    for each in present:
        session = each.labels.session
        intent, known = intents.get(session), owned(each, servers)
        if intent is not None:
            if known and intent.kind == "orphan" and intent.waits(now):
                withdraw.append(session)
            continue
        if known:
            continue
        before = missed.get(session)
        seen = Missed(before.since, before.looks + 1) if before and before.since <= now else Missed(now)
        still[session] = seen
        if rules.long_enough(each.state, seen, now):
            ask.append(leftover(each, now) if each.state in DEAD else orphan(each, now, rules))
    return Plan(tuple(ask), tuple(withdraw), still)


def owned(each: Present, servers: Mapping[tuple[str, str], Server]) -> bool:
    """Whether the hub lists this very session: the server's name, and the container where it says one."""
    server = servers.get((each.labels.user, each.labels.server))
    if server is None:
        return False
    return not (server.ready and server.container and server.container != each.container)


def leftover(each: Present, now: datetime) -> Intent:
    """A container that no session can come of any more goes now."""
    return intend(
        each.labels,
        now,
        reason=end_clauses.LEFTOVER,
        kind="leftover",
        by="ds01",
        container=each.container,
        grace=1,
        alone=True,
    )


def orphan(each: Present, now: datetime, rules: Rules) -> Intent:
    """A running session without a server ends with its lifetime, or at the limit; never unwarned."""
    end, why = now + rules.limit, "the hub did not know it any more, and its owner did not come back to it"
    try:
        lifetime = datetime.fromisoformat(each.labels.expires_at)
    except ValueError:
        lifetime = None
    if lifetime is not None and lifetime.tzinfo is not None and lifetime < end:
        end, why = lifetime, "it reached the end of its lifetime"
    return intend(
        each.labels,
        now,
        reason=f"Retired: {why}",
        kind="orphan",
        by="ds01",
        container=each.container,
        due=max(end, now + rules.lead),
        alone=True,
    )

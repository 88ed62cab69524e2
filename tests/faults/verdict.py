"""What must hold, decided from plain facts: the engine's truth beside what the product says. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .history import Row
from .observe import Seen

END_WITHIN_S = 2.0
SHARE = 0.01
"""By how much accounting may differ from the engine's own times."""
SETTLE_S = 90.0
"""Seconds after an end in which history must have it."""
TOUCH_S = 30.0
"""Seconds after something was done to a session in which its end may come of that."""
SHORT_S = 1.5
"""A session that was killed this soon may not have written its file to the end."""

REASONS: Mapping[str, str] = {
    "owner": r"retired by (its|the) owner|you retired it|stopped through JupyterHub",
    "service": r"retired by (its|the) owner|you retired it",
    "admin": r"reason \d+",
    "exit": r"exit code \d+",
    "memory": r"memory",
    "kill": r"exit code 137|killed|SIGKILL|memory",
    "outside killed": r"exit code 137|killed|SIGKILL",
    "outside stopped": r"exit code (0|137|143)|stopped|ended|shut down",
    "outside removed": r"removed|gone|exit code 137|killed|SIGKILL",
    "engine": r"engine|exit code (0|137|143)|gone|killed|removed",
}
"""What the reason of an end says, by what was done."""

WENT_WITH_THE_STORE = r"written in the session store that was removed or replaced"
"""What is true of a session whose decision was written in a store that was taken away."""

HARMLESS = frozenset({"ready", "network", "outside paused"})
"""What ends no session."""


@dataclass(frozen=True)
class Violation:
    """Something that must not be, and the session it is about."""

    rule: str
    text: str
    session: str = ""


def untouched_are_not_lost(sessions: Iterable[Seen]) -> list[Violation]:
    """A session ends because of something that was done to it."""
    return [
        Violation("nothing untouched is lost", f"{s.name} ended and nothing had been done to it", s.session)
        for s in sessions
        if s.began and s.over_at and not _causes(s) and not _brief(s)
    ]


def _brief(seen: Seen) -> bool:
    """A start that did not come up: the product may end it by its own rules."""
    return not any(cause == "ready" for _, cause in seen.causes)


def _causes(seen: Seen) -> set[str]:
    return {cause for _, cause in seen.causes if cause not in HARMLESS}


def ends_are_true(
    sessions: Iterable[Seen],
    told: Mapping[str, Row],
    now: float,
    exempt: Collection[str],
    by_a_wrong_clock: Collection[str] = (),
    store_lost_at: float = 0.0,
    forgotten: Collection[str] = (),
) -> list[Violation]:
    """Each ended session is in history, with its true reason and its end within two seconds.

    What ended before ``store_lost_at``, the last time the store was taken away, may be told anew from the
    engine's events, which know no decisions. Of what is ``forgotten`` the engine may have known nothing any
    more when hub and service came back: such an end is told as lost, and no later than it was.
    """
    found: list[Violation] = []
    for seen in sessions:
        over = seen.over_at
        if not seen.began or over is None or now - over < SETTLE_S:
            continue
        row = told.get(seen.session)
        if seen.session in exempt and (row is None or row.ended is None):
            continue  # what was read before the store was taken away may be a record that was not finished
        if row is None:
            found.append(Violation("every session is in history", f"{seen.name} is not", seen.session))
            continue
        if (
            row.kind == "lost"
            and seen.session in forgotten
            and row.ended
            and row.ended <= over + END_WITHIN_S
        ):
            continue
        exact = seen.session not in by_a_wrong_clock
        store_lost = seen.session in exempt or over < store_lost_at
        found += _end(seen, row, over, exact, store_lost)
    return found


def _end(seen: Seen, row: Row, over: float, exact: bool, store_lost: bool = False) -> list[Violation]:
    if row.ended is None:
        return [Violation("history ends what ended", f"{seen.name} still runs in history", seen.session)]
    found = []
    true = seen.ended or over
    if exact and seen.ended and abs(row.ended - true) > END_WITHIN_S:
        text = f"{seen.name}: history's end is {row.ended - true:+.1f} s off"
        found.append(Violation("ends are exact", text, seen.session))
    causes = _causes(seen)
    patterns = [REASONS[c] for c in causes if c in REASONS]
    if patterns and store_lost:
        patterns.append(WENT_WITH_THE_STORE)
    if patterns and not any(re.search(p, row.reason, re.IGNORECASE) for p in patterns):
        text = f"{seen.name}: {', '.join(sorted(causes))}; history says {row.kind!r}: {row.reason!r}"
        found.append(Violation("reasons are true", text, seen.session))
    said = re.search(r"exit code (-?\d+)", row.reason)
    if seen.code is not None and said and int(said[1]) != seen.code:
        text = f"{seen.name} ended with {seen.code}; history says {row.reason!r}"
        found.append(Violation("reasons are true", text, seen.session))
    return found


def accounting_is_right(
    sessions: Iterable[Seen], told: Mapping[str, Row], exempt: Collection[str]
) -> tuple[float, float, list[Violation]]:
    """Device-seconds by the engine and by history, over all sessions with known times."""
    true = said = 0.0
    for seen in sessions:
        if not seen.began or not seen.ended or not seen.devices or seen.session in exempt:
            continue
        row = told.get(seen.session)
        true += seen.ended - seen.created
        said += (row.ended or row.began) - row.began if row else 0.0
    if true and abs(said - true) / true > SHARE:
        text = f"{said:.0f} s of devices in history, {true:.0f} s by the engine"
        return true, said, [Violation("accounting is within one per cent", text)]
    return true, said, []


def workspaces_are_whole(
    sessions: Iterable[Seen],
    contents: Mapping[tuple[str, str, str], bytes],
    expected: bytes,
    no_room: Collection[str] = (),
) -> list[Violation]:
    """Each session's file is there and says what it wrote, but for those that had no room to write."""
    found = []
    for seen in sessions:
        over = seen.over_at or seen.running_at
        if not seen.began or over - seen.began < SHORT_S or seen.session in no_room or _brief(seen):
            continue
        content = contents.get((seen.user, seen.project, seen.session))
        if content != expected:
            what = "is missing" if content is None else f"has {len(content)} bytes of {len(expected)}"
            found.append(Violation("workspaces are whole", f"the file of {seen.name} {what}", seen.session))
    return found


@dataclass(frozen=True)
class DeviceSaid:
    """A device as the service shows it."""

    uuid: str
    state: str
    holder: str


def card(slice_uuid: str) -> str:
    """The card of a slice of the campaign's machine, as its UUID spells it."""
    return slice_uuid[: len("MIG-0001")]


def held_devices(held: Iterable[str], shown: Collection[str]) -> set[str]:
    """Which of the devices shown are held, see `devices_are_free_or_held`."""
    held = set(held)
    cards = {card(u) for u in held - set(shown)}
    return {u for u in shown if u in held or card(u) in cards}


def devices_are_free_or_held(said: Sequence[DeviceSaid], there: Iterable[Seen]) -> list[Violation]:
    """Held is what a container of a session holds, free is the rest.

    A slice that was re-made while a session began on it is gone, and which of the new ones took its place on
    the card cannot be told: its session holds all of them.
    """
    holders = {u: s for s in there for u in s.devices}
    shown = {d.uuid for d in said}
    cards = {card(u): s for u, s in holders.items() if u not in shown}
    found = []
    for device in said:
        holder = holders.get(device.uuid) or cards.get(card(device.uuid))
        if holder is None and device.state in ("held", "foreign"):
            text = f"{device.uuid} is shown as {device.state} ({device.holder}) and no container has it"
            found.append(Violation("devices are free or held", text))
        if holder is not None and device.state == "free":
            text = f"{device.uuid} is shown as free and {holder.name} has it"
            found.append(Violation("devices are free or held", text, holder.session))
    return found

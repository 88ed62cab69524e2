"""Keeping a session alive: one bounded extension, whether by button, command or ``.keep-alive``. Pure.

An extension is *granted seconds*: it begins where the one before it ends, or now. So what a person has
used of a cap is the sum of granted seconds, and asking again for a time already granted costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from .. import messages
from ..core.errors import Refusal
from ..core.text import clock, duration
from .model import KeepAliveCaps

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Extension:
    """One audited grant: ``seconds`` given at ``at``, by whom and through what (button, cli, file)."""

    at: datetime
    seconds: float
    by: str = ""
    source: str = ""


@dataclass(frozen=True)
class Used:
    """Seconds already granted: to this session, and to the person within the last 24 hours."""

    session: float = 0.0
    day: float = 0.0


@dataclass(frozen=True)
class Grant:
    """What to book: ``seconds`` more (0: nothing to book), alive until ``until``, and what is left after."""

    seconds: int
    until: datetime
    left_session: float
    left_day: float
    sentence: str


def until(extensions: Iterable[Extension]) -> datetime | None:
    """Until when a session's extensions keep it alive; None when it has none."""
    end: datetime | None = None
    for extension in sorted(extensions, key=lambda e: e.at):
        start = extension.at if end is None else max(end, extension.at)
        end = start + timedelta(seconds=extension.seconds)
    return end


def ask(
    now: datetime,
    wanted: float,
    caps: KeepAliveCaps,
    used: Used,
    current: datetime | None,
    rule: str = "",
) -> Grant | Refusal:
    """Ask to keep a session alive for ``wanted`` seconds from now.

    The grant is what all caps leave, and the sentence says so when it is less than asked. Nothing left,
    or keep-alive switched off, is a refusal. ``current`` is the end of what was granted before.
    """
    start = max(now, current) if current is not None else now
    left_session, left_day = max(0.0, caps.session - used.session), max(0.0, caps.day - used.day)
    if not math.isfinite(wanted) or wanted <= 0:
        shown = duration(wanted) if math.isfinite(wanted) else str(wanted)
        limit = "a time to keep alive is more than nothing"
        return messages.not_kept_alive(shown, limit, "ask for a time such as 2h", 400)
    if caps.session <= 0 or caps.day <= 0:
        limit = "keeping sessions alive is switched off"
        return messages.not_kept_alive(duration(wanted), limit, "save your work in time", rule=rule)
    need = (now + timedelta(seconds=min(wanted, caps.request)) - start).total_seconds()
    if need <= 0:
        sentence = f"Already kept alive until {clock(start, now)}."
        return Grant(0, start, left_session, left_day, sentence)
    seconds = math.floor(min(need, left_session, left_day))
    if seconds <= 0:
        return messages.kept_alive_enough(
            duration(wanted),
            clock(start, now) if start > now else "",
            duration(caps.session if left_session < 1 else caps.day),
            left_session < 1,
            rule,
        )
    end = start + timedelta(seconds=seconds)
    left_session, left_day = left_session - seconds, left_day - seconds
    sentence = f"Kept alive until {clock(end, now)}"
    if (now + timedelta(seconds=wanted) - end).total_seconds() >= 1:
        sentence += f", less than the {duration(wanted)} asked for"
    sentence += f". Left: {duration(left_session)} for this session, {duration(left_day)} within 24 hours."
    return Grant(seconds, end, left_session, left_day, sentence)


def file_asks(
    now: datetime, mtime: float, handled: float, caps: KeepAliveCaps, started_at: datetime | None
) -> float | None:
    """Seconds from now that a ``.keep-alive`` file asks for, None when it asks for nothing new.

    The file asks once for each time it is touched, counted from the touch: one found an hour late asks
    for an hour less. One from before the session, or dated in the future, asks for nothing.
    """
    if mtime <= handled or not math.isfinite(mtime) or mtime > now.timestamp() + 60:
        return None
    if started_at is not None and mtime < started_at.timestamp():
        return None
    left = mtime + caps.file - now.timestamp()
    return left if left > 0 else None

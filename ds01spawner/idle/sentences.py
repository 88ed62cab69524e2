"""The sentences people read about idle sessions. Plain text; whoever shows them escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from ..core.text import clock, duration
from .model import Cause, Deadline, Ground, IdleRules


def in_use(grounds: Sequence[Ground]) -> str:
    """Why a session counts as active."""
    parts = [g.measured for g in grounds if g.verdict == "active"]
    return f"In use: {_join(parts)}."


def started(now: datetime, until: datetime, rules: IdleRules) -> str:
    """Within the start grace."""
    return (
        f"Just started: idle time counts from {clock(until, now)}, "
        f"{duration(rules.start_grace)} after the start."
    )


def unmeasured(grounds: Sequence[Ground]) -> str:
    """Kept because a sensor did not answer."""
    parts = [g.measured for g in grounds if g.verdict == "unknown"]
    what = _join(parts) if parts else "nothing about it can be measured"
    return f"Kept: {what}; idle time does not count until it can be measured."


def idle(
    seconds: float,
    grounds: Sequence[Ground],
    now: datetime,
    retire_at: datetime | None,
    limit: float | None,
    rules: IdleRules,
    pressed: bool,
    kept_until: datetime | None,
) -> str:
    """Idle, not yet warned."""
    head = f"Idle for {duration(seconds)}: {measured(grounds)}."
    if limit is None or retire_at is None:
        return f"{head} There is no idle limit ({rules.source})."
    if kept_until is not None and kept_until >= retire_at:
        return f"{head} Kept alive until {clock(kept_until, now)}."
    return (
        f"{head} It is retired at {clock(retire_at, now)}, after {limit_text(limit, rules, pressed)}, "
        "unless it is used or kept alive."
    )


def warned(
    cause: Cause,
    seconds: float,
    grounds: Sequence[Ground],
    now: datetime,
    retire_at: datetime,
    limit: float | None,
    rules: IdleRules,
    pressed: bool,
    deadline: Deadline | None,
) -> str:
    """The warning itself."""
    at = clock(retire_at, now)
    if cause == "idle":
        return (
            f"Idle for {duration(seconds)}: {measured(grounds)}. This session is retired at {at}, after "
            f"{limit_text(limit or 0.0, rules, pressed)}, unless it is used or kept alive. "
            "Files in the workspace stay."
        )
    if cause == "lifetime":
        return (
            f"This session reaches the end of its lifetime and is retired at {at}. "
            "Save open files; the workspace stays and a new session can be started."
        )
    return (
        f"This session ends at {at}: {_deadline(deadline)}. "
        "Save open files; the workspace stays and a new session can be started."
    )


def retired(
    cause: Cause,
    seconds: float,
    grounds: Sequence[Ground],
    now: datetime,
    warned_at: datetime,
    due: datetime,
    limit: float | None,
    rules: IdleRules,
    pressed: bool,
    deadline: Deadline | None,
) -> str:
    """Why a session was retired, with the measured values."""
    told = f"its owner was warned at {clock(warned_at, now)}"
    if cause == "idle":
        return (
            f"Retired after {duration(seconds)} idle (limit: {limit_text(limit or 0.0, rules, pressed)}): "
            f"{measured(grounds)}; {told}."
        )
    if cause == "lifetime":
        return f"Retired at the end of its lifetime ({clock(due, now)}); {told}."
    return f"Retired: {_deadline(deadline)}; {told}."


def limit_text(limit: float, rules: IdleRules, pressed: bool) -> str:
    """The timeout and whose rule it is."""
    why = ", shortened because devices are scarce" if pressed else ""
    return f"{duration(limit)} without use ({rules.source}{why})"


def measured(grounds: Sequence[Ground]) -> str:
    """The measured values of the grounds that speak for idleness."""
    return _join([g.measured for g in grounds if g.verdict == "idle"])


def _deadline(deadline: Deadline | None) -> str:
    if deadline is None:
        return "its time is over"
    return deadline.reason + (f" ({deadline.by})" if deadline.by else "")


def _join(parts: Sequence[str]) -> str:
    return ", ".join(parts)

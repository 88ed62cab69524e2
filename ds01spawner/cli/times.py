"""Times as people type them: ``7d``, ``90m``, ``2026-03-01``, ``2026-03-01 14:00``."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import typer

_SPAN = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|d|w)")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
HELP = 'a span such as "90m", "48h" or "7d", or a date and time such as "2026-03-01 14:00"'


def utcnow() -> datetime:
    """The present instant; the one clock of the commands."""
    return datetime.now(timezone.utc)


def parse_span(text: str) -> timedelta:
    """A length of time; exit 2 when it is none."""
    match = _SPAN.fullmatch(text.strip().lower())
    if not match:
        raise typer.BadParameter(f'{text!r} is not a span such as "90m", "48h" or "7d"')
    try:
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise typer.BadParameter(f"{text!r} is too long") from None


def parse_time(text: str, now: datetime, *, past: bool = False) -> datetime:
    """An instant: a span counts from ``now`` (backwards with ``past``); a time without zone is local."""
    if _SPAN.fullmatch(text.strip().lower()):
        try:
            return now - parse_span(text) if past else now + parse_span(text)
        except OverflowError:
            raise typer.BadParameter(f"{text!r} is too long") from None
    try:
        at = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not {HELP}") from None
    return at.astimezone(timezone.utc)

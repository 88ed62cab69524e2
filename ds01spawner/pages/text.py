"""Sizes, durations and times as people read them. Pure; every function says what unknown looks like."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

UNKNOWN = "n/a"
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})")
_PLACE = re.compile(r" \([^()\s]+\.(?:ya?ml|json|toml):\d+\)")


def size(count: float | None) -> str:
    """Bytes in decimal units (``8.1 GB``), or ``n/a``; an unknown size is never shown as 0."""
    if count is None:
        return UNKNOWN
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def memory(mib: int | None) -> str:
    """Device memory in GB as vendors round it: 9,728 MiB is ``10 GB``, 81,559 MiB is ``80 GB``."""
    if not mib:
        return UNKNOWN
    gib = mib / 1024
    return f"{gib:.0f} GB" if gib >= 1 else f"{mib} MB"


def ram(count: float | None) -> str:
    """Bytes of memory in the units of limits and devices (1 GB is 1024 MB): ``117 MB``, ``2 GB``."""
    if count is None:
        return UNKNOWN
    mib = count / 2**20
    if mib < 1024:
        return f"{mib:.0f} MB"
    gib = mib / 1024
    return f"{amount(gib, 1)} GB" if gib < 10 else f"{gib:.0f} GB"


def duration(span: timedelta | float | None) -> str:
    """A length of time in its two largest units (``1 h 30 min``), or ``n/a``."""
    if span is None:
        return UNKNOWN
    total = int(span.total_seconds() if isinstance(span, timedelta) else span)
    if total < 60:
        return f"{max(total, 0)} s"
    days, rest = divmod(total, 86400)
    hours, rest = divmod(rest, 3600)
    minutes = rest // 60
    if days:
        return f"{days} d {hours} h" if hours else plural(days, "day")
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago, for a list: ``just now``, ``5 min ago``, ``yesterday``, ``12 Mar``, or ``never``."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds // 3600:.0f} h ago"
    days = int(seconds // 86400)
    if days < 14:
        return "yesterday" if days == 1 else f"{days} days ago"
    return f"{then.day} {then:%b}" if then.year == now.year else f"{then.day} {then:%b %Y}"


def moment(when: datetime | None) -> str:
    """An absolute time with its zone (``Tue 3 Mar 16:40 UTC``), or ``n/a``.

    Browsers with JavaScript show it in their own zone; see the ``time`` element in the templates.
    """
    if when is None:
        return UNKNOWN
    utc = when.astimezone(timezone.utc)
    return f"{utc:%a} {utc.day} {utc:%b %H:%M} UTC"


def parse_time(text: str | None) -> datetime | None:
    """An ISO 8601 time with zone as a label or the store writes it, or None if it is not one."""
    if not text:
        return None
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=timezone.utc)


def amount(value: float | None, digits: int = 2) -> str:
    """A quota figure without needless zeros: ``0.43``, ``1``, ``12.5``, or ``n/a``."""
    if value is None:
        return UNKNOWN
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def readable(sentence: str) -> str:
    """A sentence as a student reads it: times as people write them, and no places in files.

    Sources carry a place (``group students (policy.yaml:29)``) for admins, who have ``ds01 limits``.
    """
    return _TIME.sub(lambda m: moment(parse_time(m[0])), _PLACE.sub("", sentence))


def plural(count: int, noun: str) -> str:
    """``1 slice``, ``3 slices``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

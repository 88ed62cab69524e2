"""Sizes, durations, fractions and times as people read them: the one formatter.

Pure; every function says what unknown looks like. What a program reads again (``32g``, ``1h30m``,
ISO 8601) is written by `policy.units` and the standard library instead.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

UNKNOWN = "n/a"
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2})")
_PLACE = re.compile(r" \([^()\s]+\.(?:ya?ml|json|toml):\d+\)")


def size(count: float | None) -> str:
    """Bytes in the units of limits (1 GiB is 1024 MiB): ``900 MiB``, ``49.9 GiB``, or ``n/a``."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 999.5:
            return f"{amount(value, 1 if value < 100 else 0)} {unit}"
        value /= 1024
    return f"{amount(value, 1)} PiB"


def rate(per_second: float) -> str:
    """Bytes a second: ``120 B/s``, ``16 KiB/s``, ``3.2 MiB/s``."""
    return size(per_second).replace("bytes", "B") + "/s"


def memory(mib: int | None) -> str:
    """Device memory in GB as vendors round it: 9,728 MiB is ``10 GB``, 81,559 MiB is ``80 GB``."""
    if not mib:
        return UNKNOWN
    gib = mib / 1024
    return f"{gib:.0f} GB" if gib >= 1 else f"{mib} MB"


def duration(span: timedelta | float | None) -> str:
    """A length of time in its two largest units (``42 min``, ``1 h 30 min``, ``3 d 4 h``), or ``n/a``."""
    if span is None:
        return UNKNOWN
    total = round(span.total_seconds() if isinstance(span, timedelta) else span)
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


def percent(fraction: float) -> str:
    """``0.4 %`` below ten, else without decimals."""
    value = fraction * 100
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


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


def moment(when: datetime | str | None) -> str:
    """An absolute time with its zone (``Tue 3 Mar 16:40 UTC``), or ``n/a``.

    Pages put it into a ``time`` element, which browsers with JavaScript show in their own zone. A time
    without a zone is UTC, as the hub's database keeps it.
    """
    when = parse_time(when) if isinstance(when, str) else when
    if when is None:
        return UNKNOWN
    utc = (when if when.tzinfo else when.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    return f"{utc:%a} {utc.day} {utc:%b %H:%M} UTC"


def clock(when: datetime, now: datetime) -> str:
    """A time of day in UTC, with the date when it is not today's: for sentences that are kept or sent."""
    utc = when.astimezone(timezone.utc)
    return hour(utc) if utc.date() == now.astimezone(timezone.utc).date() else moment(utc)


def hour(when: datetime) -> str:
    """A time of day in UTC (``16:40 UTC``), where the day is plain."""
    return f"{when.astimezone(timezone.utc):%H:%M} UTC"


def second(when: datetime | None) -> str:
    """A time of day to the second, for how old a reading is."""
    return UNKNOWN if when is None else f"{when.astimezone(timezone.utc):%H:%M:%S} UTC"


def stamp(when: datetime | None, seconds: bool = False) -> str:
    """A full time for tables, logs and sentences of record: ``2026-03-03 16:40 UTC``, or ``n/a``."""
    if when is None:
        return UNKNOWN
    utc = when.astimezone(timezone.utc)
    return f"{utc:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{utc:%Y-%m-%d %H:%M} UTC"


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

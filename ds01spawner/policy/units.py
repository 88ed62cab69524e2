"""Sizes, durations, shares and CPU counts as people write them, and back. Pure.

A size or a duration needs its unit: a bare ``48`` has been read as 48 seconds where 48 hours were
meant. Only ``0`` stands without one.
"""

from __future__ import annotations

import math
import re

from ..core import text

MAX_BYTES = 2**53
MAX_SECONDS = 10 * 366 * 86400

_BYTES = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40, "p": 2**50}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_NUMBER = r"(?:[0-9]{1,15})(?:\.[0-9]{1,9})?"
SIZE_PATTERN = rf"^{_NUMBER} ?(?:[bB]|[kmgtpKMGTP](?:[iI]?[bB])?)$"
DURATION_PATTERN = rf"^(?:{_NUMBER}[smhdw])+$"
SHARE_PATTERN = rf"^{_NUMBER} ?%$"

_SIZE = re.compile(rf"({_NUMBER}) ?(b|[kmgtp])(?:i?b)?", re.IGNORECASE)
_DURATION = re.compile(rf"({_NUMBER})([smhdw])")
_SHARE = re.compile(rf"({_NUMBER}) ?%")
_ULIMIT = re.compile(r"(-1|unlimited|[0-9]{1,18})(?::(-1|unlimited|[0-9]{1,18}))?")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:39] + "…"


def parse_size(value: object) -> int:
    """Bytes from ``32g``, ``512m``, ``1.5 GiB``; units are powers of 1024. ValueError names the fault."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    hint = 'expected a size with its unit, such as "512m" or "32g"'
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{hint}, not {_shown(value)}")
    size = float(match[1]) * _BYTES[match[2].lower()]
    if size > MAX_BYTES:
        raise ValueError(f"{hint}; {_shown(value)} is too large (write null for no limit)")
    return int(size)


def parse_duration(value: object) -> int:
    """Seconds from ``90m``, ``48h``, ``1h30m``, ``7d``. ValueError names the fault."""
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    hint = 'expected a duration with its unit, such as "90m", "48h" or "7d"'
    text = value.strip() if isinstance(value, str) else ""
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise ValueError(f"{hint}, not {_shown(value)}")
    units = [u for _, u in parts]
    if len(set(units)) != len(units):
        raise ValueError(f"{hint}; {_shown(value)} has a unit twice")
    seconds = sum(float(n) * _SECONDS[u] for n, u in parts)
    if seconds > MAX_SECONDS:
        raise ValueError(f"{hint}; {_shown(value)} is too long (write null for no limit)")
    if 0 < seconds < 1:
        raise ValueError(f"{hint}; {_shown(value)} is under a second")
    return int(seconds)


def parse_share(value: object) -> float:
    """A fraction from ``5%`` (0.05) or from a plain number between 0 and 1."""
    hint = 'expected a share such as "5%" or 0.05'
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 <= value <= 1:
            return float(value)
        raise ValueError(f"{hint}, not {_shown(value)}; above 1 write the percent sign")
    match = _SHARE.fullmatch(value.strip()) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{hint}, not {_shown(value)}")
    return float(match[1]) / 100


def parse_cpus(value: object) -> float:
    """A number of CPUs such as 2 or 0.5; at least 0.01."""
    hint = "expected a number of CPUs such as 2 or 0.5"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{hint}, not {_shown(value)}")
    if not math.isfinite(value) or not 0.01 <= value <= 65536:
        raise ValueError(f"{hint}, at least 0.01, not {_shown(value)} (write null for no limit)")
    return float(value)


def parse_ulimit(value: object) -> tuple[int, int]:
    """Soft and hard limit from ``65536``, ``"1024:65536"`` or ``"unlimited"`` (-1)."""
    hint = 'expected a ulimit such as 65536, "1024:65536" or "unlimited"'
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    match = _ULIMIT.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{hint}, not {_shown(value)}")
    soft, hard = (-1 if p == "unlimited" else int(p) for p in (match[1], match[2] or match[1]))
    if hard != -1 and (soft == -1 or soft > hard):
        raise ValueError(f"{hint}; in {_shown(value)} the soft limit is above the hard one")
    return soft, hard


def format_size(size: int | None) -> str:
    """Bytes for people and for the file: ``32g``, ``1.5g``; None is ``unlimited``."""
    if size is None:
        return "unlimited"
    for unit in ("p", "t", "g", "m", "k"):
        if size >= _BYTES[unit]:
            return f"{_trim(size / _BYTES[unit])}{unit}"
    return "0" if size == 0 else f"{size}b"


def say_size(size: int | None) -> str:
    """Bytes in a sentence: ``32 GiB``, ``900 MiB``; None is ``unlimited``."""
    return "unlimited" if size is None else text.size(size)


def format_duration(seconds: float | None) -> str:
    """Seconds for people and for the file: ``1h30m``, ``48h``, ``7d``; None is ``unlimited``."""
    if seconds is None:
        return "unlimited"
    left, text = int(seconds), ""
    # Hours up to three days: people plan with "48h" as they wrote it.
    for unit in ("d", "h", "m", "s") if left > 72 * 3600 else ("h", "m", "s"):
        count, left = divmod(left, _SECONDS[unit])
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def format_number(value: float | None) -> str:
    """A count or a weight for people: ``2``, ``0.43``; None is ``unlimited``."""
    return "unlimited" if value is None else _trim(value)


def format_share(value: float) -> str:
    """A fraction as a percentage: ``5%``."""
    return f"{_trim(value * 100)}%"


def _trim(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")

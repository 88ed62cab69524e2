"""The kinds of values a policy has: how each is read, checked, shown and compared. Pure.

A `Unit` stands in the type of a value, a `Key` at the field: together they say all there is to know of
a policy key, where it is defined. `key_info` collects them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timezone
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from . import units
from .options import GPU_PATTERN


@dataclass(frozen=True)
class Unit:
    """How values of a type are shown to people, and when one allows more than another."""

    show: Callable[[Any], str]
    wider: Callable[[Any, Any], bool | None] | None = None
    """``wider(before, after)``; None compares numbers by size and lists by what they contain."""


@dataclass(frozen=True)
class Key:
    """What a policy key is, for people. Stands in the annotation of its field."""

    title: str
    """A few words, as a page or a form calls it."""
    askable: bool = False
    """Whether a person may ask for more of it; the rest is the site's business."""
    narrows: bool = False
    """Whether a larger value allows less."""
    none: str = "unlimited"
    """What ``null`` means, in a word."""
    mends: tuple[str, ...] = ()
    """Codes of refusals after which more of it is what to ask for."""


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": pattern}, {"const": 0}], "examples": [example]}
    )


def show_ulimit(value: tuple[int, int]) -> str:
    """``1024:65536``; -1 is unlimited."""
    return ":".join("unlimited" if v == -1 else str(v) for v in value)


def wider_ulimit(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether either of the two limits grew."""
    return any(a == -1 or (b != -1 and a > b) for b, a in zip(before, after, strict=True))


def _moment(value: object) -> datetime:
    hint = "expected a date (2026-12-31) or a time with zone (2026-12-31T18:00+01:00)"
    text = value.isoformat() if isinstance(value, (date, datetime)) else value
    if not isinstance(text, str):
        raise ValueError(f"{hint}, not {value!r}")
    text = text.strip()
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), timezone.utc)
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)
    except ValueError:
        raise ValueError(f"{hint}, not {text[:40]!r}") from None
    if moment.tzinfo is None:
        raise ValueError(f"{hint}; {text!r} has no zone")
    return moment.astimezone(timezone.utc)


Size = Annotated[
    int,
    BeforeValidator(units.parse_size),
    _schema(units.SIZE_PATTERN, "32g"),
    Unit(units.format_size),
]
Duration = Annotated[
    int,
    BeforeValidator(units.parse_duration),
    _schema(units.DURATION_PATTERN, "90m"),
    Unit(units.format_duration),
]
Share = Annotated[
    float,
    BeforeValidator(units.parse_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": units.SHARE_PATTERN},
                {"type": "number", "minimum": 0, "maximum": 1},
            ],
            "examples": ["5%"],
        }
    ),
    Unit(units.format_share),
]
Cpus = Annotated[
    float,
    BeforeValidator(units.parse_cpus),
    WithJsonSchema({"type": "number", "minimum": 0.01, "examples": [4]}),
]
Ulimit = Annotated[
    tuple[int, int],
    BeforeValidator(units.parse_ulimit),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": -1}, {"type": "string"}], "examples": ["1024:65536"]}
    ),
    Unit(show_ulimit, wider_ulimit),
]
Count = Annotated[int, Field(strict=True, ge=0, le=10**9)]
Positive = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Weight = Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)]
Memory = Annotated[Size, Field(ge=6 * 2**20)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, max_length=500)]
Profile = Annotated[str, Field(strict=True, pattern=rf"^(?:{GPU_PATTERN})$")]
Command = Annotated[tuple[Text, ...], Unit(" ".join)]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-12-31", "2026-12-31T18:00+01:00"]}),
]

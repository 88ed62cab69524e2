"""Asking for more than one's limits: what may be asked, and the dated override an approval makes. Pure.

A request is a small mapping of dotted keys to values as the policy file writes them, such as
``{"gpu.max_equivalents": 2, "session.lifetime": "72h"}``. Once approved it counts like an entry in
``users.<name>``, from the approval until its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from pydantic import ValidationError

from .. import messages
from ..core.errors import Refused
from ..core.text import stamp
from .key_info import askable
from .load import Override, Value, leaves, nested
from .model import SECTION_NAMES, Sections
from .resolve import Limits, widens

ASKABLE = askable()
"""What a person may ask for; the rest is the site's business."""
MAX_DAYS = 366
MIN_REASON = 10


def check_request(
    wanted: Mapping[str, object], reason: str, until: datetime | None, limits: Limits, now: datetime
) -> dict[str, object]:
    """The checked request, values as the file writes them, or `Refused` (400) saying what to mend.

    It must name a reason and an end within a year, only keys people may ask for, and at least one
    value that allows more than the person has now.
    """
    if len(reason.strip()) < MIN_REASON:
        raise Refused(
            messages.bad_request(
                f"the reason is shorter than {MIN_REASON} letters", "say what you need it for"
            )
        )
    if until is None or until <= now or until > now + timedelta(days=MAX_DAYS):
        raise Refused(
            messages.bad_request("it has no end within the next year", "say until when you need it")
        )
    unknown = sorted(set(wanted) - ASKABLE)
    if unknown or not wanted:
        what = f"{unknown[0][:60]!r} cannot be asked for" if unknown else "it asks for nothing"
        raise Refused(messages.bad_request(what, f"ask for one of {', '.join(sorted(ASKABLE))}"))
    try:
        values = read_values(wanted)
    except ValueError as error:
        raise Refused(messages.bad_request(str(error), "write the value as the policy file does")) from None
    if not any(widens(key, limits.value(key), value) for key, value in values.items()):
        raise Refused(messages.bad_request("you already have what it asks for", "there is nothing to do"))
    return dict(wanted)


def read_values(wanted: Mapping[str, object]) -> dict[str, object]:
    """Dotted keys with values as the file writes them, read and checked. ValueError names key and fault."""
    written = nested(wanted)
    try:
        sections = Sections.model_validate(written)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{'.'.join(str(p) for p in first['loc'])}: {message}") from None
    return {
        f"{name}.{key}": value
        for name in SECTION_NAMES
        if name in sections.model_fields_set
        for key, value in leaves(getattr(sections, name), only_set=True).items()
    }


class Approved(Protocol):
    """An approved request, as the store keeps it."""

    @property
    def id(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def wanted(self) -> Mapping[str, object]: ...
    @property
    def until(self) -> datetime | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def by(self) -> str: ...


def override_of(row: Approved) -> Override:
    """The override of an approved request as the store keeps it.

    Its ``wanted`` is what `check_request` returned, or what the approver wrote instead. A value that the
    policy cannot read (any more) is left out: it widens nothing.
    """
    source = f"request {row.id} approved by {row.by or 'an admin'}"
    if row.until is not None:
        source += f" until {stamp(row.until)}"
    layer: dict[str, Value] = {}
    for key, value in row.wanted.items():
        try:
            read = read_values({key: value}) if key in ASKABLE else {}
        except ValueError:
            continue
        layer |= {k: Value(v, source) for k, v in read.items()}
    return Override(row.user, layer, row.until, row.reason)


def overrides_from(rows: Iterable[Approved]) -> tuple[Override, ...]:
    """The overrides of approved requests, in the order they were approved."""
    return tuple(override_of(row) for row in rows)

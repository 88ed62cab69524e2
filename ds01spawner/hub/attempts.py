"""What people tried to start in vain: their choices, and why not, for the form they come back to.

In the memory of the hub's process; of its event loop. A start that works forgets both.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from ..core.errors import Refusal

MAX_KEPT = 2000
NEWS = timedelta(minutes=10)
"""How long a reason is worth telling."""

_choices: OrderedDict[str, dict[str, object]] = OrderedDict()
_refusals: OrderedDict[tuple[str, str], tuple[datetime, Refusal]] = OrderedDict()


def tried(user: str, server: str, options: Mapping[str, object]) -> None:
    """A start begins with these options."""
    _refusals.pop((user, server), None)
    _keep(_choices, user, dict(options))


def refused(user: str, server: str, refusal: Refusal, now: datetime) -> None:
    """The start was refused."""
    _keep(_refusals, (user, server), (now, refusal))


def worked(user: str) -> None:
    """The start came to its end: nothing has to be chosen again."""
    _choices.pop(user, None)


def choices(user: str) -> dict[str, object] | None:
    """The options last tried in vain."""
    return _choices.get(user)


def told(user: str, server: str, now: datetime) -> Refusal | None:
    """Why the last start was refused, once and while it is news."""
    at, refusal = _refusals.pop((user, server), (None, None))
    return refusal if at is not None and now - at <= NEWS else None


def _keep(where: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    where[key] = value
    where.move_to_end(key)
    while len(where) > MAX_KEPT:
        where.popitem(last=False)

"""Sharing an own environment with a group: who may, in words. Pure.

The record is the store's alone (`Store.shares`); an image cannot say of itself that it is shared. What a
group sees is the environment as it is at each start: building it again reaches them too.
"""

from __future__ import annotations

from .. import messages
from ..core.errors import Refusal
from ..policy.resolve import Limits, Person

MAX_GROUP = 100


def refusal(person: Person, limits: Limits, environment: str, group: str) -> Refusal | None:
    """Why a person may not share an own environment with a group, or None where they may."""
    if not limits.images.share:
        return messages.may_not_share(environment, limits.source("images.share"))
    if not is_group_name(group):
        return messages.bad_group(environment, group)
    if not person.admin and group not in person.groups:
        return messages.not_your_group(environment, group, person.groups)
    return None


def is_group_name(name: str) -> bool:
    """Whether a text can be the name of a hub's group, as it is written in lists."""
    return (
        0 < len(name) <= MAX_GROUP and name.isprintable() and not any(c.isspace() or c in "/,:" for c in name)
    )

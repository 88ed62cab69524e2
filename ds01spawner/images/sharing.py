"""Sharing an own environment with a group: who may, in words. Pure.

The record is the store's alone (`Store.shares`); an image cannot say of itself that it is shared. What a
group sees is the environment as it is at each start: building it again reaches them too.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import Refusal
from ..policy.resolve import Limits, Person

MAX_GROUP = 100


def refusal(person: Person, limits: Limits, environment: str, group: str) -> Refusal | None:
    """Why a person may not share an own environment with a group, or None where they may."""
    if not limits.images.share:
        return Refusal(
            code="may-not-share",
            asked=f"the environment {environment} is not shared",
            limit="your limits do not let you share environments",
            rule=limits.source("images.share"),
            do="ask an administrator to share it",
        )
    if not is_group_name(group):
        return Refusal(
            code="bad-group",
            asked=f"the environment {environment} is not shared",
            limit=f"{group[:40]!r} is not the name of a group",
            do="choose one of your groups",
            status=400,
        )
    if not person.admin and group not in person.groups:
        return Refusal(
            code="not-your-group",
            asked=f"the environment {environment} is not shared",
            limit=f"you are not in the group {group!r}, and can share with your own groups only",
            do=_choices(person.groups),
        )
    return None


def is_group_name(name: str) -> bool:
    """Whether a text can be the name of a hub's group, as it is written in lists."""
    return (
        0 < len(name) <= MAX_GROUP and name.isprintable() and not any(c.isspace() or c in "/,:" for c in name)
    )


def _choices(groups: Iterable[str]) -> str:
    names = ", ".join(sorted(groups)[:8])
    return f"share it with one of your groups ({names})" if names else "ask an administrator to share it"

"""Which environments a policy's ``images.use`` lets a person start. Pure.

The card on the page, the check before a start and the choice at the start ask the same question here.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase


def allows(patterns: Sequence[str] | None, environment: str, kinds: Sequence[str]) -> bool:
    """Whether ``patterns`` (None: anything) match an environment by id, kind, or ``kind/id``.

    A course's environment is for its roster to start, whatever else the policy leaves to them.
    """
    if patterns is None or "course" in kinds:
        return True
    names = (environment, *kinds, *(f"{kind}/{environment}" for kind in kinds))
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def kinds_of(environment: str) -> tuple[str, ...]:
    """The kinds an environment of this id can be; whose image it is, only the catalogue knows."""
    if environment.startswith("course/"):
        return ("course",)
    return ("mine", "shared") if environment.startswith("ds01-") else ("lab",)

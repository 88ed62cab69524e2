"""Refusals to people who teach: what lies outside the scope that the hub gave them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Refusal
from .base import example, short, words


@example(course="nlp-s26", groups=["students"], scope="custom:ds01:course:teach")
def roster_outside(course: str, groups: Sequence[str], scope: str) -> Refusal:
    """A course would reach groups that its teacher has no scope for."""
    shown = [repr(short(group)) for group in groups[:5]]
    return Refusal(
        code="roster-outside",
        asked=f"the course {short(course)!r} was to reach {words(shown)}",
        limit="you may teach other groups only",
        rule=f"your scope {scope}!group=…, and for staff without one the roster as it is",
        do="leave those groups out of the roster, or ask an administrator for that scope",
    )


@example(course="nlp-s26", people=["carol"], scope="custom:ds01:course:teach")
def staff_outside(course: str, people: Sequence[str], scope: str) -> Refusal:
    """Somebody who was only listed as staff would make others staff too."""
    shown = [repr(short(person)) for person in people[:5]]
    return Refusal(
        code="staff-outside",
        asked=f"{words(shown)} should become staff of the course {short(course)!r}",
        limit="that is for its owner, for who has the hub's scope for its roster, and for administrators",
        rule=f"the scope {scope}",
        do="ask one of them",
    )

"""On whose account a start is: the person's, their groups', and the course whose environment it is."""

from __future__ import annotations

from collections.abc import Iterable

from ..environments.catalogue import visible
from ..environments.course_cards import candidate_environment, course_environments
from ..policy.resolve import Person
from ..store.rows import CourseRow


def course_of(environment: str, person: Person, courses: Iterable[CourseRow]) -> str:
    """The course whose environment is asked for, or ``""``; also where it is not the person's to see. Pure.

    ``courses`` are the store's rows, read now: who was taken off a roster has lost its devices too.
    """
    if not environment.startswith("course/"):
        return ""
    rows = [r for r in courses if r.state != "closed"]
    cards = [*course_environments(rows), *map(candidate_environment, rows)]
    listed = visible(cards, person.name, person.groups)
    return next((e.environment.course for e in listed if e.environment.id == environment), "")


def course_named(environment: str) -> str:
    """The course in the id of an environment that was granted, or ``""``. Pure."""
    kind, _, name = environment.partition("/")
    return name.removesuffix(":candidate") if kind == "course" else ""


def claim_keys(person: Person, course: str = "") -> frozenset[str]:
    """What lifts blocks on devices for a start of this person, in the environment of this course. Pure."""
    who = {f"user:{person.name}", *(f"group:{g}" for g in person.groups)}
    return frozenset(who | {f"course:{course}"} if course else who)

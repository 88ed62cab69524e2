"""The environments that stored courses offer. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..store.rows import CourseRow
from .catalogue import Environment, course_environment
from .naming import course_repository


def course_environments(rows: Iterable[CourseRow]) -> tuple[Environment, ...]:
    """The cards of stored courses: published ones for roster and staff, drafts for staff alone. Pure."""
    found = []
    for row in rows:
        data, published = row.data, row.data.get("pinned", "")
        if row.state == "closed":
            continue
        candidate = data.get("image") or f"{course_repository(row.id)}:candidate"
        found.append(
            course_environment(
                row.id,
                candidate,
                title=data.get("title", row.id),
                description=data.get("description", ""),
                roster=data.get("roster", ()) if published else (),
                staff=(row.owner, *data.get("staff", ())),
                pinned=published,
            )
        )
    return tuple(found)


def candidate_environment(row: CourseRow) -> Environment:
    """What was built last of a published course, for its staff to try before they publish it. Pure."""
    data = row.data
    return Environment(
        id=f"course/{row.id}:candidate",
        kind="course",
        image=f"{course_repository(row.id)}:candidate",
        title=f"{data.get('title', row.id)} (not published)",
        description="Seen by the course's staff alone: what students get once it is published.",
        people=frozenset((row.owner, *data.get("staff", ()))),
        course=row.id,
    )

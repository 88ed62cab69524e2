"""What is refused of courses: outside a scope, not there, not to be handed out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import Refusal
from .examples import example, short, words


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
    """A user who is only listed as staff would make others staff too."""
    shown = [repr(short(person)) for person in people[:5]]
    return Refusal(
        code="staff-outside",
        asked=f"{words(shown)} should become staff of the course {short(course)!r}",
        limit="that is for its owner, for who has the hub's scope for its roster, and for administrators",
        rule=f"the scope {scope}",
        do="ask one of them",
    )


@example(course="nlp")
def course_unknown(course: str, taught: bool = False) -> Refusal:
    """There is no such course; ``taught``: none that the person teaches, whether it is there or not."""
    if taught:
        return Refusal(
            code="no-course",
            asked=f"the course {course[:60]!r} is not one that you teach",
            limit="it does not exist, or its staff are others",
            do="ask to be listed under `staff` in its course.yaml",
            status=404,
        )
    return Refusal(
        code="no-course",
        asked=f"there is no course {course[:60]!r}",
        limit="it was never applied here, or was removed",
        do="apply its course.yaml first",
        status=404,
    )


@example(course="nlp", why="/data/private is not below a folder for course data")
def course_not_theirs(course: str, why: str) -> Refusal:
    """A course file names a folder or an image that its author may not hand out."""
    return Refusal(
        code="not-theirs",
        asked=f"the course {course!r} cannot be applied",
        limit=why,
        rule="the site's list of folders for course data",
        do="use a folder or image you may hand out, or ask an administrator to apply it",
    )


@example(course="nlp", scope="custom:ds01:teach")
def not_staff(course: str, scope: str) -> Refusal:
    """The person may not change the course."""
    return Refusal(
        code="not-staff",
        asked=f"the course {course!r} cannot be changed by you",
        limit="only its staff and administrators may, and who has the hub's scope for its roster",
        rule=f"the course's staff list, and the scope {scope}",
        do="ask to be listed under `staff` in its course.yaml, or an administrator for that scope",
    )


@example(course="nlp", wanted="ds01-course/nlp:candidate")
def nothing_built(course: str, wanted: str) -> Refusal:
    """There is no image to publish."""
    return Refusal(
        code="nothing-built",
        asked=f"the course {course!r} cannot be published",
        limit=f"{wanted} is not on this machine",
        do="build the course's environment first, and start it once to test it",
        status=409,
    )


@example(course="nlp", source="/data/nlp", why="is not a folder of the server")
def course_data_missing(course: str, source: str, why: str) -> Refusal:
    """A folder of course data cannot be mounted."""
    return Refusal(
        code="course-data",
        asked=f"the data of the course {course} cannot be given to a session",
        limit=f"{source} {why}",
        rule="the site's list of folders for course data (data_roots)",
        do="tell the course's staff",
        status=409,
    )


@example(file="course.yaml", project="nlp")
def no_course_file(file: str, project: str) -> Refusal:
    """A course was to be applied, and there is no file."""
    return Refusal(
        code="no-course-file",
        asked="no course was applied",
        limit=f"there is no {file} in the project {project!r}" if project else "no file was given",
        do=f"paste the text, upload the file, or choose a project that has a {file}",
        status=400,
    )


@example(course="nlp")
def built_from_recipe(course: str) -> Refusal:
    """There is nothing to fetch for a course that is built."""
    return Refusal(
        code="has-recipe",
        asked=f"there is nothing to fetch for the course {course!r}",
        limit="it is built from its recipe",
        do="build it",
        status=409,
    )

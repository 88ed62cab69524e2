"""Courses in the store: who may change them, what is applied, published and seen. Mostly pure.

Applying is idempotent: the same file twice changes nothing. Publishing fixes the image students get to
an immutable id; it changes the next start and no running session, and the release before is one step back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from .. import messages
from ..core.errors import Refusal, Refused
from ..engines.docker.image_store import ImageMissing, Images
from ..environments.facts import ImageFacts
from ..environments.naming import course_repository
from ..environments.resolver import NotReadable
from ..store.rows import CourseRow
from ..store.store import Store
from .spec import Change, Course, diff


def may_manage(stored: CourseRow | None, person: str, admin: bool, scopes: Iterable[str] = ()) -> bool:
    """Whether ``person`` may change, build and publish a course: its staff, its owner, an admin, or who
    has the scope for all of its roster."""
    if admin:
        return True
    if stored is None:
        return False
    if teaches(scopes, stored.data.get("roster", ())):
        return True
    return person == stored.owner or person in stored.data.get("staff", ())


def data_may(course: Course, data_roots: Iterable[object]) -> str:
    """Why a course's data may not be mounted, or nothing. The roots bind administrators too. Pure."""
    roots = tuple(str(root).rstrip("/") + "/" for root in data_roots)
    for mount in course.file.data:
        if not f"{mount.source}/".startswith(roots):
            allowed = ", ".join(roots) or "a folder for course data"
            return f"the data folder {mount.source} is not below {allowed}"
    return ""


MAX_COURSES = 50
"""Courses that one person without administration may own."""
TEACH_SCOPE = "custom:ds01:course:teach"
"""The hub's scope that lets a person manage courses; ``!group=…`` limits it to those of a roster."""


def teaches(scopes: Iterable[str], roster: Iterable[str]) -> bool:
    """Whether scopes of the hub let their holder manage a course with this roster. Pure."""
    given, groups = frozenset(scopes), frozenset(roster)
    if TEACH_SCOPE in given:
        return True
    return bool(groups) and all(f"{TEACH_SCOPE}!group={group}" in given for group in groups)


def may_apply(
    known: CourseRow | None, course: Course, by: str, admin: bool, scopes: Iterable[str] = ()
) -> Refusal | None:
    """Why ``by`` may not make of the stored course what the file says, or None. Pure.

    What is stored and what the file says both have to lie within their rights: with a scope for some groups
    a course can neither be taken from others nor be moved to them. Staff without a scope may narrow the
    roster, and leave the staff as it is or take people from it.
    """
    given = frozenset(scopes)
    if admin:
        return None
    if not (teaches(given, course.file.roster) if known is None else may_manage(known, by, admin, given)):
        return messages.not_staff(course.id, TEACH_SCOPE)
    if TEACH_SCOPE in given:
        return None
    data = known.data if known else {}
    mine = known is not None and (by == known.owner or by in data.get("staff", ()))
    there = frozenset(data.get("roster", ())) if mine else frozenset()
    outside = [g for g in course.file.roster if g not in there and f"{TEACH_SCOPE}!group={g}" not in given]
    if outside:
        return messages.roster_outside(course.id, outside, TEACH_SCOPE)
    added = [p for p in course.file.staff if known is not None and p not in data.get("staff", ())]
    owner = known is not None and by == known.owner
    if added and not owner and not teaches(given, course.file.roster):
        return messages.staff_outside(course.id, added, TEACH_SCOPE)
    return None


def apply(
    store: Store,
    course: Course,
    by: str,
    now: datetime,
    *,
    admin: bool = True,
    scopes: Iterable[str] = (),
    dry_run: bool = False,
    data_roots: Iterable[object] = (),
    starter: Mapping[str, object] | None = None,
    check: Callable[[str], None],
) -> list[Change]:
    """Bring the stored course to what the file says; returns what changed. Nothing is published by this.

    Without ``admin``, who is not on a course's staff needs the hub's scope for its roster (``scopes``);
    so does a course that is new. ``starter`` are starter files that were kept for it, where there are any.
    ``check`` raises `NotReadable` for an image that whoever applies the file may not hand out.
    """
    # Asked here for whoever has no rights at all, and again where it is written.
    known = store.courses.get(course.id)
    if no := may_apply(known, course, by, admin, scopes):
        raise Refused(no)
    if why := data_may(course, data_roots):
        raise Refused(messages.course_not_theirs(course.id, why))
    try:
        if course.file.image and (known is None or known.data.get("image") != course.file.image):
            check(course.file.image)
    except NotReadable as error:
        raise Refused(messages.course_not_theirs(course.id, str(error))) from None
    wanted = course.as_data()
    if starter is not None or not course.file.starter:
        wanted["starter_files"] = dict(starter) if starter else None
    changes: list[Change] = []

    def change(known: CourseRow | None, owned: Mapping[str, int]) -> Mapping[str, object] | None:
        """Rights, the number of courses and what changes, asked where it is written."""
        if no := may_apply(known, course, by, admin, scopes):
            raise Refused(no)
        if known is None and not admin and owned.get(by, 0) >= MAX_COURSES:
            raise Refused(messages.too_many_courses(MAX_COURSES))
        changes.extend(diff(known.data if known else None, wanted))
        if dry_run or not changes:
            return None
        if known is None:
            return {"owner": by, "state": "draft", "data": wanted}
        state = "draft" if known.state == "closed" else known.state
        return {"state": state, "data": {**known.data, **wanted}}

    store.courses.apply(course.id, now, change)
    return changes


def publish(
    store: Store,
    images: Images,
    course_id: str,
    by: str,
    now: datetime,
    *,
    image: str = "",
    admin: bool = True,
    scopes: Iterable[str] = (),
    resolve: Callable[[str], ImageFacts],
) -> str:
    """Give students ``image`` (default: what was built last) from the next start on; returns its id.

    ``resolve`` finds an image that the course did not build itself, with the rights of whoever publishes.
    """
    known = _course(store, course_id)
    if not may_manage(known, by, admin, scopes):
        raise Refused(messages.not_staff(course_id, TEACH_SCOPE))
    data = known.data
    wanted = image or data.get("image") or f"{course_repository(course_id)}:candidate"
    own = wanted in (f"{course_repository(course_id)}:candidate", data.get("former"))
    try:
        facts = images.inspect(wanted) if own else resolve(wanted)
    except (ImageMissing, NotReadable):
        raise Refused(messages.nothing_built(course_id, wanted)) from None
    if facts.id == data.get("pinned"):
        return facts.id
    short = facts.id.removeprefix("sha256:")[:12]
    images.tag(facts.id, f"{course_repository(course_id)}:release-{short}")
    store.courses.update(
        course_id,
        now,
        lambda row: {
            "state": "published",
            "data": {**row.data, "pinned": facts.id, "former": row.data.get("pinned", "")},
        },
    )
    store.courses.add_publication(course_id, facts.id, by, now)
    return facts.id


def step_back(
    store: Store,
    images: Images,
    course_id: str,
    by: str,
    now: datetime,
    *,
    admin: bool = True,
    scopes: Iterable[str] = (),
    resolve: Callable[[str], ImageFacts],
) -> str:
    """Publish the release before again."""
    former = _course(store, course_id).data.get("former", "")
    if not former:
        raise Refused(messages.nothing_built(course_id, "an earlier release"))
    return publish(
        store, images, course_id, by, now, image=former, admin=admin, scopes=scopes, resolve=resolve
    )


def close(
    store: Store,
    course_id: str,
    by: str,
    now: datetime,
    *,
    admin: bool = True,
    scopes: Iterable[str] = (),
) -> None:
    """Take the course's card away; workspaces, images and history stay."""
    known = _course(store, course_id)
    if not may_manage(known, by, admin, scopes):
        raise Refused(messages.not_staff(course_id, TEACH_SCOPE))
    store.courses.update(course_id, now, lambda row: {"state": "closed"})


def _course(store: Store, course_id: str) -> CourseRow:
    known = store.courses.get(course_id)
    if known is None:
        raise Refused(messages.course_unknown(course_id))
    return known

"""Courses for who teaches them: rights, applying a file, the class as it is now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypedDict

from .. import messages
from ..core import text, yaml_reader
from ..core.errors import EngineError, Refused
from ..core.settings import Settings
from ..courses import publication as courses
from ..courses.spec import Change, Course, parse_course
from ..engines.docker.image_store import ImageMissing
from ..environments.naming import course_repository
from ..environments.pulling import Pulled
from ..environments.resolver import NotReadable
from ..environments.rights import Reader
from ..pages.inputs import SessionInfo
from ..policy.options import is_project_name
from ..policy.resolve import Person
from ..store import Store
from ..store.catalogue import ACTIVE
from ..store.rows import BuildRow, CourseRow
from ..workspace import starter_files
from . import building
from .context import Context
from .views import session_info

COURSE_FILE = "course.yaml"
SHOWN = 20
PULLS = 2
"""Images of courses that are fetched at the same time."""


class _PullJson(TypedDict):
    state: str
    image: str
    reason: str


class PullJson(_PullJson, total=False):
    """The fetching of a course's image: pulling, ready or failed. Kept, and changed as it goes on.

    How far it is comes in bytes, in layers, and as ``progress`` in words.
    """

    current: int
    total: int
    layers: int
    layers_done: int
    progress: str
    image_id: str


@dataclass(frozen=True)
class Teacher:
    """Who asks, with the hub's scopes that came with the request."""

    person: Person
    scopes: frozenset[str]

    @property
    def may_begin(self) -> bool:
        """Whether the person may apply a course that is new, for some roster at least."""
        return self.person.admin or any(s.partition("!")[0] == courses.TEACH_SCOPE for s in self.scopes)

    @property
    def reader(self) -> Reader:
        """The rights on images that they hand out with: their own, an administrator's all."""
        person = self.person
        return Reader(person.name, frozenset(person.groups), admin=person.admin)

    def manages(self, row: CourseRow) -> bool:
        """Whether a stored course is theirs to change."""
        return courses.may_manage(row, self.person.name, self.person.admin, self.scopes)


def own_course(store: Store, teacher: Teacher, course: str) -> CourseRow:
    """A course the person manages. Others learn nothing, not even whether it is there."""
    row = store.courses.get(course)
    if row is None or not teacher.manages(row):
        raise Refused(messages.course_unknown(course, taught=True))
    return row


async def apply(
    context: Context, teacher: Teacher, source: str, project: str, dry_run: bool
) -> tuple[Course, list[Change]]:
    """Apply a course's file: the given text, else that of the project. Starter files are the project's."""
    settings, now = context.settings, context.clock()
    env_service = await building.env_service(context)

    def work(store: Store) -> tuple[Course, list[Change]]:
        files = env_service.found(teacher.person, project) if is_project_name(project) else None
        given = source if source.strip() else (files.read_text(COURSE_FILE) if files else None)
        if not given:
            raise Refused(messages.no_course_file(COURSE_FILE, project))
        course = parse_course(yaml_reader.parse(given, COURSE_FILE))
        bring = partial(
            courses.apply,
            store,
            course,
            teacher.person.name,
            now,
            admin=teacher.person.admin,
            scopes=teacher.scopes,
            data_roots=settings.data_roots,
            check=lambda name: context.site.environments.resolver.check(name, teacher.reader),
        )
        # Asked first without a change, so that nobody's files are kept for a course that is not theirs.
        changes = bring(dry_run=True)
        starter = None
        if files is not None and course.file.starter:
            starter = starter_files.keep_starter(settings.courses, course.id, files, course.file.starter)
            changes = bring(dry_run=True, starter=starter)
        if not dry_run:
            changes = bring(starter=starter)
        return course, changes

    return await context.store(work)


async def publish(context: Context, teacher: Teacher, course: str, back: bool = False) -> str:
    """Give students what was built last, or the release before; returns the image's id.

    What could not run as a session is refused here, where staff read why.
    """
    row = await context.store(lambda s: own_course(s, teacher, course))
    images, now = context.site.environments.images, context.clock()
    resolver = context.site.environments.resolver
    wanted = row.data.get("image") or f"{course_repository(course)}:candidate"

    def work(store: Store) -> str:
        act = partial(
            courses.step_back if back else courses.publish,
            store,
            images,
            course,
            teacher.person.name,
            now,
            admin=teacher.person.admin,
            scopes=teacher.scopes,
            resolve=lambda name: resolver.resolve(name, teacher.reader),
        )
        if back:
            return act()
        try:
            # An image that is not theirs to hand out is not looked at either.
            own = not row.data.get("image")
            facts = images.inspect(wanted) if own else resolver.resolve(wanted, teacher.reader)
        except (ImageMissing, NotReadable):
            facts = None  # said by `publish` in its own words
        if facts and not (found := context.site.environments.preflight(facts)).ok:
            raise Refused(
                messages.environment_unfit(
                    f"the course {course!r} cannot be published",
                    found.reason,
                    "mend its image, then publish it",
                )
            )
        return act()

    return await context.store(work)


async def build(context: Context, teacher: Teacher, course: str) -> str:
    """Build the course's recipe; returns the build's id."""
    await context.store(lambda s: own_course(s, teacher, course))
    limits = await context.limits(teacher.person)
    listed = await building.listed(context, teacher.person, limits)
    env_service = await building.env_service(context)
    admin = teacher.person.admin
    return await asyncio.to_thread(
        env_service.build_course, teacher.person, limits, listed, course, admin, teacher.scopes
    )


async def prepull(context: Context, teacher: Teacher, course: str) -> PullJson:
    """Fetch the image of a course without a recipe; says how far it is. Asking again asks how far."""
    row = await context.store(lambda s: own_course(s, teacher, course))
    reference = row.data.get("image", "")
    environments = context.site.environments
    pulls: dict[str, PullJson] = context.extra.setdefault("courses.pulls", {})
    if not reference:
        raise Refused(messages.built_from_recipe(course))
    pull = pulls.get(course)
    if pull is not None and pull["state"] == "pulling":
        return pull
    try:
        facts = await environments.images.run(environments.resolver.resolve, reference, teacher.reader)
    except NotReadable:
        pull = pulls[course] = {"state": "pulling", "image": reference, "reason": ""}
        _note(pull, Pulled())
        task = asyncio.create_task(_pull(context, pull, reference, teacher.reader))
        context.extra.setdefault("courses.tasks", set()).add(task)
        task.add_done_callback(context.extra["courses.tasks"].discard)
        return pull
    return {"state": "ready", "image": reference, "image_id": facts.id, "progress": "", "reason": ""}


def _note(pull: PullJson, pulled: Pulled) -> None:
    """Write down how far it is: all at once, for it is read from another thread."""
    pull.update(
        {
            "current": pulled.current,
            "total": pulled.total,
            "layers": pulled.layers,
            "layers_done": pulled.done,
            "progress": str(pulled),
        }
    )


def _pulling(context: Context) -> ThreadPoolExecutor:
    """The threads of image fetches; more of them wait for their turn."""
    if (threads := context.extra.get("courses.pulling")) is None:
        threads = ThreadPoolExecutor(PULLS, thread_name_prefix="ds01-course-pull")
        context.extra["courses.pulling"] = threads
    made: ThreadPoolExecutor = threads
    return made


async def _pull(context: Context, pull: PullJson, reference: str, reader: Reader) -> None:
    resolver = context.site.environments.resolver
    try:
        # On threads of their own: a registry that does not answer holds none that pages wait for.
        facts = await asyncio.get_running_loop().run_in_executor(
            _pulling(context), resolver.fetch, reference, reader, partial(_note, pull)
        )
    except (EngineError, NotReadable) as error:
        pull["state"], pull["reason"] = "failed", str(error)[:300]
    else:
        pull["state"], pull["image_id"] = "ready", facts.id


@dataclass(frozen=True)
class Standing:
    """How far a course is: what was built last, what students get and got before, and the next step."""

    candidate: str
    pinned: str
    former: str
    step: str


def standing(row: CourseRow, candidate: str, builds: Sequence[BuildRow]) -> Standing:
    """How far a course is: what students get, what was built last, and the next step in words. Pure."""
    data = row.data
    pinned = data.get("pinned", "")
    busy = bool(builds) and builds[0].state in ACTIVE
    if row.state == "closed":
        step = "It is closed: its card is not shown. Apply its file again to open it."
    elif busy:
        step = "Its environment is being built."
    elif not candidate:
        step = "Build its environment." if data.get("recipe") else "Fetch its image."
    elif candidate != pinned:
        step = "Start it once to test it, then publish it."
    else:
        step = "Students get what was built last."
    return Standing(candidate, pinned, data.get("former", ""), step)


@dataclass(frozen=True)
class Member:
    """One line of the class: a person, with one session of theirs where they have any."""

    user: str
    info: SessionInfo | None
    up: str
    member: bool
    """Whether the roster has them (still)."""


async def roster(context: Context, row: CourseRow, now: datetime) -> list[Member]:
    """Members of the roster with their sessions of this course, those who work first."""
    groups = frozenset(row.data.get("roster", ()))
    members = set()
    for state in ("active", "inactive"):
        members |= {u.name async for u in context.hub.users(state) if groups & u.groups}
    snapshot = await context.snapshots.get()
    running: dict[str, list[Any]] = {}
    for record in snapshot.ledger.sessions:
        if record.labels.environment.partition(":")[0] == f"course/{row.id}":
            running.setdefault(record.labels.user, []).append(record)
    rows = []
    for name in sorted(members | set(running), key=lambda n: (n not in running, n)):
        for record in running.get(name, [None]):
            info = session_info(record, snapshot) if record else None
            up = text.duration(now - info.started_at) if info and info.started_at else ""
            rows.append(Member(name, info, up, name in members))
    return rows


def data_roots(settings: Settings) -> str:
    """The roots as people read them."""
    return ", ".join(str(r) for r in settings.data_roots) or "none"

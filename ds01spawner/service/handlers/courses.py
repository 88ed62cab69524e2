"""Courses: their page for staff, and REST. Students meet a course as a card among the environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tornado import web

from ...core.errors import Refused, StoreError
from ...core.yaml_reader import FileProblems
from ...environments.naming import course_repository
from ...store import Store
from ...store.rows import BuildRow, CourseRow, PublicationRow
from ...workspace.projectfiles import ProjectFileError
from .. import teaching
from ..context import Context
from ..environment_views import STATES
from ..handler_base import ApiHandler, PageHandler, PersonHandler
from ..openapi import Operation, Operations
from ..teaching import PullJson, Standing, Teacher

COURSE = r"([a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)"


def teacher_of(handler: PersonHandler) -> Teacher:
    """Who asks, with the scopes of their log-in or token."""
    scopes = (handler.current_user or {}).get("scopes") or ()
    return Teacher(handler.person, frozenset(scopes))


async def manages_any(handler: PersonHandler) -> bool:
    """Whether the person has a course to look after, or may begin one."""
    teacher = teacher_of(handler)
    if teacher.may_begin:
        return True
    try:
        rows = await handler.ctx.store(lambda s: s.courses.find())
    except StoreError:
        return False
    return any(teacher.manages(row) for row in rows)


class CoursesPage(PageHandler):
    """The courses one teaches, and the form that applies a file."""

    async def get(self) -> None:
        """Show them."""
        await self.show()

    async def post(self) -> None:
        """``act`` is check (what would change) or apply. The text wins over the project's course.yaml."""
        source = self.get_body_argument("text", "", strip=False)
        for upload in self.request.files.get("file", ()):
            if upload["body"]:
                source = upload["body"][: 300 * 1024].decode("utf-8", "replace")
        project, act = self.get_body_argument("project", ""), self.get_body_argument("act", "check")
        teacher, done = teacher_of(self), None
        problems: tuple[str, ...] = ()
        try:
            done = await teaching.apply(self.ctx, teacher, source, project, dry_run=act != "apply")
        except FileProblems as found:
            problems = tuple(str(p) for p in found.problems)
            self.set_status(400)
        except (Refused, ProjectFileError) as refused:
            problems = (str(refused),)
            self.set_status(refused.refusal.status if isinstance(refused, Refused) else 400)
        if done and act == "apply":
            self.redirect(f"{self.ctx.urls.service}courses/{done[0].id}")
            return
        await self.show(source=source, project=project, problems=problems, done=done)

    async def show(
        self, source: str = "", project: str = "", problems: tuple[str, ...] = (), done: Any = None
    ) -> None:
        """The page, with what came of the form."""
        teacher = teacher_of(self)
        rows = [r for r in await self.ctx.store(lambda s: s.courses.find()) if teacher.manages(r)]
        projects = await self.ctx.store(lambda _: self.ctx.site.workspaces.projects(self.person.name))
        self.page(
            "courses.html",
            rows=rows,
            may_begin=teacher.may_begin,
            projects=[p.name for p in projects],
            text=source,
            project=project,
            problems=problems,
            checked=done[0].id if done else "",
            changes=[str(c) for c in done[1]] if done else [],
            data_roots=teaching.data_roots(self.ctx.settings),
        )


class CoursePage(PageHandler):
    """One course: how far it is, its class now."""

    async def get(self, course: str) -> None:
        """For its staff alone."""
        found = await describe(self.ctx, teacher_of(self), course)
        now = self.ctx.clock()
        self.page(
            "course.html",
            now=now,
            roster=await teaching.roster(self.ctx, found.row, now),
            states=STATES,
            **vars(found),
            **vars(found.standing),
        )

    async def post(self, course: str) -> None:
        """``act`` is build, publish, back, prepull or close."""
        act, teacher, context = self.get_body_argument("act"), teacher_of(self), self.ctx
        service = context.urls.service
        if act == "build":
            self.redirect(f"{service}builds/{await teaching.build(context, teacher, course)}")
            return
        await act_on(context, teacher, course, act)
        self.redirect(f"{service}courses/{course}")


class CourseFragment(PageHandler):
    """A live part of a course's page, by the person's own log-in: a key of the page knows no hub scopes."""

    def not_logged_in(self) -> None:
        """A script is not sent to log in; the page keeps what it shows."""
        raise web.HTTPError(403, "log in anew, and open the page again")


class ClassFragment(CourseFragment):
    """Who of the roster works now."""

    async def get(self, course: str) -> None:
        """For its staff alone."""
        teacher = teacher_of(self)
        row = await self.ctx.store(lambda s: teaching.own_course(s, teacher, course))
        self.fragment("service/class.html", roster=await teaching.roster(self.ctx, row, self.ctx.clock()))


class PullFragment(CourseFragment):
    """How far the fetching of the course's image is."""

    async def get(self, course: str) -> None:
        """For its staff alone. When it is over, the page is read again: other buttons are there then."""
        await self.ctx.store(lambda s: teaching.own_course(s, teacher_of(self), course))
        pull = self.ctx.extra.get("courses.pulls", {}).get(course)
        if pull is None or pull["state"] != "pulling":
            self.set_header("HX-Refresh", "true")
        self.fragment("service/pull.html", pull=pull, course=course, service_url=self.ctx.urls.service)


async def act_on(context: Context, teacher: Teacher, course: str, act: str) -> dict[str, object]:
    """Publish, step back, prepull or close; returns what came of it."""
    from ...courses import publication as courses

    if act in ("publish", "back"):
        return {"image_id": await teaching.publish(context, teacher, course, back=act == "back")}
    if act == "prepull":
        return dict(await teaching.prepull(context, teacher, course))
    if act == "close":
        by, now = teacher.person.name, context.clock()
        await context.store(lambda s: teaching.own_course(s, teacher, course))  # others learn nothing
        await context.store(
            lambda s: courses.close(s, course, by, now, admin=teacher.person.admin, scopes=teacher.scopes)
        )
        return {"state": "closed"}
    raise web.HTTPError(400, "there is no such button")


@dataclass(frozen=True)
class Described:
    """A course for its staff: the row, how far it is, builds, publications."""

    row: CourseRow
    builds: Sequence[BuildRow]
    publications: Sequence[PublicationRow]
    standing: Standing
    pull: PullJson | None = None
    """How far the fetching of its image is."""
    test: str = ""
    """The environment in which staff test it."""


async def describe(context: Context, teacher: Teacher, course: str) -> Described:
    """Read it; staff alone may."""

    def read(store: Store) -> Described:
        row = teaching.own_course(store, teacher, course)
        wanted = row.data.get("image") or f"{course_repository(course)}:candidate"
        facts = context.site.environments.facts(wanted)
        builds = store.builds.find(environment=f"course/{course}", limit=teaching.SHOWN)
        standing = teaching.standing(row, facts.id if facts else "", builds)
        return Described(row, builds, store.courses.publications(course)[: teaching.SHOWN], standing)

    found = await context.store(read)
    pull = context.extra.get("courses.pulls", {}).get(course)
    # A course that is not published yet is tested as itself; after that, what was built last has a card.
    test = f"course/{course}"
    if found.standing.pinned and found.standing.candidate != found.standing.pinned:
        test = f"course/{course}:candidate"
    return replace(found, pull=pull, test=test)


# ------------------------------------------------------------------------------------------- REST


class CoursesApi(ApiHandler):
    """Courses one teaches."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Courses the person teaches", "Courses"),
        "post": Operation(
            "Apply a course.yaml: `text`, or that of one's own `project`, where starter files lie too. "
            "`dry_run` only says what would change",
            "What changed",
            body={"text": {"type": "string"}, "project": {"type": "string"}, "dry_run": {"type": "boolean"}},
        ),
    }

    async def get(self) -> None:
        """Those with rights."""
        teacher = teacher_of(self)
        rows = await self.ctx.store(lambda s: s.courses.find())
        self.json({"courses": [_course_json(r) for r in rows if teacher.manages(r)]})

    async def post(self) -> None:
        """Apply."""
        body = self.body()
        source, project = body.get("text", ""), body.get("project", "")
        if not isinstance(source, str) or not isinstance(project, str):
            raise web.HTTPError(400, "text and project are texts")
        dry_run = body.get("dry_run") is True
        course, changes = await teaching.apply(self.ctx, teacher_of(self), source, project, dry_run)
        self.json(
            {"ok": True, "course": course.id, "dry_run": dry_run, "changes": [vars(c) for c in changes]}
        )


class CourseApi(ApiHandler):
    """One course."""

    openapi: ClassVar[Operations] = {
        "get": Operation("A course the person teaches", "The course", names=("course",))
    }

    async def get(self, course: str) -> None:
        """With how far it is."""
        found = await describe(self.ctx, teacher_of(self), course)
        releases = [{"image_id": p.image, "by": p.by, "at": p.at} for p in found.publications]
        far = {**vars(found.standing), "pull": found.pull}
        self.json({**_course_json(found.row), **far, "publications": releases})


class CourseActApi(ApiHandler):
    """What staff do."""

    openapi: ClassVar[Operations] = {
        "post": Operation(
            "`build`, `publish`, `back` (the release before), `prepull` or `close`",
            "Done; `build` is the id of a build",
            names=("course", "act"),
        )
    }

    async def post(self, course: str, act: str) -> None:
        """Do it."""
        teacher = teacher_of(self)
        if act == "build":
            self.json({"ok": True, "build": await teaching.build(self.ctx, teacher, course)}, 202)
            return
        self.json({"ok": True, "course": course, **await act_on(self.ctx, teacher, course, act)})


def _course_json(row: CourseRow) -> dict[str, object]:
    return {"course": row.id, "state": row.state, "owner": row.owner, **row.data}


async def stop(context: Context) -> None:
    """Leave fetches to the engine."""
    for task in list(context.extra.get("courses.tasks", ())):
        task.cancel()


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"courses", CoursesPage),
        (rf"courses/{COURSE}", CoursePage),
        (rf"courses/{COURSE}/class", ClassFragment),
        (rf"courses/{COURSE}/pull", PullFragment),
        (r"api/courses", CoursesApi),
        (rf"api/courses/{COURSE}", CourseApi),
        (rf"api/courses/{COURSE}/(build|publish|back|prepull|close)", CourseActApi),
    ]

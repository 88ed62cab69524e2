"""Environments: the page with its builder, builds with their logs, and REST for both."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, ClassVar

from markupsafe import Markup
from tornado import web

from ...errors import DS01Error, Refused
from ...images.builds import FINAL
from ...images.desk import Desk, as_card
from ...images.naming import parse_user_image
from ...images.projectfiles import ProjectFileError
from ...images.recipe import Recipe, parse_recipe
from ...images.yamlfile import FileProblems
from ...options import is_project_name
from ...policy.resolve import Person
from .. import actions, building, keeping, recipes
from ..base import ApiHandler, FragmentHandler, PageHandler
from ..context import Context
from ..environment_views import STATES, limit_lines, project_of
from ..openapi import operation

NAV = (("environments", "Environments"),)
BUILD = r"(b-[0-9a-f]{1,32})"
OWN = r"(ds01-[a-z0-9._-]{1,80}/[a-z0-9._-]{1,80}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"
BUILDS_SHOWN = 10
SAID = {
    "deleted": "The environment is deleted. Your projects are as they were.",
    "back": "The former image is the current one again, from the next start on.",
    "tagged": "The environment is kept under the further tag.",
    "cancelled": "The build is being stopped.",
    "saved": "The session is retired and saved as an image. Nobody can build it again from a recipe.",
    "kept": "The session is retired; its new packages are in your project's recipe. Build it to have them.",
}


class EnvironmentsPage(PageHandler):
    """Course, mine, shared, lab; builds; what may be built."""

    async def get(self) -> None:
        """Show everything of the person."""
        limits = await self.limits()
        shelf = await building.shelf(self.ctx, self.person, limits)
        self.page(
            "environments.html",
            cards=shelf.cards,
            builds=shelf.builds[:BUILDS_SHOWN],
            limit_lines=limit_lines(limits, shelf.own, shelf.waiting),
            may_build=limits.images.build,
            said=SAID.get(self.get_query_argument("said", ""), ""),
            project=self.get_query_argument("project", "")[:63],
            teaches=await teaches(self),
        )


async def teaches(handler: Any) -> bool:
    """Whether the page for teaching is this person's to see."""
    from . import courses

    return bool(await courses.manages_any(handler))


class Builder(PageHandler):
    """The form that makes or changes an environment."""

    async def get(self) -> None:
        """Filled in with the project's recipe, where it has one."""
        project = self.get_query_argument("project", "")
        tag = self.get_query_argument("tag", "latest")[:128]
        filled = recipes.Filled(project if is_project_name(project) else "", tag)
        if filled.project:
            desk = await building.desk(self.ctx)
            try:
                recipe = await asyncio.to_thread(desk.recipe, self.person, project)
            except (FileProblems, ProjectFileError) as problem:
                filled.problems = (f"The project's recipe.yaml cannot be used: {problem}",)
            else:
                filled = recipes.filled_from(recipe, project, tag) if recipe else filled
        if base := self.get_query_argument("base", ""):
            filled.values["base"] = base[:255]
        await self.form(filled)

    async def post(self) -> None:
        """Keep the recipe in the project and queue the build; what is wrong is said beside the form."""
        filled = recipes.read(lambda name: self.get_body_argument(name, ""))
        try:
            build = await submit(
                self.ctx, self.person, filled.project, recipes.recipe_of(filled), filled.tag,
                filled.hold_versions,
            )  # fmt: skip
        except FileProblems as problems:
            filled.problems = tuple(
                f"{p.key}: {p.message}" if p.key else p.message for p in problems.problems
            )
            self.set_status(400)
        except (Refused, ProjectFileError) as refused:
            filled.problems = (str(refused),)
            self.set_status(refused.refusal.status if isinstance(refused, Refused) else 400)
        else:
            self.redirect(f"{self.ctx.urls.service}builds/{build}")
            return
        await self.form(filled)

    async def form(self, filled: recipes.Filled) -> None:
        """Show the form."""
        limits = await self.limits()
        listed = await building.listed(self.ctx, self.person, limits)
        projects = await asyncio.to_thread(self.ctx.site.workspaces.projects, self.person.name)
        shelf = await building.shelf(self.ctx, self.person, limits)
        self.page(
            "environment.html",
            form=filled,
            bases=[i.environment for i in listed if i.allowed],
            projects=[p.name for p in projects],
            limit_lines=limit_lines(limits, shelf.own, shelf.waiting),
        )


async def submit(
    context: Context, person: Person, project: str, recipe: Recipe, tag: str, hold_versions: bool
) -> str:
    """Queue a build; returns its id."""
    limits = await context.limits(person)
    listed = await building.listed(context, person, limits)
    desk = await building.desk(context)
    return await asyncio.to_thread(desk.build, person, limits, listed, project, recipe, tag, hold_versions)


class Act(PageHandler):
    """The buttons of a card."""

    async def post(self) -> None:
        """``act`` is rebuild, back, delete or tag, on the own environment ``environment``."""
        act, environment = self.get_body_argument("act"), self.get_body_argument("environment")
        desk, person = await building.desk(self.ctx), self.person
        service = self.ctx.urls.service
        if act == "rebuild":
            build = await rebuild(self.ctx, person, environment)
            self.redirect(f"{service}builds/{build}")
            return
        if act == "back":
            to = self.get_body_argument("to", "")
            await asyncio.to_thread(desk.rollback, person, environment, to)
        elif act == "delete":
            await asyncio.to_thread(desk.delete, person, environment)
        elif act == "tag":
            await asyncio.to_thread(desk.tag, person, environment, self.get_body_argument("tag").strip())
        else:
            raise web.HTTPError(400, "there is no such button")
        self.ctx.site.environments.forget()
        said = {"back": "back", "delete": "deleted", "tag": "tagged"}[act]
        self.redirect(f"{service}environments?said={said}")


async def rebuild(context: Context, person: Person, environment: str, hold_versions: bool = False) -> str:
    """Build an own environment anew from its project's recipe; returns the build's id."""
    desk = await building.desk(context)
    projects = await asyncio.to_thread(context.site.workspaces.projects, person.name)
    parsed = parse_user_image(environment)
    project = project_of(environment, person.name, [p.name for p in projects])
    recipe = await asyncio.to_thread(desk.recipe, person, project) if project else None
    if recipe is None or parsed is None:
        raise web.HTTPError(409, "there is no recipe of this environment in a project of yours; make one")
    return await submit(context, person, project, recipe, parsed.tag, hold_versions)


class BuildPage(PageHandler):
    """One build: its state and its log, which goes on by itself."""

    async def get(self, build: str) -> None:
        """With JavaScript new lines are added; without, the page is read again every few seconds."""
        seen = await look(self.ctx, self.person, build)
        self.page("build.html", key=self.ctx.key(self.person.name), **seen)

    async def post(self, build: str) -> None:
        """Cancel it."""
        desk = await building.desk(self.ctx)
        await asyncio.to_thread(desk.cancel, self.person, build)
        self.redirect(f"{self.ctx.urls.service}builds/{build}")


class BuildFragment(FragmentHandler):
    """The lines after ``after``, the state, and where to ask for more."""

    async def get(self, build: str) -> None:
        """Rendered from the store, so it does not matter which page asks, or when."""
        raw = self.get_query_argument("after", "0")
        after = int(raw) if raw.isdecimal() and len(raw) < 10 else 0
        seen = await look(self.ctx, self.person, build, after)
        key = self.ctx.key(self.person.name)
        self.fragment("build_more.html", key=key, service_url=self.ctx.urls.service, **seen)


async def look(context: Context, person: Person, build: str, after: int = 0) -> dict[str, Any]:
    """What the build's page shows."""
    desk = await building.desk(context)

    def read() -> dict[str, Any]:
        found = desk.log(person, build, after)
        row = desk.store.get_build(build) or {}
        projects = [p.name for p in context.site.workspaces.projects(person.name)]
        return {**found, "row": row, "project": project_of(row.get("environment", ""), person.name, projects)}

    found = await asyncio.to_thread(read)
    lines = found["lines"]
    row = found["row"]
    return {
        "build": build,
        "state": found["state"],
        "word": STATES.get(found["state"], found["state"]),
        "reason": found["reason"],
        "final": found["state"] in FINAL,
        # `logtext.to_html` escapes everything but the spans it makes itself.
        "lines": [Markup(line["html"]) for line in lines],  # noqa: S704
        "after": lines[-1]["seq"] if lines else after,
        "environment": row.get("environment", ""),
        "project": found["project"],
        "course": row.get("data", {}).get("course", ""),
        "position": desk.runner.position(build),
    }


# ------------------------------------------------------------------------------------------- REST

RECIPE = {"project": {"type": "string"}, "recipe": {"type": "object"}, "tag": {"type": "string"},
          "hold_versions": {"type": "boolean"}}  # fmt: skip


class EnvironmentsApi(ApiHandler):
    """What may be started."""

    openapi: ClassVar[dict[str, Any]] = {
        "get": operation("Environments the person sees, with check and reason", "Environments")
    }

    async def get(self) -> None:
        """As on the page."""
        found = await building.shown(self.ctx, self.person, await self.limits())
        rows = [
            {
                **as_card(s.listed),
                "allowed": not s.reason,
                "reason": s.reason,
                "image_id": s.image.id if s.image else None,
                "preflight": s.preflight.as_dict() if s.preflight else None,
            }
            for s in found
        ]
        self.json({"environments": [_shareable(r) for r in rows]})


def _shareable(row: dict[str, Any]) -> dict[str, Any]:
    """A card for REST; who else sees an environment is not told."""
    return {k: v for k, v in row.items() if k not in ("people", "groups")}


class EnvironmentApi(ApiHandler):
    """One own environment."""

    openapi: ClassVar[dict[str, Any]] = {
        "get": operation("One of one's own environments with recipe and former images", "The environment"),
        "delete": operation("Delete it; refused while a session uses it", "Done"),
    }

    async def get(self, environment: str) -> None:
        """In full."""
        desk = await building.desk(self.ctx)
        row = await asyncio.to_thread(desk.get, self.person, environment)
        self.json({"id": row["id"], "state": row["state"], **row["data"]})

    async def delete(self, environment: str) -> None:
        """Delete."""
        desk = await building.desk(self.ctx)
        await asyncio.to_thread(desk.delete, self.person, environment)
        self.ctx.site.environments.forget()
        self.json({"ok": True, "id": environment})


class EnvironmentActApi(ApiHandler):
    """Changes to an own environment."""

    openapi: ClassVar[dict[str, Any]] = {
        "post": operation(
            "`rebuild`, `rollback` (to a former image `to`) or `tag` (as `tag`)",
            "Done; `build` where one was queued",
            body={"to": {"type": "string"}, "tag": {"type": "string"}, "hold_versions": {"type": "boolean"}},
            names=("id", "act"),
        )
    }

    async def post(self, environment: str, act: str) -> None:
        """Do it."""
        body, person = self.body(), self.person
        desk = await building.desk(self.ctx)
        if act == "rebuild":
            held = bool(body.get("hold_versions"))
            self.json({"ok": True, "build": await rebuild(self.ctx, person, environment, held)}, 202)
            return
        if act == "rollback":
            image = await asyncio.to_thread(desk.rollback, person, environment, _text(body, "to"))
            answer = {"ok": True, "id": environment, "image_id": image}
        else:
            reference = await asyncio.to_thread(desk.tag, person, environment, _text(body, "tag"))
            answer = {"ok": True, "id": reference}
        self.ctx.site.environments.forget()
        self.json(answer)


class BuildsApi(ApiHandler):
    """Builds."""

    openapi: ClassVar[dict[str, Any]] = {
        "get": operation("Own builds, newest first", "Builds", query=("environment",)),
        "post": operation(
            "Keep a recipe in a project and build it; without `recipe` the project's own is built",
            "The build's id",
            body=RECIPE,
        ),
    }

    async def get(self) -> None:
        """Own ones."""
        desk = await building.desk(self.ctx)
        wanted = self.get_query_argument("environment", "") or None
        rows = await asyncio.to_thread(desk.builds, self.person, wanted)
        self.json({"builds": [_build_json(r) for r in rows]})

    async def post(self) -> None:
        """Queue one."""
        body = self.body()
        if unknown := set(body) - set(RECIPE):
            raise web.HTTPError(400, f"{min(unknown)} is not known; known are {', '.join(RECIPE)}")
        project, raw = _text(body, "project"), body.get("recipe")
        if raw is None:
            desk = await building.desk(self.ctx)
            recipe = await asyncio.to_thread(desk.recipe, self.person, project)
            if recipe is None:
                raise web.HTTPError(404, "the project has no recipe.yaml and no Dockerfile")
        else:
            recipe = parse_recipe(raw, "recipe")
        tag, held = _text(body, "tag") or "latest", body.get("hold_versions") is True
        build = await submit(self.ctx, self.person, project, recipe, tag, held)
        self.set_header("Location", f"{self.ctx.urls.service}api/builds/{build}")
        self.json({"build": build, "state": "queued"}, 202)


class BuildApi(ApiHandler):
    """One build."""

    openapi: ClassVar[dict[str, Any]] = {
        "get": operation("One build with its log after line `after`", "The build", query=("after",)),
        "delete": operation("Cancel it", "Done; `ok` is false when it was over already"),
    }

    async def get(self, build: str) -> None:
        """State and log."""
        desk = await building.desk(self.ctx)
        after = self.number("after", 0, 0, 10**9)
        found = await asyncio.to_thread(desk.log, self.person, build, after)
        self.json({**found, "lines": [{"seq": x["seq"], "text": x["text"]} for x in found["lines"]]})

    async def delete(self, build: str) -> None:
        """Cancel."""
        desk = await building.desk(self.ctx)
        self.json({"ok": await asyncio.to_thread(desk.cancel, self.person, build), "build": build})


class ProjectsApi(ApiHandler):
    """Projects with their recipes."""

    openapi: ClassVar[dict[str, Any]] = {
        "get": operation("Own projects, newest first, each with its recipe", "Projects")
    }

    async def get(self) -> None:
        """A recipe that cannot be used is told as its problem."""
        desk = await building.desk(self.ctx)
        self.json({"projects": await asyncio.to_thread(_projects, desk, self.person)})


class PackagesApi(ApiHandler):
    """What a running session has that its image has not."""

    openapi: ClassVar[dict[str, Any]] = {
        "get": operation("New and changed packages of one's own session", "The difference"),
        "post": operation("Write them into the recipe of the session's project", "The difference"),
    }

    async def record(self, session: str) -> Any:
        """The session, if it is one's own."""
        snapshot = await self.ctx.snapshots.get()
        record = actions.find(snapshot, self.ctx.settings.hub_id, session=session)
        if record.labels.user != self.person.name:
            actions.allow(Person(self.person.name), record.labels.user)
        return record

    async def get(self, session: str) -> None:
        """Read."""
        found = await keeping.packages(self.ctx, await self.record(session))
        if found.diff is None:
            raise web.HTTPError(503, found.problem)
        self.json(found.diff.as_dict())

    async def post(self, session: str) -> None:
        """Write."""
        diff = await keeping.keep(self.ctx, self.person, await self.record(session))
        self.json({"ok": True, **diff.as_dict()})


def _projects(desk: Desk, person: Person) -> list[dict[str, Any]]:
    found = []
    for project in desk.site.workspaces.projects(person.name):
        row: dict[str, Any] = {"project": project.name, "recipe": None, "problem": None}
        try:
            if recipe := desk.recipe(person, project.name):
                row["recipe"] = recipe.model_dump(mode="json", exclude_defaults=True)
        except DS01Error as error:
            row["problem"] = str(error)
        found.append(row)
    return found


def _build_json(row: dict[str, Any]) -> dict[str, Any]:
    data = row["data"]
    return {
        "build": row["id"],
        "environment": row["environment"],
        "state": row["state"],
        "position": row.get("position"),
        "reason": data.get("reason", ""),
        "image_id": data.get("image"),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
    }


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise web.HTTPError(400, f"{name} is a text")
    return value


async def start(context: Context) -> None:
    """Open the builder, and fail what a restart cut short."""
    context.extra["environments.opening"] = asyncio.create_task(building.open_early(context))


async def stop(context: Context) -> None:
    """Stop builds in good order."""
    task = context.extra.pop("environments.opening", None)
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await building.close(context)


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"environments", EnvironmentsPage),
        (r"environments/edit", Builder),
        (r"environments/act", Act),
        (rf"builds/{BUILD}", BuildPage),
        (rf"fragments/builds/{BUILD}", BuildFragment),
        (r"api/environments", EnvironmentsApi),
        (rf"api/environments/{OWN}", EnvironmentApi),
        (rf"api/environments/{OWN}/(rebuild|rollback|tag)", EnvironmentActApi),
        (r"api/builds", BuildsApi),
        (rf"api/builds/{BUILD}", BuildApi),
        (r"api/projects", ProjectsApi),
        (r"api/sessions/([A-Za-z0-9_-]{1,64})/packages", PackagesApi),
    ]

"""Environments: the page with its builder, builds with their logs, and REST for both."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from markupsafe import Markup
from tornado import web

from ...core.errors import Refused
from ...core.yaml_reader import FileProblems
from ...environments.builder.builds import FINAL
from ...environments.environment_service import BuildLog
from ...policy.options import is_project_name
from ...policy.resolve import Person
from ...workspace.projectfiles import ProjectFileError
from .. import building, recipes
from ..context import Context
from ..environment_views import STATES, limit_lines, project_of
from ..handler_base import FragmentHandler, PageHandler

NAV = (("environments", "Environments"),)
BUILD = r"(b-[0-9a-f]{1,32})"
BUILDS_SHOWN = 10
SAID = {
    "deleted": "The environment is deleted. Your projects are as they were.",
    "back": "The former image is the current one again, from the next start on.",
    "tagged": "The environment is kept under the further tag.",
    "shared": "The environment is shared: members of the group find it under Shared.",
    "unshared": "The group no longer sees it. Sessions that run it go on.",
    "cancelled": "The build is being stopped.",
    "saved": "The session is retired and saved as an image. It cannot be built again from a recipe.",
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
            may_share=limits.images.share,
            groups=sorted(self.person.groups),
            admin=self.person.admin,
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
            env_service = await building.env_service(self.ctx)
            try:
                recipe = await asyncio.to_thread(env_service.recipe, self.person, project)
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
            build = await building.submit(
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


class Act(PageHandler):
    """The buttons of a card."""

    async def post(self) -> None:
        """``act`` is rebuild, back, delete, tag, share or unshare, on the own environment ``environment``."""
        act, environment = self.get_body_argument("act"), self.get_body_argument("environment")
        env_service, person = await building.env_service(self.ctx), self.person
        service = self.ctx.urls.service
        if act == "rebuild":
            build = await building.rebuild(self.ctx, person, environment)
            self.redirect(f"{service}builds/{build}")
            return
        if act == "back":
            to = self.get_body_argument("to", "")
            await asyncio.to_thread(env_service.rollback, person, environment, to)
        elif act == "delete":
            await asyncio.to_thread(env_service.delete, person, environment)
        elif act == "tag":
            limits, tag = await self.limits(), self.get_body_argument("tag").strip()
            await asyncio.to_thread(env_service.tag, person, limits, environment, tag)
        elif act in ("share", "unshare"):
            group = self.get_body_argument("group").strip()
            await building.share(self.ctx, person, environment, group, act == "share")
        else:
            raise web.HTTPError(400, "there is no such button")
        said = {"delete": "deleted", "tag": "tagged", "share": "shared", "unshare": "unshared"}.get(act, act)
        self.redirect(f"{service}environments?said={said}")


class BuildPage(PageHandler):
    """One build: its state and its log, which goes on by itself."""

    async def get(self, build: str) -> None:
        """With JavaScript new lines are added; without, the page is read again every few seconds."""
        seen = await look(self.ctx, self.person, build)
        self.page("build.html", key=self.ctx.key(self.person.name), **seen)

    async def post(self, build: str) -> None:
        """Cancel it."""
        env_service = await building.env_service(self.ctx)
        await asyncio.to_thread(env_service.cancel, self.person, build)
        self.redirect(f"{self.ctx.urls.service}builds/{build}")


class BuildFragment(FragmentHandler):
    """The lines after ``after``, the state, and where to ask for more."""

    async def get(self, build: str) -> None:
        """Rendered from the store, so it does not matter which page asks, or when."""
        raw = self.get_query_argument("after", "0")
        after = int(raw) if raw.isdecimal() and len(raw) < 10 else 0
        seen = await look(self.ctx, self.person, build, after)
        key = self.ctx.key(self.person.name)
        self.fragment("build_more.html", key=key, service_url=self.ctx.urls.told, **seen)


async def look(context: Context, person: Person, build: str, after: int = 0) -> dict[str, Any]:
    """What the build's page shows."""
    env_service = await building.env_service(context)

    def read() -> tuple[BuildLog, str]:
        found = env_service.log(person, build, after)
        projects = [p.name for p in context.site.workspaces.projects(person.name)]
        return found, project_of(found.row.environment, person.name, projects)

    found, project = await asyncio.to_thread(read)
    row, lines = found.row, found.lines
    return {
        "build": build,
        "state": row.state,
        "word": STATES.get(row.state, row.state),
        "reason": found.reason,
        "final": row.state in FINAL,
        # `logtext.to_html` escapes everything but the spans it makes itself.
        "lines": [Markup(line.html) for line in lines],  # noqa: S704
        "after": lines[-1].seq if lines else after,
        "environment": row.environment,
        "project": project,
        "course": row.data.get("course", ""),
        "position": env_service.runner.position(build),
    }


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
    ]

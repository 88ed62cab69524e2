"""REST of environments, builds, projects and the packages of a session."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from tornado import web

from ...core.errors import DS01Error
from ...environments.builder.recipe import parse_recipe
from ...environments.environment_service import EnvironmentService, OwnBuild, as_card
from ...policy.resolve import Person
from .. import actions, building, keeping
from ..handler_base import ApiHandler
from ..openapi import Operation, Operations
from .environment_pages import BUILD

OWN = r"(ds01-[a-z0-9._-]{1,80}/[a-z0-9._-]{1,80}:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"
RECIPE = {"project": {"type": "string"}, "recipe": {"type": "object"}, "tag": {"type": "string"},
          "hold_versions": {"type": "boolean"}}  # fmt: skip


class EnvironmentsApi(ApiHandler):
    """What may be started."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Environments the person sees, with check and reason", "Environments")
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
    """A card for REST; who else sees an environment is told its owner alone, as ``shared_with``."""
    told = {k: v for k, v in row.items() if k not in ("people", "groups")}
    return {**told, "shared_with": row["groups"]} if row["kind"] == "mine" else told


class EnvironmentApi(ApiHandler):
    """One own environment."""

    openapi: ClassVar[Operations] = {
        "get": Operation("One of one's own environments with recipe and former images", "The environment"),
        "delete": Operation(
            "Delete it; refused while a session uses it",
            "Done; `was_shared_with` are the groups that lose it",
        ),
    }

    async def get(self, environment: str) -> None:
        """In full."""
        env_service = await building.env_service(self.ctx)
        row = await asyncio.to_thread(env_service.get, self.person, environment)
        groups = await asyncio.to_thread(env_service.shared_with, environment)
        self.json({"id": row.id, "state": row.state, **row.data, "shared_with": groups})

    async def delete(self, environment: str) -> None:
        """Delete."""
        env_service = await building.env_service(self.ctx)
        groups = await asyncio.to_thread(env_service.delete, self.person, environment)
        self.json({"ok": True, "id": environment, "was_shared_with": groups})


class EnvironmentActApi(ApiHandler):
    """Changes to an own environment."""

    openapi: ClassVar[Operations] = {
        "post": Operation(
            "`rebuild`, `rollback` (to a former image `to`), `tag` (as `tag`), `share`, `unshare` (`group`)",
            "Done; `build` where one was queued, `shared_with` after sharing",
            body={
                "to": {"type": "string"},
                "tag": {"type": "string"},
                "group": {"type": "string"},
                "hold_versions": {"type": "boolean"},
            },
            names=("id", "act"),
        )
    }

    async def post(self, environment: str, act: str) -> None:
        """Do it."""
        body, person = self.body(), self.person
        env_service = await building.env_service(self.ctx)
        if act == "rebuild":
            held = bool(body.get("hold_versions"))
            self.json({"ok": True, "build": await building.rebuild(self.ctx, person, environment, held)}, 202)
            return
        answer: dict[str, object]
        if act == "rollback":
            image = await asyncio.to_thread(env_service.rollback, person, environment, _text(body, "to"))
            answer = {"ok": True, "id": environment, "image_id": image}
        elif act in ("share", "unshare"):
            groups = await building.share(self.ctx, person, environment, _text(body, "group"), act == "share")
            answer = {"ok": True, "id": environment, "shared_with": groups}
        else:
            limits, tag = await self.limits(), _text(body, "tag")
            reference = await asyncio.to_thread(env_service.tag, person, limits, environment, tag)
            answer = {"ok": True, "id": reference}
        self.json(answer)


class BuildsApi(ApiHandler):
    """Builds."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Own builds, newest first", "Builds", query=("environment",)),
        "post": Operation(
            "Keep a recipe in a project and build it; without `recipe` the project's own is built",
            "The build's id",
            body=RECIPE,
        ),
    }

    async def get(self) -> None:
        """Own ones."""
        env_service = await building.env_service(self.ctx)
        wanted = self.get_query_argument("environment", "") or None
        rows = await asyncio.to_thread(env_service.builds, self.person, wanted)
        self.json({"builds": [_build_json(r) for r in rows]})

    async def post(self) -> None:
        """Queue one."""
        body = self.body()
        if unknown := set(body) - set(RECIPE):
            raise web.HTTPError(400, f"{min(unknown)} is not known; known are {', '.join(RECIPE)}")
        project, raw = _text(body, "project"), body.get("recipe")
        if raw is None:
            env_service = await building.env_service(self.ctx)
            recipe = await asyncio.to_thread(env_service.recipe, self.person, project)
            if recipe is None:
                raise web.HTTPError(404, "the project has no recipe.yaml and no Dockerfile")
        else:
            recipe = parse_recipe(raw, "recipe")
        tag, held = _text(body, "tag") or "latest", body.get("hold_versions") is True
        build = await building.submit(self.ctx, self.person, project, recipe, tag, held)
        self.set_header("Location", f"{self.ctx.urls.service}api/builds/{build}")
        self.json({"build": build, "state": "queued"}, 202)


class BuildApi(ApiHandler):
    """One build."""

    openapi: ClassVar[Operations] = {
        "get": Operation("One build with its log after line `after`", "The build", query=("after",)),
        "delete": Operation("Cancel it", "Done; `ok` is false when it was over already"),
    }

    async def get(self, build: str) -> None:
        """State and log."""
        env_service = await building.env_service(self.ctx)
        after = self.number("after", 0, 0, 10**9)
        found = await asyncio.to_thread(env_service.log, self.person, build, after)
        lines = [{"seq": line.seq, "text": line.text} for line in found.lines]
        self.json({"build": build, "state": found.row.state, "reason": found.reason, "lines": lines})

    async def delete(self, build: str) -> None:
        """Cancel."""
        env_service = await building.env_service(self.ctx)
        self.json({"ok": await asyncio.to_thread(env_service.cancel, self.person, build), "build": build})


class ProjectsApi(ApiHandler):
    """Projects with their recipes."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Own projects, newest first, each with its recipe", "Projects")
    }

    async def get(self) -> None:
        """A recipe that cannot be used is told as its problem."""
        env_service = await building.env_service(self.ctx)
        self.json({"projects": await asyncio.to_thread(_projects, env_service, self.person)})


class PackagesApi(ApiHandler):
    """What a running session has that its image has not."""

    openapi: ClassVar[Operations] = {
        "get": Operation("New and changed packages of one's own session", "The difference"),
        "post": Operation("Write them into the recipe of the session's project", "The difference"),
    }

    async def record(self, session: str) -> Any:
        """The session, if it is one's own."""
        snapshot = await self.ctx.snapshots.get()
        record = actions.find(snapshot, session=session)
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


def _projects(env_service: EnvironmentService, person: Person) -> list[dict[str, object]]:
    found = []
    for project in env_service.site.workspaces.projects(person.name):
        row: dict[str, object] = {"project": project.name, "recipe": None, "problem": None}
        try:
            if recipe := env_service.recipe(person, project.name):
                row["recipe"] = recipe.model_dump(mode="json", exclude_defaults=True)
        except DS01Error as error:
            row["problem"] = str(error)
        found.append(row)
    return found


def _build_json(row: OwnBuild) -> dict[str, object]:
    data = row.data
    return {
        "build": row.id,
        "environment": row.environment,
        "state": row.state,
        "position": row.position,
        "reason": data.get("reason", ""),
        "image_id": data.get("image"),
        "created_at": row.created_at,
        "updated_at": row.updated_at,
    }


def _text(body: dict[str, object], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise web.HTTPError(400, f"{name} is a text")
    return value


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"api/environments", EnvironmentsApi),
        (rf"api/environments/{OWN}", EnvironmentApi),
        (rf"api/environments/{OWN}/(rebuild|rollback|tag|share|unshare)", EnvironmentActApi),
        (r"api/builds", BuildsApi),
        (rf"api/builds/{BUILD}", BuildApi),
        (r"api/projects", ProjectsApi),
        (r"api/sessions/([A-Za-z0-9_-]{1,64})/packages", PackagesApi),
    ]

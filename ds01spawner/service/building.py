"""The service's one environment service: opened when the engine and the store answer, closed at the end.

Gathers, in a thread, what the pages and REST show of one person's environments.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tornado import web

from ..core.errors import DS01Error, EngineError, StoreError
from ..engines.docker.image_probe import clear_leftovers
from ..environments.builder.buildnetwork import BuildsNetwork
from ..environments.builder.builds import BuildRunner
from ..environments.builder.recipe import Recipe
from ..environments.builder.sitebuild import build_site
from ..environments.catalogue import Listed
from ..environments.environment_service import EnvironmentService
from ..environments.naming import parse_user_image
from ..environments.offered import Shown
from ..policy.resolve import Limits, Person
from ..store.catalogue import ACTIVE
from ..store.rows import EnvironmentRow
from .context import Context
from .environment_views import BuildLine, Card, build_line, card, project_of

RETRY_S = 20
KEY = "environments.desk"
log = logging.getLogger(__name__)


async def env_service(context: Context) -> EnvironmentService:
    """The environment service; `EngineError` or `StoreError` while one of them does not answer."""
    found = context.extra.get(KEY)
    if found is None:
        lock = context.extra.setdefault(f"{KEY}.lock", asyncio.Lock())
        async with lock:
            found = context.extra.get(KEY)
            if found is None:
                found = context.extra[KEY] = await asyncio.to_thread(_open, context)
    env_service: EnvironmentService = found
    return env_service


def _open(context: Context) -> EnvironmentService:
    site = context.site
    images = site.environments.images
    site.engine.capabilities()
    limits = site.limits(Person(""), context.clock())
    made = build_site(
        images,
        cuda=site.engine.inventory(60).inventory.cuda,
        minimum_free=limits.storage.minimum_free.engine,
        engine_root=site.engine.capacity().storage,
        ready=BuildsNetwork(site.settings, images).ready,
        listed=site.environments.lab,
        registries=site.settings.image_registries,
    )
    runner = BuildRunner(site.store(), images, made, clock=context.clock)
    stale = runner.recover()
    clear_leftovers(images)
    if stale:
        log.warning("Builds that a restart cut short are failed: %s", ", ".join(stale))
    return EnvironmentService(site, runner, context.clock)


async def open_early(context: Context) -> None:
    """Open the environment service once it can be, so that no build stays "building" after a restart."""
    while True:
        try:
            await env_service(context)
            return
        except (EngineError, StoreError) as error:
            log.warning("Environments cannot be built yet: %s", error)
        except DS01Error as error:
            log.error("Environments cannot be built: %s", error)
        await asyncio.sleep(RETRY_S)


async def close(context: Context) -> None:
    """Stop what is being built; it is failed, with the reason."""
    found = context.extra.pop(KEY, None)
    if found is not None:
        await asyncio.to_thread(found.runner.close)


@dataclass(frozen=True)
class Shelf:
    """One person's environments: cards by section, builds, projects."""

    cards: Mapping[str, list[Card]]
    """By kind: course, mine, shared, lab."""
    builds: list[BuildLine]
    own: int
    waiting: int
    """Builds of everybody that are under way."""
    projects: list[str]


async def shown(context: Context, person: Person, limits: Limits) -> list[Shown]:
    """Everything the person sees, with what is known of its image."""
    return await asyncio.to_thread(context.site.environments.shown, person, limits)


async def listed(context: Context, person: Person, limits: Limits) -> list[Listed]:
    """What the person sees, each startable or with the reason."""
    return await asyncio.to_thread(context.site.environments.listed, person, limits)


async def shelf(context: Context, person: Person, limits: Limits) -> Shelf:
    """See `Shelf`."""
    the = await env_service(context)
    snapshot = await context.snapshots.get()
    running: dict[str, list[str]] = {}
    for record in snapshot.ledger.sessions:
        if record.labels.user == person.name:
            running.setdefault(record.labels.environment, []).append(record.labels.image)
    return await asyncio.to_thread(_shelf, context, the, person, limits, running)


def _shelf(
    context: Context,
    the: EnvironmentService,
    person: Person,
    limits: Limits,
    running: Mapping[str, list[str]],
) -> Shelf:
    site, now, url = context.site, context.clock(), context.urls.service
    projects = [p.name for p in site.workspaces.projects(person.name)]
    rows = {row.id: row for row in the.store.environments.find(owner=person.name, kind="mine")}
    found = the.builds(person)
    lines = [build_line(b, project_of(b.environment, person.name, projects), url) for b in found]
    latest: dict[str, BuildLine] = {}
    for line in lines:
        latest.setdefault(line.environment, line)
    cards: dict[str, list[Card]] = {"course": [], "mine": [], "shared": [], "lab": []}
    everything = site.environments.shown(person, limits)
    for item in everything:
        environment = item.environment
        row = rows.get(environment.id)
        cards[environment.kind].append(
            card(
                item,
                now,
                person=person.name,
                projects=projects,
                row=row,
                build=latest.get(environment.id),
                running=running.get(environment.id, ()),
                newer_base=bool(row) and _newer_base(row, everything),
                service_url=url,
            )
        )
    waiting = len(the.store.builds.find(states=ACTIVE))
    return Shelf(cards, lines, len(rows), waiting, projects)


def _newer_base(row: EnvironmentRow | None, everything: Iterable[Shown]) -> bool:
    """Whether an environment's base is another image now than when it was built."""
    data = row.data if row else {}
    base, built_on = (data.get("recipe") or {}).get("base", ""), (data.get("lock") or {}).get("base", "")
    if not built_on or (data.get("recipe") or {}).get("dockerfile"):
        return False
    for item in everything:
        e = item.environment
        if (e.id == base or (not base and e.kind == "lab" and e.default)) and item.image:
            return bool(item.image.id != built_on)
    return False


async def submit(
    context: Context, person: Person, project: str, recipe: Recipe, tag: str, hold_versions: bool
) -> str:
    """Queue a build; returns its id."""
    limits = await context.limits(person)
    seen = await listed(context, person, limits)
    the = await env_service(context)
    return await asyncio.to_thread(the.build, person, limits, seen, project, recipe, tag, hold_versions)


async def share(context: Context, person: Person, environment: str, group: str, on: bool) -> list[str]:
    """Share an own environment with a group, or end it; the groups it is shared with then."""
    the, limits = await env_service(context), await context.limits(person)

    def work() -> list[str]:
        if on:
            return the.share(person, limits, environment, group)
        return the.unshare(person, environment, group)

    return await asyncio.to_thread(work)


async def rebuild(context: Context, person: Person, environment: str, hold_versions: bool = False) -> str:
    """Build an own environment anew from its project's recipe; returns the build's id."""
    the = await env_service(context)
    projects = await asyncio.to_thread(context.site.workspaces.projects, person.name)
    parsed = parse_user_image(environment)
    project = project_of(environment, person.name, [p.name for p in projects])
    recipe = await asyncio.to_thread(the.recipe, person, project) if project else None
    if recipe is None or parsed is None:
        raise web.HTTPError(409, "there is no recipe of this environment in a project of yours; make one")
    return await submit(context, person, project, recipe, parsed.tag, hold_versions)

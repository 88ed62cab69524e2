"""A start's environment: chosen among what the person may use, fetched where it is missing, and pinned."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import messages
from ..core.errors import EngineError, Refused
from ..engines.docker.image_store import ImageMissing, Resolved
from ..environments.catalogue import Environment
from ..environments.pulling import Pulled
from ..workspace.starter_files import data_mounts

if TYPE_CHECKING:
    from ..queue.turns import Turn
    from .server import Server, Wish


@dataclass(frozen=True)
class Chosen:
    """What a session runs from, by the image's immutable id, and what its course brings."""

    image: Resolved
    course: Mapping[str, Any]
    """The document of the course; empty where it is no course's."""
    mounts: tuple[Mapping[str, Any], ...]
    """Folders of a course's data, read-only."""


async def choose_image(server: Server, turn: Turn, wish: Wish) -> Chosen:
    """The environment's image as it is now; `Refused` where it may not be had or cannot run."""
    site, fallback, now = server.site, server.configured_image, server.clock()

    def choose() -> Environment:
        limits = site.limits(wish.person, now)
        return site.environments.choose(wish.person, limits, wish.options.environment, fallback)

    environment = await asyncio.to_thread(choose)
    server.kept.keep(wish.options, environment.name)
    try:
        image = await _present(server, turn, wish, environment)
    except Refused as refused:
        if refused.refusal.code == "image-missing":
            # The list may be some seconds old: what was deleted meanwhile is refused as unknown.
            await asyncio.to_thread(site.environments.renew)
            await asyncio.to_thread(choose)
        raise
    run = site.environments.images.run
    if judges_images(server):
        await run(site.environments.refuse_unfit, image, wish.options.gpu != "none")
    course = await run(site.environments.course, environment)
    roots = site.settings.data_roots
    mounts = await run(data_mounts, course.get("data") or (), roots, environment.course)
    return Chosen(image, course, mounts)


def judges_images(server: Server) -> bool:
    """Whether an image is checked for the server it must have; not where the site starts another."""
    return bool(server.cmd) and server.cmd[0] == "jupyterhub-singleuser"


async def _present(server: Server, turn: Turn, wish: Wish, environment: Environment) -> Resolved:
    """The environment's image on this machine, pulled with progress where it may be."""
    offered = server.site.environments
    try:
        return await offered.images.run(offered.resolve, environment, wish.person)
    except Refused:
        if environment.pinned or environment.kind in ("mine", "shared") or server.pull_policy == "never":
            raise
    turn.aside()
    loop, log, told = asyncio.get_running_loop(), server.progress_log, set[int]()

    def tell(pulled: Pulled) -> None:
        if (percent := round(100 * pulled.fraction)) not in told:
            told.add(percent)
            line, part = f"Fetching {environment.image}: {pulled}", 0.1 + 0.8 * pulled.fraction
            loop.call_soon_threadsafe(partial(log.step, "image", line, finished=False, fraction=part))

    log.step("image", f"Fetching {environment.image}", finished=False, fraction=0.1)
    try:
        await server.site.engine.in_order("pull", None, lambda: offered.images.pull(environment.image, tell))
    except (EngineError, ImageMissing) as error:
        raise Refused(
            messages.image_missing(environment.name, f"{environment.image} ({error})", own=False)
        ) from error
    return await offered.images.run(offered.resolve, environment, wish.person)

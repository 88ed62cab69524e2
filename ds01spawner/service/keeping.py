"""What a session has that its image has not, and keeping it: into the recipe, or as an image."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from .. import messages
from ..core.errors import DS01Error, Refused
from ..core.lag import within
from ..engines.base import EngineSession
from ..engines.docker.snapshot import PackageDiff
from ..policy.resolve import Person
from . import building
from .context import Context

PATIENCE_S = 20


@dataclass(frozen=True)
class Found:
    """The difference, or why it is not known."""

    diff: PackageDiff | None
    problem: str = ""


async def packages(context: Context, record: EngineSession) -> Found:
    """Ask a running session for its packages. Not knowing is no reason against retiring it."""
    try:
        env_service = await building.env_service(context)
        work = asyncio.to_thread(env_service.new_packages, record.container, record.labels.image)
        return Found(await within(work, PATIENCE_S))
    except asyncio.TimeoutError:  # not the built-in before Python 3.11
        return Found(None, "the session did not answer in time")
    except DS01Error as error:
        return Found(None, str(error))


async def keep(context: Context, person: Person, record: EngineSession) -> PackageDiff:
    """Write a session's new packages into its project's recipe. `Refused` when they cannot be read."""
    found = await packages(context, record)
    if found.diff is None:
        raise Refused(messages.packages_unknown(found.problem))
    env_service, labels = await building.env_service(context), record.labels
    limits = await context.limits(person)
    await asyncio.to_thread(
        env_service.keep_packages, person, limits, labels.project, labels.environment, found.diff
    )
    return found.diff


async def save(context: Context, person: Person, record: EngineSession) -> str:
    """Save a session as an image of its project, where the policy lets the person; returns its name."""
    env_service, labels = await building.env_service(context), record.labels
    limits = await context.limits(person)
    return await asyncio.to_thread(env_service.save, person, limits, labels.project, record.container)

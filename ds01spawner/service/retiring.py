"""Retiring sessions from the service: the decision is made durable, then hub and engine are asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .. import messages
from ..core.errors import DS01Error
from ..core.hub_client import HubError, Stopped
from ..engines.base import EngineSession
from ..intents.carry import carry
from ..intents.intent import IntentError, Kind, intend
from ..policy.resolve import Person
from ..site import Site
from .context import Context

MAX_REASON = 300
ASK_AGAIN_S = 0.5
log = logging.getLogger(__name__)


class Hub(Protocol):
    """What is asked of the hub; `hub_client.HubClient` is the real one."""

    async def stop(self, user: str, server: str) -> Stopped:
        """Retire a server."""


@dataclass(frozen=True)
class Outcome:
    """What became of a retire so far. ``sentence`` is for people."""

    gone: bool
    sentence: str = ""


async def retire(context: Context, by: Person, record: EngineSession, reason: str) -> Outcome:
    """Retire a session for its owner or an admin; returns when it is gone, or when that takes longer."""
    own = by.name == record.labels.user
    said = reason.strip()[:MAX_REASON] or ("you retired it" if own else f"{by.name} retired it")
    kind: Kind = "retired" if own else "admin"
    now = context.clock()  # the note is kept for later where the store is down
    await asyncio.to_thread(context.site.endings.note, record.labels.session, now, said, kind, by.name)
    outcome = await retire_session(context.site, context.hub, record, context.clock, said, kind, by.name)
    await context.snapshots.changed()
    return outcome


async def retire_session(
    site: Site,
    hub: Hub,
    record: EngineSession,
    clock: Callable[[], datetime],
    reason: str,
    kind: Kind,
    by: str,
) -> Outcome:
    """Write the intent, ask the hub, and end on the engine what the hub does not know.

    `DS01Error` only when neither the intent nor the retire succeeded: then nothing of it goes on.
    """
    labels = record.labels
    wanted = intend(labels, clock(), reason=reason, kind=kind, by=by, container=record.container)
    try:
        intent, durable = await asyncio.to_thread(site.intents.ask, wanted), True
    except IntentError as error:
        log.error("A crash now would forget that %s is being retired: %s", labels.address, error)
        intent, durable = wanted, False
    try:
        under_way = await hub.stop(labels.user, labels.server) == "pending"
    except (HubError, OSError) as error:
        log.warning("The hub does not retire %s, so the engine is asked: %s", labels.address, error)
        under_way = False
    if under_way:
        return await asyncio.to_thread(state, site, labels.session)
    # The hub has ended it, or does not know it; the engine says which, and ends it.
    done = await asyncio.to_thread(carry, site, intent, clock())
    if not done.gone and not durable:
        raise DS01Error(f"{labels.address}: {messages.NOT_RETIRED} ({done.problem})")
    return Outcome(done.gone, "" if done.gone else messages.retiring(done.problem))


def state(site: Site, session: str) -> Outcome:
    """Whether a session that was to be retired is gone. Blocking."""
    intent = site.intents.get(session)
    if intent is None:
        return Outcome(True)
    problem = intent.problem
    try:
        site.engine.answers()
    except DS01Error as error:
        problem = str(error)
    return Outcome(False, messages.retiring(problem))


async def wait_gone(context: Context, session: str, seconds: float = 30) -> Outcome:
    """Wait, at most so long, until a session that is being retired is gone."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await asyncio.to_thread(state, context.site, session)
        if found.gone or asyncio.get_running_loop().time() >= deadline:
            return found
        await asyncio.sleep(ASK_AGAIN_S)

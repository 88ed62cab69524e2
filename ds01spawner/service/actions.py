"""What the service does to sessions: retire one with a reason, keep one alive within the caps."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from .. import messages
from ..core.errors import Refusal, Refused
from ..engines.base import EngineSession
from ..idle import keepalive
from ..idle.idle_store import Book
from ..idle.model import Session
from ..idle.rules import from_policy
from ..policy.resolve import Person
from ..store import Store
from .context import Context
from .site_reading import Snapshot
from .views import POLL_S


def find(snapshot: Snapshot, *, session: str = "", user: str = "", server: str = "") -> EngineSession:
    """A session by its id, or by user and server; `Refused` when there is none, or while none can tell."""
    for record in snapshot.ledger.sessions:
        labels = record.labels
        if labels.session == session if session else (labels.user, labels.server) == (user, server):
            return record
    if not snapshot.engine:
        raise Refused(messages.session_unsure())
    raise Refused(messages.session_unknown(another=False))


def allow(person: Person, owner: str) -> None:
    """Own sessions are one's own; those of others are for admins. A stranger learns nothing: 404."""
    if person.name != owner and not person.admin:
        raise Refused(messages.session_unknown(another=True))


async def cancel(context: Context, user: str, server: str) -> None:
    """Have the hub stop a server that has no session yet, because it is still starting."""
    await context.hub.stop(user, server)
    await context.snapshots.changed()


async def keep(
    context: Context, person: Person, record: EngineSession, seconds: float, source: str
) -> keepalive.Grant:
    """Keep a session alive; `Refused` when the caps leave nothing."""
    owner = await context.hub.person(record.labels.user)
    limits = await context.limits(owner)
    now = context.clock()

    labels = record.labels
    session = Session(labels.session, labels.user, labels.server, labels.project)
    rules = from_policy(limits.idle, limits.source("idle.timeout"), POLL_S)

    def book(store: Store) -> keepalive.Grant | Refusal:
        return Book(lambda: store).keep_alive(session, rules, seconds, now, by=person.name, source=source)

    answer = await context.store(book)
    if isinstance(answer, Refusal):
        raise Refused(answer)
    return answer


async def last_options(context: Context, person: str, server: str) -> Mapping[str, object]:
    """The options a server was started with, as the hub knows them; empty where it does not."""
    found = (await context.hub.user(person, max_age=0)).servers.get(server)
    return found.options if found else {}


async def wait_gone(context: Context, person: str, server: str, seconds: float = 30) -> bool:
    """Whether the hub lists the server no more as running or pending, waiting at most so long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        if not (await context.hub.user(person, max_age=0)).is_up(server):
            return True
        if asyncio.get_running_loop().time() >= deadline:
            return False
        await asyncio.sleep(0.5)

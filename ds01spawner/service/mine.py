"""Everything about one person's running sessions, gathered for their cards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..core import text
from ..core.errors import DS01Error, StoreError
from ..engines.base import EngineSession
from ..idle.model import Decision
from ..intents.intent import Intent
from ..notify.channels import banner
from ..pages.cards import SessionCard
from ..pages.inputs import KeepAlive, Runs, Series
from ..policy.resolve import Person
from ..store import Store
from ..store.rows import NoticeRow
from . import views
from .context import Context
from .site_reading import CHANGED_S, Snapshot

log = logging.getLogger(__name__)


async def cards(
    context: Context, person: Person, running: Collection[str] | None = None
) -> list[SessionCard]:
    """The person's sessions as cards. What the store cannot tell is left out, not guessed.

    ``running`` are the servers the hub knows of; where the shared reading shows others, it was made
    before the last start or retire, and the machine is read anew.
    """
    now = context.clock()
    snapshot = await context.snapshots.get()
    if running is not None:
        shown = {r.labels.server for r in views.own_sessions(snapshot, person.name)}
        if shown != set(running):
            snapshot = await context.snapshots.get(0, CHANGED_S)
    records = views.own_sessions(snapshot, person.name)
    sessions = [r.labels.session for r in records]
    keeps: dict[str, KeepAlive] = {}
    if sessions:
        limits = await context.limits(person)

        def read(store: Store) -> dict[str, KeepAlive]:
            return {s: views.keep_alive(store, limits, s, person.name, now) for s in sessions}

        try:
            keeps = await context.store(read)
        except StoreError:
            keeps = {}
    return views.cards(
        snapshot,
        person,
        context,
        now,
        keeps,
        await decisions(context, sessions),
        series(context, sessions),
        await runs(context, person, records),
        await _unwatched(context, now),
        await intents(context),
    )


async def intents(context: Context) -> dict[str, Intent]:
    """The open intents by session."""
    return {i.session: i for i in await asyncio.to_thread(context.site.intents.open)}


async def runs(context: Context, person: Person, records: Sequence[EngineSession]) -> Mapping[str, Runs]:
    """What the sessions run, by session id; nothing while the environments cannot be read."""
    if not records:
        return {}
    try:
        return await asyncio.to_thread(views.runs, context.site.environments, person, records)
    except DS01Error as error:
        log.info("The environments of %s's sessions are not known: %s", person.name, error)
        return {}


async def _unwatched(context: Context, now: datetime) -> str:
    """What a card says of a session without a decision."""
    published = await context.decisions.get(now)
    if published.stale:
        since = f" since {text.moment(published.at)}" if published.at else ""
        return f"The idle service has not looked{since}. No session is retired as idle meanwhile."
    if published.at is None:
        return "It was not looked at yet, so it is not retired as idle."
    return "It has just started; nothing is measured yet."


async def decisions(context: Context, sessions: Sequence[str]) -> Mapping[str, Decision]:
    """The idle service's last decision of each session, where there is a recent one."""
    if not sessions:
        return {}
    found = (await context.decisions.get(context.clock())).decisions
    return {s: found[s] for s in sessions if s in found}


def series(context: Context, sessions: Sequence[str]) -> Mapping[str, Sequence[Series]]:
    """Measured courses of each session, where the sampler has any."""
    source: Any = context.extra.get("series")
    return {s: source(s) for s in sessions} if source else {}


async def notices(context: Context, person: Person, now: datetime) -> list[NoticeRow]:
    """What the person should read; nothing while the store is down."""

    def read(store: Store) -> list[NoticeRow]:
        found = banner(store, person.name, now)
        for notice in found:
            if not notice.seen_at:
                store.notices.see(notice.id, person.name, now)
        return found

    try:
        return await context.store(read)
    except StoreError:
        return []


def activity(snapshot: Snapshot, found: Mapping[str, Decision]) -> dict[str, str]:
    """``idle 40 min`` by device UUID, for sessions the idle service has looked at."""
    phrases: dict[str, str] = {}
    for record in snapshot.ledger.sessions:
        decision = found.get(record.labels.session)
        if decision is None:
            continue
        idle = decision.state != "active" and decision.idle_seconds >= 60
        phrase = f"idle {text.duration(decision.idle_seconds)}" if idle else "active"
        phrases |= dict.fromkeys(record.labels.gpu_uuids, phrase)
    return phrases

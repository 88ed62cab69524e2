"""Retirements are finished, and sessions that nobody owns are found: a look at engine, hub and intents
every few seconds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol

from ..core.errors import DS01Error, StoreError
from ..core.hub_client import HubUser
from ..intents.carry import carry_open
from ..intents.intent import Intent, IntentError
from ..intents.orphans import Missed, Plan, Present, Rules, Server, plan
from ..messages import notes
from ..policy.resolve import Person
from ..site import Site

INTERVAL_S = 10.0
SOON_S = 2.0
"""Pause while a retirement is under way."""
log = logging.getLogger(__name__)


class Hub(Protocol):
    """What is asked of the hub; `hub_client.HubClient` is the real one."""

    def users(self, state: str = ...) -> AsyncIterator[HubUser]:
        """Everybody with servers in that state."""


class Reconciler:
    """One for the service. Its memory is what the hub did not list lately; losing it costs a minute."""

    def __init__(
        self,
        site: Site,
        hub: Hub,
        clock: Callable[[], datetime],
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._site, self._hub, self._clock, self._on_change = site, hub, clock, on_change
        self._missed: Mapping[str, Missed] = {}

    async def run(self) -> None:
        """Look for ever. What fails is logged and looked at again."""
        while True:
            try:
                under_way = await self.look()
            except DS01Error as error:
                log.warning("Who owns which session cannot be told now: %s", error)
                under_way = await asyncio.to_thread(self._any_due)
            except Exception:
                log.exception("Who owns which session cannot be told now")
                under_way = False
            await asyncio.sleep(SOON_S if under_way else INTERVAL_S)

    async def look(self) -> bool:
        """One look; whether a retirement is still under way. What is due is carried out first, whatever
        the hub and the list of containers say."""
        carried = await asyncio.to_thread(carry_open, self._site, self._clock())
        if any(c.gone for c in carried):
            self._on_change()
        present = await asyncio.to_thread(self._present)
        servers = await self._servers() if present else {}
        await asyncio.to_thread(self._decide, present, servers)
        return await asyncio.to_thread(self._any_due)

    def _any_due(self) -> bool:
        now = self._clock()
        return any(not i.waits(now) for i in self._site.intents.open())

    def _present(self) -> list[Present]:
        """Every session of this installation that the engine lists; `EngineError` where it does not."""
        return [Present(r.labels, r.container, r.state) for r in self._site.engine.look().sessions]

    async def _servers(self) -> dict[tuple[str, str], Server] | None:
        """The hub's running, starting and stopping servers; None while it does not tell all of them."""
        found: dict[tuple[str, str], Server] = {}
        try:
            async for user in self._hub.users("active"):
                for name, server in user.servers.items():
                    found[user.name, name] = Server(server.container, server.ready)
        except DS01Error as error:
            log.warning("The hub does not list its servers, so no session is unknown to it: %s", error)
            return None
        return found

    def _decide(self, present: list[Present], servers: dict[tuple[str, str], Server] | None) -> None:
        site, now = self._site, self._clock()
        intents = {i.session: i for i in site.intents.open()}
        found = plan(present, servers, intents, self._missed, now, self._rules(present, now))
        self._missed = found.missed
        self._act(found, now)

    def _act(self, found: Plan, now: datetime) -> None:
        for session in found.withdraw:
            if self._site.intents.withdraw(session, now):
                with suppress(StoreError):
                    self._site.store().notices.expire(notice_key(session), now)
        for intent in found.ask:
            log.warning("%s has no server in the hub: %s (%s)", intent.address, intent.reason, intent.kind)
            try:
                self._site.intents.ask(intent)
            except IntentError as error:
                log.error("%s is asked for again: %s", intent.address, error)
                continue
            if intent.kind == "orphan":
                self._tell(intent, now)

    def _rules(self, present: list[Present], now: datetime) -> Rules:
        """The site's limit, and the longest lead that the owners are promised."""
        settings, leads = self._site.settings, [Rules.lead.total_seconds()]
        for user in {p.labels.user for p in present if p.labels.session in self._missed}:
            with suppress(DS01Error):
                leads.append(self._site.limits(Person(user), now).idle.lifetime_lead)
        return Rules(timedelta(seconds=settings.orphan_limit), timedelta(seconds=max(leads)))

    def _tell(self, intent: Intent, now: datetime) -> None:
        text = notes.unknown_to_hub(intent.project)
        try:
            store = self._site.store()
            store.notices.add(
                intent.user,
                text,
                now,
                kind="orphan",
                level="warning",
                key=notice_key(intent.session),
                expires_at=intent.due,
                server=intent.server,
                session=intent.session,
            )
            store.events.add(
                now,
                "session",
                "unknown",
                user=intent.user,
                project=intent.project,
                reason=text,
                server=intent.server,
                session=intent.session,
            )
        except StoreError as error:
            log.warning("%s is not told that the hub does not know their session: %s", intent.user, error)


def notice_key(session: str) -> str:
    """The key of the notice about a session that the hub does not know."""
    return f"orphan:{session}"

"""Ends the sessions that the idle service decided to retire, side by side, each after one more look."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from ..core.errors import DS01Error
from ..core.hub_client import HubServer, Stopped
from ..intents.intent import Intent, IntentError
from ..notify.channels import Notice
from .case import Case, Parts, Settled, session_of
from .decide import decide
from .model import Decision, Memory, Pressure

log = logging.getLogger(__name__)


class Retirer:
    """``memory`` gives what is remembered of a session now."""

    def __init__(self, parts: Parts, settled: Settled, memory: Callable[[str], Memory | None]) -> None:
        self._parts, self._settled, self._memory = parts, settled, memory
        self.retired: Counter[str] = Counter()
        """Sessions stopped, by cause."""
        self._stops = asyncio.Semaphore(settled.at_once)
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._untold: dict[str, Notice] = {}

    def begin(self, cases: Iterable[Case]) -> None:
        """Begin the retires that are due and are not under way."""
        for case in cases:
            if case.decision.state != "retire" or case.session.id in self._stopping:
                continue
            if self._settled.dry_run:
                log.info("Would retire %s: %s", case.session.address, case.decision.reason)
                continue
            task = asyncio.create_task(self._retire(case))
            self._stopping[case.session.id] = task
            task.add_done_callback(partial(self._stopped, case.session.id))

    def _stopped(self, session: str, _: asyncio.Task[None]) -> None:
        self._stopping.pop(session, None)

    async def settle(self) -> None:
        """Wait for the retires under way."""
        while self._stopping:
            await asyncio.gather(*self._stopping.values(), return_exceptions=True)

    async def confirm(self, case: Case) -> Decision | None:
        """Look once more and record the reason; None when the session is to be kept after all."""
        decision = await self._look_again(case)
        if decision is not None:
            book, now = self._parts.book, self._parts.clock()
            await asyncio.to_thread(book.retiring, case.session, decision, now)
            log.info("Retiring %s: %s", case.session.address, decision.reason)
        return decision

    async def tell_late(self, open_: Mapping[str, Intent]) -> None:
        """A retirement is told of when its session is gone, however long that took."""
        for session in [s for s in self._untold if s not in open_]:
            await self._parts.notifier.send(self._untold.pop(session))

    async def _retire(self, case: Case) -> None:
        """Confirm, decide for good, stop, tell. What does not succeed now is finished by whoever can."""
        session, parts = case.session, self._parts
        async with self._stops:
            try:
                decision = await self.confirm(case)
                if decision is None:
                    return
                gone = await self._stop(case, decision)
            except (DS01Error, OSError) as error:
                log.warning("%s is not retired now: %s", session.address, error)
                return
            except Exception:
                log.exception("%s is not retired now", session.address)
                return
        self.retired[decision.cause or "idle"] += 1
        notice = case.notice("retired", f"{session.id}:retired", decision.reason, parts.clock())
        if gone:
            await parts.notifier.send(notice)
        else:
            self._untold[session.id] = notice

    async def _stop(self, case: Case, decision: Decision) -> bool:
        """Make the decision durable, then have the hub or the engine end the session; whether it is gone."""
        session, retirements, now = case.session, self._parts.retirements, self._parts.clock()
        try:
            await asyncio.to_thread(retirements.ask, case.running, decision, now)
        except IntentError as error:
            log.error("A crash now would forget that %s is being retired: %s", session.address, error)
        outcome: Stopped = "gone"
        try:
            if not case.server.lost:
                remove = self._settled.remove_named
                outcome = await self._parts.hub.stop(session.user, session.server, remove)
        except (DS01Error, OSError) as error:
            log.warning("The hub does not retire %s, so the engine is asked: %s", session.address, error)
        if outcome == "pending":
            return False
        # The engine says whether it is gone, and ends what the hub does not know (any more).
        return await asyncio.to_thread(retirements.end, case.running, decision, now)

    async def _look_again(self, case: Case) -> Decision | None:
        """The decision right before the stop, or None when the session is to be kept after all."""
        session, parts = case.session, self._parts
        server: HubServer | None = case.server
        if not case.server.lost:
            server = await parts.hub.server(session.user, session.server)
        if server is None or server.pending or server.started != case.server.started:
            return None  # stopped, stopping, or started anew meanwhile
        facts = await asyncio.to_thread(parts.book.facts, [session.id], parts.clock())
        looks = await parts.observer.look([case.running], {(session.user, session.server): server})
        look, session = looks[session.id], session_of(case.running, server, facts)
        pressure = Pressure(1.0, max(1, facts.waiting)) if case.decision.pressed else None
        decision = decide(
            parts.clock(), session, look.signals, case.rules, self._memory(session.id), pressure
        )
        if decision.state != "retire":
            log.info("%s is kept after all: %s", session.address, decision.reason)
            return None
        return decision

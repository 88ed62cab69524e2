"""The idle service: every ``poll`` seconds look at all sessions, decide, warn, retire.

Why a loop of our own and not jupyterhub-idle-culler's: that one awaits the stops of different users one
after the other, so a hundred sessions whose containers take a second to stop take a hundred seconds,
whatever its ``concurrency``; ``benchmarks/bench_idle.py`` measures both. A site that prefers its loop
gives it `arbiter.Arbiter` as ``cull_arbiter_hook``: the decisions are the same.

Anything that fails on the way to a decision (engine, hub, store) ends the pass. That time then was not
observed, so it counts for nobody, and when it was long every warning has to be given afresh.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from ..core.errors import DS01Error, Refusal
from ..core.hub_client import HubServer, Stopped
from ..intents.model import Intent, IntentError
from ..notify.channels import Kind, Notice, Notifier
from . import keepalive
from .book import Book, Facts
from .decide import decide, mark_visible
from .engine import Running
from .model import Decision, IdleRules, Memory, Pressure, Session, Warned
from .observe import Look
from .retirements import Retirements, lost_servers, ours, rules_of
from .state import IdleFiles

log = logging.getLogger(__name__)


class Hub(Protocol):
    """What the service asks of the hub (see `hub_client.HubClient`)."""

    async def servers(self) -> dict[tuple[str, str], HubServer]: ...
    async def server(self, user: str, name: str) -> HubServer | None: ...
    async def stop(self, user: str, name: str) -> Stopped: ...


class Eyes(Protocol):
    """What the service asks of the sensors (see `observe.Observer`)."""

    async def look(
        self, running: Collection[Running], servers: Mapping[tuple[str, str], HubServer]
    ) -> dict[str, Look]: ...
    def keep_only(self, sessions: Collection[str]) -> None: ...


@dataclass(frozen=True)
class Settled:
    """How the service works: times in seconds, number of stops at once."""

    poll: float = 60.0
    parallel: int = 16
    dry_run: bool = False


@dataclass(frozen=True)
class Parts:
    """The service's surroundings. ``running``, ``rules`` and ``share`` block and run in threads."""

    hub: Hub
    eyes: Eyes
    running: Callable[[], list[Running]]
    rules: Callable[[HubServer, datetime], IdleRules]
    book: Book
    notifier: Notifier
    files: IdleFiles
    clock: Callable[[], datetime]
    retirements: Retirements
    share: Callable[[Collection[Running]], float] = field(default=lambda _: 0.0)
    """Share of the machine's devices in use, 0 to 1."""
    base_url: str = "/"
    """The deployment's, below which sessions have their paths."""


@dataclass(frozen=True)
class Case:
    """One session within one pass."""

    running: Running
    server: HubServer
    session: Session
    rules: IdleRules
    decision: Decision


class IdleService:
    """Runs passes. One instance owns the memory; do not run two for one hub."""

    def __init__(self, parts: Parts, settled: Settled | None = None) -> None:
        self.parts, self.settled = parts, settled or Settled()
        self.memory: dict[str, Memory] = parts.files.load()
        self.passes = self.failures = 0
        self.retired: Counter[str] = Counter()
        """Sessions stopped, by cause."""
        self.seconds = 0.0
        """What the last look took."""
        self._stops = asyncio.Semaphore(self.settled.parallel)
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._untold: dict[str, Notice] = {}

    async def run(self) -> None:
        """Pass after pass, for ever. A pass that fails is logged and the next one comes in its time."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.one_pass()
            except (DS01Error, OSError) as error:
                self.failures += 1
                log.warning("No look at the sessions this time: %s", error)
            except Exception:
                self.failures += 1
                log.exception("No look at the sessions this time")
            await asyncio.sleep(max(0.0, self.settled.poll - (loop.time() - began)))

    async def one_pass(self) -> list[Case]:
        """Look, decide, warn; begin the retires that are due and return all cases."""
        if not self.settled.dry_run:
            await asyncio.to_thread(self.parts.retirements.go_on, self.parts.clock())
        cases = await self.observe()
        self._begin_retires(cases)
        self.passes += 1
        return cases

    async def observe(self) -> list[Case]:
        """Look at every session, decide, and deliver warnings. Nothing is stopped."""
        parts, began = self.parts, time.monotonic()
        running, servers = await asyncio.gather(asyncio.to_thread(parts.running), parts.hub.servers())
        open_ = await asyncio.to_thread(parts.retirements.open)
        await self._tell_late(open_)
        servers = {**servers, **lost_servers(running, servers, open_, parts.base_url)}
        looked_at = [r for r in running if ours(r, servers, open_, parts.clock())]
        ids = [r.labels.session for r in looked_at]
        facts = await asyncio.to_thread(parts.book.facts, ids, parts.clock())
        looks = await parts.eyes.look(looked_at, servers)
        pressure = Pressure(await asyncio.to_thread(parts.share, running), facts.waiting)
        now = parts.clock()
        cases = [c for r in looked_at if (c := await self._case(r, servers, facts, looks, pressure, now))]
        before = self.memory
        self.memory = {c.session.id: c.decision.memory for c in cases}
        await asyncio.gather(*(self._tell(c, before.get(c.session.id)) for c in cases))
        await self._let_go([m for s, m in before.items() if s not in self.memory])
        self.seconds = time.monotonic() - began
        await self._keep(now, cases, ids)
        return cases

    async def settle(self) -> None:
        """Wait for the retires under way."""
        while self._stopping:
            await asyncio.gather(*self._stopping.values(), return_exceptions=True)

    # --- deciding -------------------------------------------------------------------------------

    async def _case(
        self,
        running: Running,
        servers: Mapping[tuple[str, str], HubServer],
        facts: Facts,
        looks: Mapping[str, Look],
        pressure: Pressure,
        now: datetime,
    ) -> Case | None:
        labels = running.labels
        server = servers[labels.user, labels.server]
        try:
            rules = await asyncio.to_thread(self.parts.rules, server, now)
        except DS01Error as error:
            log.warning("%s is kept: its limits cannot be told: %s", labels.address, error)
            return None
        rules = rules_of(rules, server, labels)
        look, memory = looks[labels.session], self.memory.get(labels.session)
        session = _session(running, server, facts)
        session, memory = await self._keep_file(session, rules, look, memory, now)
        decision = decide(now, session, look.signals, rules, memory, pressure)
        return Case(running, server, session, rules, decision)

    async def _keep_file(
        self, session: Session, rules: IdleRules, look: Look, memory: Memory | None, now: datetime
    ) -> tuple[Session, Memory | None]:
        """Book what a touched ``.keep-alive`` asks for, once for each touch."""
        if look.keep_file is None or self.settled.dry_run:
            return session, memory
        memory = memory if memory and memory.session == session.id else Memory(session.id)
        handled = memory.keep_file_mtime
        asked = keepalive.file_asks(now, look.keep_file, handled, rules.keep_alive, session.started_at)
        memory = replace(memory, keep_file_mtime=max(handled, look.keep_file))
        if asked is None:
            return session, memory
        answer = await asyncio.to_thread(
            lambda: self.parts.book.keep_alive(session, rules, asked, now, by=session.user, source="file")
        )
        text = answer.sentence
        await self.parts.notifier.send(
            _notice("kept", f"{session.id}:file:{look.keep_file:.0f}", session, text, now)
        )
        if isinstance(answer, Refusal):
            return session, memory
        return replace(session, extension_until=answer.until), memory

    # --- telling --------------------------------------------------------------------------------

    async def _tell(self, case: Case, before: Memory | None) -> None:
        """Deliver a new warning, and take back one that no longer holds."""
        after, parts = case.decision.memory, self.parts
        if self.settled.dry_run:  # pretends that every warning is seen, to go on as it would
            self.memory[case.session.id] = mark_visible(after, parts.clock())
            return
        standing = {(w.cause, w.at) for w in after.warnings}
        for warning in before.warnings if before else ():
            if (warning.cause, warning.at) not in standing and warning.visible_at is not None:
                text = "The warning for this session is withdrawn: " + case.decision.reason
                key = _key(case.session, warning)
                await parts.notifier.send(_notice("withdrawn", key, case.session, text, parts.clock()))
        if case.decision.warn:
            await self._warn(case)

    async def _let_go(self, gone: list[Memory]) -> None:
        """A warning does not outlive its session."""
        warned = [m.session for m in gone if m.warnings]
        if not warned or self.settled.dry_run:
            return
        try:
            await asyncio.to_thread(self.parts.book.over, warned, self.parts.clock())
        except DS01Error as error:
            log.warning("Warnings of sessions that are over stay until they expire: %s", error)

    async def _warn(self, case: Case) -> None:
        decision, now = case.decision, self.parts.clock()
        new = [w for w in decision.memory.warnings if w.visible_at is None]
        for warning in new:
            notice = replace(
                _notice("warning", _key(case.session, warning), case.session, decision.reason, now),
                retire_at=decision.retire_at,
                cause=warning.cause,
            )
            if not await self.parts.notifier.send(notice):
                log.warning("%s cannot be warned anywhere; it is kept", case.session.address)
                return
        # The lead begins when the warning can be seen, so the time is taken after the delivery.
        self.memory[case.session.id] = mark_visible(decision.memory, self.parts.clock())
        try:
            await asyncio.to_thread(self.parts.book.warned, case.session, decision, now)
        except DS01Error as error:
            log.warning("The warning of %s is not in the event log: %s", case.session.address, error)

    async def _keep(self, now: datetime, cases: list[Case], ids: list[str]) -> None:
        parts = self.parts
        parts.eyes.keep_only(ids)
        parts.notifier.keep_only(ids)
        decided = [_public(c) for c in cases]
        if not self.settled.dry_run:
            # Before anything is stopped: a crash then repeats a retire, never forgets a warning.
            await asyncio.to_thread(parts.files.save, list(self.memory.values()))
            await asyncio.to_thread(parts.files.publish, now, self.settled.poll, decided, self.counters())

    def counters(self) -> dict[str, Any]:
        """What Prometheus is told."""
        return {
            "passes": self.passes,
            "failures": self.failures,
            "retired": dict(self.retired),
            "pass_seconds": round(self.seconds, 3),
        }

    # --- retiring -------------------------------------------------------------------------------

    def _begin_retires(self, cases: list[Case]) -> None:
        for case in cases:
            if case.decision.state != "retire" or case.session.id in self._stopping:
                continue
            if self.settled.dry_run:
                log.info("Would retire %s: %s", case.session.address, case.decision.reason)
                continue
            task = asyncio.create_task(self._retire(case))
            self._stopping[case.session.id] = task
            task.add_done_callback(partial(self._stopped, case.session.id))

    def _stopped(self, session: str, _: asyncio.Task[None]) -> None:
        self._stopping.pop(session, None)

    async def confirm(self, case: Case) -> Decision | None:
        """Look once more and record the reason; None when the session is to be kept after all."""
        decision = await self._look_again(case)
        if decision is not None:
            book, now = self.parts.book, self.parts.clock()
            await asyncio.to_thread(book.retiring, case.session, decision, now)
            log.info("Retiring %s: %s", case.session.address, decision.reason)
        return decision

    async def _retire(self, case: Case) -> None:
        """Confirm, decide for good, stop, tell. What does not succeed now is finished by whoever can."""
        session, parts = case.session, self.parts
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
        notice = _notice("retired", f"{session.id}:retired", session, decision.reason, parts.clock())
        if gone:
            await parts.notifier.send(notice)
        else:
            self._untold[session.id] = notice

    async def _stop(self, case: Case, decision: Decision) -> bool:
        """Make the decision durable, then have the hub or the engine end the session; whether it is gone."""
        session, retirements, now = case.session, self.parts.retirements, self.parts.clock()
        try:
            await asyncio.to_thread(retirements.ask, case.running, decision, now)
        except IntentError as error:
            log.error("A crash now would forget that %s is being retired: %s", session.address, error)
        outcome: Stopped = "gone"
        try:
            if not case.server.lost:
                outcome = await self.parts.hub.stop(session.user, session.server)
        except (DS01Error, OSError) as error:
            log.warning("The hub does not retire %s, so the engine is asked: %s", session.address, error)
        if outcome == "pending":
            return False
        # The engine says whether it is gone, and ends what the hub does not know (any more).
        return await asyncio.to_thread(retirements.end, case.running, decision, now)

    async def _tell_late(self, open_: Mapping[str, Intent]) -> None:
        """A retirement is told of when its session is gone, however long that took."""
        for session in [s for s in self._untold if s not in open_]:
            await self.parts.notifier.send(self._untold.pop(session))

    async def _look_again(self, case: Case) -> Decision | None:
        """The decision right before the stop, or None when the session is to be kept after all."""
        session = case.session
        server: HubServer | None = case.server
        if not case.server.lost:
            server = await self.parts.hub.server(session.user, session.server)
        if server is None or server.pending or server.started != case.server.started:
            return None  # stopped, stopping, or somebody started anew meanwhile
        now = self.parts.clock()
        facts = await asyncio.to_thread(self.parts.book.facts, [session.id], now)
        looks = await self.parts.eyes.look([case.running], {(session.user, session.server): server})
        session = _session(case.running, server, facts)
        look = looks[session.id]
        pressure = Pressure(1.0, max(1, facts.waiting)) if case.decision.pressed else None
        decision = decide(
            self.parts.clock(), session, look.signals, case.rules, self.memory.get(session.id), pressure
        )
        if decision.state != "retire":
            log.info("%s is kept after all: %s", session.address, decision.reason)
            return None
        return decision


def _session(running: Running, server: HubServer, facts: Facts) -> Session:
    labels = running.labels
    return Session(
        id=labels.session,
        user=labels.user,
        server=labels.server,
        project=labels.project,
        started_at=_moment(labels.created_at) or server.started,
        holds_gpu=bool(labels.gpu_uuids),
        lifetime_end=_moment(labels.expires_at),
        extension_until=facts.kept_until.get(labels.session),
        deadline=facts.deadline(labels.gpu_uuids),
    )


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _key(session: Session, warning: Warned) -> str:
    return f"{session.id}:{warning.cause}:{warning.at.isoformat()}"


def _notice(kind: Kind, key: str, session: Session, text: str, now: datetime) -> Notice:
    return Notice(kind, key, session.user, session.server, session.id, session.project, text, now)


def _public(case: Case) -> dict[str, Any]:
    session = case.session
    return {
        "user": session.user,
        "server": session.server,
        "address": session.address,
        "session": session.id,
        "project": session.project,
        "kept_until": session.extension_until.isoformat() if session.extension_until else None,
        **case.decision.as_dict(),
    }

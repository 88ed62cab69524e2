"""The idle service: every ``poll`` seconds look at all sessions, decide, warn, retire.

Why passes of our own and not jupyterhub-idle-culler's: that awaits the stops of different users one after the
other, so a hundred sessions whose containers take a second to stop take a hundred seconds, whatever its
``concurrency``; ``benchmarks/bench_idle.py`` measures both. A site that prefers its loop gives it
`arbiter.Arbiter` as ``cull_arbiter_hook``: the decisions are the same.

Anything that fails on the way to a decision (engine, hub, store) ends the pass. That time then was not
observed, so it counts for nobody, and when it was long every warning has to be given afresh.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from ..core.errors import DS01Error, Refusal
from ..core.hub_client import HubServer
from ..engines.docker.engine_reader import Running
from . import keepalive
from .case import Case, Parts, Settled, notice_to, session_of
from .decide import decide
from .idle_document import CountersJson
from .idle_store import Facts
from .model import Decision, IdleRules, Memory, Pressure, Session
from .observe import Look
from .retirements import lost_servers, ours, rules_of
from .retirer import Retirer
from .warner import Warner

log = logging.getLogger(__name__)


class IdleService:
    """Runs passes. One instance owns the memory; do not run two for one hub."""

    def __init__(self, parts: Parts, settled: Settled | None = None) -> None:
        self.parts, self.settled = parts, settled or Settled()
        self.memory: dict[str, Memory] = parts.files.load()
        self.passes = self.failures = 0
        self.seconds = 0.0
        """What the last look took."""
        self._warner = Warner(parts, self.settled.dry_run)
        self._retirer = Retirer(parts, self.settled, lambda session: self.memory.get(session))

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
        self._retirer.begin(cases)
        self.passes += 1
        return cases

    async def observe(self) -> list[Case]:
        """Look at every session, decide, and deliver warnings. Nothing is stopped."""
        parts, began = self.parts, time.monotonic()
        running, servers = await asyncio.gather(asyncio.to_thread(parts.running), parts.hub.servers())
        open_ = await asyncio.to_thread(parts.retirements.open)
        await self._retirer.tell_late(open_)
        servers = {**servers, **lost_servers(running, servers, open_, parts.base_url)}
        looked_at = [r for r in running if ours(r, servers, open_, parts.clock())]
        ids = [r.labels.session for r in looked_at]
        facts = await asyncio.to_thread(parts.book.facts, ids, parts.clock())
        looks = await parts.observer.look(looked_at, servers)
        pressure = Pressure(await asyncio.to_thread(parts.share, running), facts.waiting)
        now = parts.clock()
        cases = [c for r in looked_at if (c := await self._case(r, servers, facts, looks, pressure, now))]
        before = self.memory
        self.memory = {c.session.id: c.decision.memory for c in cases}
        await asyncio.gather(*(self._warner.tell(c, before.get(c.session.id), self.memory) for c in cases))
        await self._warner.let_go([m for s, m in before.items() if s not in self.memory])
        self.seconds = time.monotonic() - began
        await self._keep(now, cases, ids)
        return cases

    async def settle(self) -> None:
        """Wait for the retires under way."""
        await self._retirer.settle()

    async def confirm(self, case: Case) -> Decision | None:
        """Look once more and record the reason; None when the session is to be kept after all."""
        return await self._retirer.confirm(case)

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
        if not self.settled.culls(labels.server):
            rules = replace(rules, timeout=None, source="the idle service")
        look, memory = looks[labels.session], self.memory.get(labels.session)
        session = session_of(running, server, facts)
        session, memory = await self._keep_file(session, rules, look, memory, now)
        decision = decide(now, session, look.signals, rules, memory, pressure)
        if decision.memory.warning("idle") and not await self._may_end(server):
            rules = replace(rules, timeout=None, source="the site's cull_arbiter_hook")
            decision = decide(now, session, look.signals, rules, memory, pressure)
        return Case(running, server, session, rules, decision)

    async def _may_end(self, server: HubServer) -> bool:
        """Whether the site's own hook lets a session be warned and retired for being idle."""
        if self.settled.may_end is None:
            return True
        try:
            return await self.settled.may_end(server)
        except Exception:
            log.exception("%s/%s is kept: the site's cull_arbiter_hook failed", server.user, server.name)
            return False

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
            notice_to(session, "kept", f"{session.id}:file:{look.keep_file:.0f}", text, now)
        )
        if isinstance(answer, Refusal):
            return session, memory
        return replace(session, extension_until=answer.until), memory

    async def _keep(self, now: datetime, cases: list[Case], ids: list[str]) -> None:
        parts = self.parts
        parts.observer.keep_only(ids)
        parts.notifier.keep_only(ids)
        decided = [c.public() for c in cases]
        if not self.settled.dry_run:
            # Before anything is stopped: a crash then repeats a retire, never forgets a warning.
            await asyncio.to_thread(parts.files.save, list(self.memory.values()))
            await asyncio.to_thread(parts.files.publish, now, self.settled.poll, decided, self.counters())

    def counters(self) -> CountersJson:
        """What Prometheus is told."""
        return {
            "passes": self.passes,
            "failures": self.failures,
            "retired": dict(self._retirer.retired),
            "pass_seconds": round(self.seconds, 3),
        }

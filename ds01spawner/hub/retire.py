"""What becomes of one server's session: whether it runs, how it ended, how it is retired.

Every destructive call checks that the container is ours, may be repeated, and verifies afterwards: a device
is free only when its holder is gone.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from .. import messages
from ..core.ending import Ended
from ..core.errors import DS01Error, EngineError, Refusal
from ..core.labels import SessionLabels
from ..engines.base import Found
from ..intents.carry import carry
from ..intents.intent import Intent, IntentError, Kind, intend
from ..messages import end_clauses
from ..policy.plan import SessionUse
from ..policy.units import say_size
from .http_errors import SessionRefused

if TYPE_CHECKING:
    from .server import Server

LOOK_S = 5.0
"""How long the hub's looks at a session may take; longer means that none can tell."""
WRITTEN_S = 15.0
"""How long the removal of what has ended waits for its record: longer than a store may be locked."""


class Retirement:
    """See the module's text. Which session it is about is the server's to know; this keeps no copy."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._seen_running: datetime | None = None

    # --- looking --------------------------------------------------------------------------------

    def mine(self, found: Found) -> SessionLabels | None:
        """The labels of what is this user's session on this server of this installation."""
        server, labels = self._server, found.labels
        if labels is None or (labels.user, labels.server) != (server.user.name, server.name):
            return None
        return labels

    async def find(self, *, quick: bool = False) -> Found | None:
        """What this server has on the engine; None only when that says that there is nothing of ours."""
        server = self._server
        found = await server.on_engine.find(quick=quick)
        labels = self.mine(found) if found is not None else None
        if found is None or labels is None:
            server.object_id = ""
            return None
        server.object_id, server.session_labels = found.container, labels
        return found

    async def poll(self) -> int | str | None:
        """None while it runs, and also while the engine cannot tell; else how it ended."""
        server = self._server
        try:
            # The hub looks right before it stops a server. While an engine hangs, a long look would keep the
            # decision off the disk until after its answer.
            found = await asyncio.wait_for(self.find(quick=True), LOOK_S)
        except (EngineError, asyncio.TimeoutError) as error:
            why = str(error) or "the container engine hangs"
            server.log.error("Cannot tell whether %s runs, so it is kept: %s", server._log_name, why)
            return None if server.object_id else 0
        if found is None:
            if server.session_labels is not None:
                await self._report_end(server.session_labels, None)
            return 0
        if found.running:
            self._seen_running = server.clock()
            await self._go_on_retiring()
            return None
        return await self.bury(found)

    async def _go_on_retiring(self) -> None:
        """A hub that was restarted goes on with what it or others had decided."""
        site = self._server.site
        intent = await asyncio.to_thread(site.intents.get, self.session)
        if intent is not None and not intent.waits(self._server.clock()):
            site.carrier.kick()

    @property
    def session(self) -> str:
        """The id of the session that this server is or was last seen to be."""
        labels = self._server.session_labels
        return labels.session if labels else self._server.session_id

    def _labels(self) -> SessionLabels:
        """This session as the hub knows it, for what is written while the engine does not answer."""
        server, now = self._server, self._server.kept.now
        stored = server.user_options if isinstance(server.user_options, dict) else {}
        project = now.project if now else str(stored.get("project") or "")
        hub = server.site.settings.hub_id
        return SessionLabels(server.user.name, server.name, project, hub, server.session_id)

    # --- an end that was not ours ---------------------------------------------------------------

    async def ended_early(self) -> Refusal | None:
        """How the container ended, or None while it runs or cannot be asked; removes nothing."""
        try:
            found = await self.find()
        except EngineError:
            return None
        if found is None:
            return messages.crashed_at_start("its container is gone")
        if found.running:
            return None
        labels = self.mine(found)
        memory = await asyncio.to_thread(self._memory_rule, labels) if labels else ("", "")
        return self._server.on_engine.why_it_did_not_start(found, memory)

    async def bury(self, found: Found) -> str:
        """A session that ended by itself: keep its log, say why, remove it, free its devices."""
        labels = self.mine(found)
        if labels is not None:
            # Kept before it goes: of what a hub that is killed had not written, the engine tells only as
            # long as the container is there.
            written = asyncio.wrap_future(await self._report_end(labels, found))
            await asyncio.wait({written}, timeout=WRITTEN_S)
            try:
                await self._server.on_engine.discard(labels.session)
            except DS01Error as error:
                await self.leave_behind(labels.session, found.container, "ended", error)
        return f"ExitCode={found.end.exit_code}"

    async def _report_end(self, labels: SessionLabels, found: Found | None) -> Future[Ended | None]:
        """Report how a session ended that did not end by us, as the engine tells it; done when it is kept."""
        server = self._server
        memory = await asyncio.to_thread(self._memory_rule, labels)
        seen = self._seen_running or _moment(labels.created_at) or server.clock()
        ended = await server.on_engine.how_ended(labels, found, memory, seen)
        server.session_labels = None
        return server.site.endings.ended(ended, labels)

    def _memory_rule(self, labels: SessionLabels) -> tuple[str, str]:
        """The memory a session may use, in words, and whose rule that is. Blocking."""
        server, memory = self._server, SessionUse.from_labels(labels).memory
        try:
            limits = server.site.limits(server.person, server.clock())
            source = limits.source("session.memory") if limits.session.memory == memory else ""
        except DS01Error:
            source = ""
        return (say_size(memory) if memory else ""), source

    # --- retire ---------------------------------------------------------------------------------

    async def stop(self, now: bool) -> bool:
        """Retire: write the intent down, ask the processes to end, remove the container, see it gone.

        While the engine does not answer this waits, and the hub says that the server is being stopped.
        After ``retire_patience`` it raises: the hub then drops the server, and the intent goes on without it.
        """
        server = self._server
        # The hub polls before it stops, which found the id by name and checked its labels.
        if not server.object_id and await self.find() is None:
            return False
        grace = 1 if now else server.retire_grace
        intent, durable = await self._intend(grace)
        if intent is not None:
            try:
                await self._carry_out(intent)
            except EngineError as error:
                what = "not retired yet, but will be" if durable else "not retired, and may run on"
                server.log.error("%s is %s: %s", server._log_name, what, error)
                server.site.carrier.kick()
                raise
        server.session_labels, server.object_id = None, ""
        return True

    async def _carry_out(self, intent: Intent) -> None:
        """Carry an intent out, as often as it takes within ``retire_patience``; then `EngineError`."""
        server, clock = self._server, asyncio.get_running_loop().time
        deadline, pause = clock() + server.retire_patience, 0.5
        while True:
            work = partial(carry, server.site, intent, server.clock())
            carried = await server.on_engine.in_order("stop", work)
            if carried.gone:
                return
            left = deadline - clock()
            if left <= 0:
                raise EngineError(carried.problem)
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 5.0)

    async def decide(self, reason: str, by: str) -> None:
        """Note for good that this session is to be retired and why, for a stop that follows."""
        server = self._server
        if server.object_id:
            await self._intend(server.retire_grace, reason, "admin", by)

    async def _intend(
        self,
        grace: int,
        reason: str = end_clauses.THROUGH_HUB,
        kind: Kind = "stopped",
        by: str = "hub",
    ) -> tuple[Intent | None, bool]:
        """The decision to retire this session, with the reason of whoever asked first, and whether it is
        durable. Where it cannot be written it is tried all the same; what stays is found without a server."""
        server = self._server
        labels = server.session_labels or (self._labels() if server.session_id else None)
        if labels is None and (found := await server.on_engine.find(server.object_id)) is not None:
            labels = found.labels
        if labels is None:
            return None, False
        wanted = intend(
            labels, server.clock(), reason=reason, kind=kind, by=by, container=server.object_id, grace=grace
        )
        durable = await self._ask(wanted)
        intent = durable or wanted
        server.site.endings.noted(labels.session, intent.asked_at, intent.reason, intent.kind, intent.by)
        return intent, durable is not None

    async def _ask(self, wanted: Intent) -> Intent | None:
        server = self._server
        try:
            return await asyncio.to_thread(server.site.intents.ask, wanted)
        except IntentError as error:
            server.log.error("A crash now would forget that %s is being retired: %s", server._log_name, error)
            return None

    async def leave_behind(
        self, session: str, container: str, kind: Literal["failed", "ended"], error: Exception
    ) -> None:
        """What could not be removed now is removed as soon as the engine lets us."""
        server = self._server
        server.log.error("Something of %s stays until the engine answers: %s", server._log_name, error)
        wanted = intend(
            replace(self._labels(), session=session),
            server.clock(),
            reason="it was left behind by a start" if kind == "failed" else "it had ended by itself",
            kind=kind,
            by="hub",
            container=container,
            name=server.object_name,
            grace=1,
            alone=True,
        )
        if await self._ask(wanted) is not None:
            server.site.carrier.kick()

    async def refuse_rename(self, old: str, new: str) -> None:
        """A session is named by its labels, which never change; so only a retired one is renamed."""
        if await self.find() is not None:
            raise SessionRefused(messages.rename_while_running(old, new))


def _moment(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None

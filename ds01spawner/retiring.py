"""What becomes of a session on Docker: whether it runs, how it ended, how it is retired.

The other half of `DS01Spawner`. Every destructive call checks that the container is ours, may be
repeated, and verifies afterwards: a device is free only when its holder is gone.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import docker.errors
import requests.exceptions

from . import fetching, messages
from .core import logtail
from .core.ending import merged
from .core.errors import DS01Error, EngineError, Refusal
from .core.labels import SessionLabels
from .engines.docker import endings as engine_endings
from .engines.docker import launch
from .hub.http_errors import SessionRefused
from .intents.model import Intent, IntentError, Kind, intend
from .messages import ends
from .policy.plan import SessionUse
from .policy.units import say_size

if TYPE_CHECKING:
    from dockerspawner import DockerSpawner as _Spawner
else:
    _Spawner = object

EVENTS_BACK = timedelta(hours=1)
"""How far back the engine is asked for what happened to a container; it keeps less in any case."""
LOOK_S = 5.0
"""How long the hub's looks at a session may take; longer means that nobody can tell."""
ENGINE_FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


class SessionEndings(_Spawner):  # type: ignore[misc]
    """See the module's text. Mix in before `SessionMixin`, whose unimplemented steps it provides."""

    object_id: Any
    let_go: Any
    staged: Any
    session_labels: SessionLabels | None
    seen_running: datetime | None = None

    async def explain_failure(self, refusal: Refusal) -> SessionRefused:
        """The refusal with the last lines of the container's log."""
        return SessionRefused(refusal, log_tail=await self.log_tail())

    async def log_tail(self) -> str:
        """The last lines the session printed, or nothing when they cannot be read."""
        if not self.object_id:
            return ""
        try:
            raw = await self.docker("logs", self.object_id, tail=logtail.READ_LINES, stdout=True, stderr=True)
        except ENGINE_FAILURES:
            return ""
        return logtail.tail(raw)

    async def poll(self) -> Any:
        """None while it runs, and also while the engine cannot tell; else how it ended."""
        try:
            # The hub looks right before it stops a server. While an engine hangs, a long look would keep the
            # decision off the disk until after its answer.
            found = await asyncio.wait_for(self.get_object(quick=True), LOOK_S)
        except (EngineError, asyncio.TimeoutError) as error:
            why = str(error) or "the container engine hangs"
            self.log.error("Cannot tell whether %s runs, so it is kept: %s", self._log_name, why)
            return None if self.object_id else 0
        if found is None:
            if self.session_labels is not None:
                await self._report_end(self.session_labels, {})
            return 0
        if found["State"]["Running"]:
            self.seen_running = self.clock()
            await self._go_on_retiring()
            return None
        return await self._bury(found)

    async def _go_on_retiring(self) -> None:
        """A hub that was restarted goes on with what it or others had decided."""
        session = self.session_labels.session if self.session_labels else self.session_id
        intent = await asyncio.to_thread(self.site.intents.get, session)
        if intent is not None and not intent.waits(self.clock()):
            self.site.carrier.kick()

    # --- what the hub keeps ---------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """The session's id too, by which it can be retired while the engine does not answer."""
        state = dict(super().get_state())
        session = self.session_labels.session if self.session_labels else self.session_id
        if session and self.object_id:
            state["ds01"] = {"v": 1, "session": session}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read it back; labels win where the engine answers."""
        super().load_state(state)
        kept = state.get("ds01")
        if isinstance(kept, dict) and isinstance(kept.get("session"), str):
            self.session_id = kept["session"]

    def _labels(self) -> SessionLabels:
        """This session as the hub knows it, for what is written while the engine does not answer."""
        stored = self.user_options if isinstance(self.user_options, dict) else {}
        project = self.options.project if self.options else str(stored.get("project") or "")
        return SessionLabels(self.user.name, self.name, project, self.hub_id, self.session_id)

    async def get_url(self) -> str:
        """Where it answers. The hub asks after a restart: a start that it did not see to the end left no
        address in its database, and the session would be shut down for not answering at another one."""
        known = str(self.server.url)
        try:
            ip, port = await self.get_ip_and_port()
            if not ip:
                raise EngineError("its container has no address")
        except Exception as error:  # whatever it was, the hub goes by what it knew
            self.log.warning(
                "The address of %s is not known, so it stays %s: %s", self._log_name, known, error
            )
            return known
        host = f"[{ip}]" if ":" in ip else ip
        return f"{'https' if self.internal_ssl else 'http'}://{host}:{port}{self.server.base_url}"

    async def ended_early(self) -> Refusal | None:
        """How the container ended, or None while it runs or cannot be asked; removes nothing."""
        try:
            found = await self.get_object()
        except EngineError:
            return None
        if found is None:
            return messages.crashed_at_start("its container is gone")
        return None if found["State"]["Running"] else self._how_it_ended(found)

    async def _bury(self, found: dict[str, Any]) -> str:
        """A container that ended by itself: keep its log, say why, remove it, free its devices."""
        state, labels = found["State"], self.site.engine.session_in(found)
        if labels is not None:
            await self._report_end(labels, state, found["Id"])
        try:
            await self._remove(found["Id"])
        except (*ENGINE_FAILURES, DS01Error) as error:
            if labels is not None:
                await self._leave_behind(labels.session, found["Id"], "ended", error)
        return f"ExitCode={state.get('ExitCode')}"

    async def _report_end(self, labels: SessionLabels, state: dict[str, Any], container: str = "") -> None:
        """Report how a session ended that did not end by us, as the engine tells it."""
        tail = await self.log_tail() if container else ""
        now = datetime.now(timezone.utc)  # the engine's events follow no clock of a test
        memory, source = await asyncio.to_thread(self._memory_rule, labels)
        since, session = now - EVENTS_BACK, labels.session

        def look(client: Any) -> engine_endings.Evidence:
            if container:
                return engine_endings.read_with(client, state, container, since, now)
            return engine_endings.read_session(client, session, self.site.engine.session_in_event, since, now)

        try:
            found = await self.site.engine.run(look, pool="read")
        except ENGINE_FAILURES as error:
            self.log.warning("The engine does not tell how %s ended: %s", self._log_name, error)
            found = engine_endings.of_state(state)
        ended = engine_endings.explain(labels.session, found, memory, source, tail)
        if ended is None:
            last = self.seen_running or _moment(labels.created_at) or self.clock()
            ended = engine_endings.lost(labels.session, last)
        self.site.endings.ended(ended, labels)
        self.session_labels = None

    def _memory_rule(self, labels: SessionLabels) -> tuple[str, str]:
        """The memory a session may use, in words, and whose rule that is. Blocking."""
        memory = SessionUse.from_labels(labels).memory
        try:
            limits = self.site.limits(self.person, self.clock())
            source = limits.source("session.memory") if limits.session.memory == memory else ""
        except DS01Error:
            source = ""
        return (say_size(memory) if memory else ""), source

    def _how_it_ended(self, found: dict[str, Any]) -> Refusal:
        """How a container ended before it answered, with the limit it ran under and whose rule that is."""
        labels = self.site.engine.session_in(found)
        memory, source = self._memory_rule(labels) if labels else ("", "")
        return _ending(found["State"], memory, source)

    # --- retire ---------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Retire: write the intent down, ask the processes to end, remove the container, see it gone.

        While the engine does not answer this waits, and the hub says that the server is being stopped.
        After ``retire_patience`` it raises: the hub then drops the server, and the intent goes on without it.
        """
        # The hub polls before it stops, which found the id by name and checked its labels.
        if not self.object_id and await self.get_object() is None:
            self.clear_state()
            return
        container, grace = self.object_id, 1 if now else self.retire_grace
        intent, durable = await self._intend(container, grace)
        try:
            state, tail = await self._end(container, intent)
        except (*ENGINE_FAILURES, DS01Error) as error:
            what = "not retired yet, but will be" if durable else "not retired, and may run on"
            self.log.error("%s is %s: %s", self._log_name, what, error)
            self.site.carrier.kick()
            raise
        if intent is not None:
            await asyncio.to_thread(self._over, intent, state, tail)
        self.object_id = ""
        self.clear_state()

    async def decide(self, reason: str, by: str) -> None:
        """Note for good that this session is to be retired and why, for a stop that follows."""
        if self.object_id:
            await self._intend(self.object_id, self.retire_grace, reason, "admin", by)

    async def _intend(
        self,
        container: str,
        grace: int,
        reason: str = ends.THROUGH_HUB,
        kind: Kind = "stopped",
        by: str = "hub",
    ) -> tuple[Intent | None, bool]:
        """The decision to retire this session, with the reason of whoever asked first, and whether it is
        durable. Where it cannot be written it is tried all the same; what stays is found without a server."""
        labels = self.session_labels or (self._labels() if self.session_id else None)
        if labels is None and (found := await self._inspected(container)):
            labels = self.site.engine.session_in(found)
        if labels is None:
            return None, False
        wanted = intend(
            labels,
            self.clock(),
            reason=reason,
            kind=kind,
            by=by,
            container=container,
            grace=grace,
        )
        durable = await self._ask(wanted)
        intent = durable or wanted
        self.site.endings.noted(labels.session, intent.asked_at, intent.reason, intent.kind, intent.by)
        return intent, durable is not None

    async def _ask(self, wanted: Intent) -> Intent | None:
        try:
            return await asyncio.to_thread(self.site.intents.ask, wanted)
        except IntentError as error:
            self.log.error("A crash now would forget that %s is being retired: %s", self._log_name, error)
            return None

    async def _end(self, container: str, intent: Intent | None) -> tuple[dict[str, Any], str]:
        """End the container, as often as it takes within ``retire_patience``; its last state and lines."""
        clock = asyncio.get_running_loop().time
        deadline, pause = clock() + self.retire_patience, 0.5
        while True:
            try:
                # Asked shortly first: with an engine that hangs, each step would take its minute.
                await asyncio.to_thread(self.site.engine.answers)
                return await self._end_once(container, intent.grace if intent else self.retire_grace)
            except (*ENGINE_FAILURES, DS01Error) as error:
                if intent is not None:
                    await asyncio.to_thread(self.site.intents.failed, intent, f"the engine failed: {error}")
                left = deadline - clock()
                if left <= 0:
                    raise
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, 5.0)

    async def _end_once(self, container: str, grace: int) -> tuple[dict[str, Any], str]:
        asking = asyncio.ensure_future(self._ask_to_end(container, grace))
        # What it said so far is read while it ends, so that nobody waits for it afterwards.
        tail = await self.log_tail()
        await asking
        found = await self._inspected(container)
        await self._remove(container)
        return (found["State"] if found else {}), tail

    def _over(self, intent: Intent, state: dict[str, Any], tail: str) -> None:
        """The engine says that the container is gone: report its end. Blocking."""
        itself = engine_endings.explain(intent.session, engine_endings.of_state(state), tail=tail)
        self.site.endings.ended(merged(itself, intent.ended(self.clock(), tail)), intent.labels()).result()
        self.session_labels = None
        self.site.intents.done(intent.session)

    async def _ask_to_end(self, container: str, grace: int) -> None:
        try:
            await self.docker("stop", container, timeout=grace)
        except docker.errors.NotFound:
            pass
        except ENGINE_FAILURES as error:
            self.log.warning("Stopping %s failed, removing it by force: %s", self._log_name, error)

    async def _inspected(self, container: str) -> dict[str, Any] | None:
        try:
            return dict(await self.docker("inspect_container", container))
        except ENGINE_FAILURES:
            return None

    async def remove_object(self) -> None:
        """Remove this session's container; it was checked to be ours when it was inspected."""
        await self._remove(self.object_id)

    async def _remove(self, container: str) -> None:
        """Remove a container of ours and verify it: a device is free only when its holder is gone."""
        try:
            await self.docker("remove_container", container, force=True, v=True)
        except docker.errors.NotFound:
            return
        except docker.errors.APIError as error:
            if error.status_code != 409:  # 409: a removal is under way already
                raise
        for _ in range(100):
            try:
                await self.docker("inspect_container", container)
            except docker.errors.NotFound:
                return
            await asyncio.sleep(0.1)
        raise EngineError(f"the container of {self._log_name} could not be removed")

    async def discard(self) -> None:
        """Remove whatever this start made; queued behind any call that is still in flight."""
        session, staged = self.session_id, self.staged
        try:
            await asyncio.to_thread(self.site.engine.answers)
            step = partial(launch.discard, site=self.site, name=self.object_name, session=session)
            await self.site.engine.run(step, pool="stop", key=self.object_name)
        except (*ENGINE_FAILURES, DS01Error) as error:
            await self._leave_behind(session, "", "failed", error)
        if staged:
            clear = partial(fetching.clear, site=self.site, user=self.user.name, token=staged)
            try:
                await self.site.engine.run(clear, pool="stop", key=self.object_name)
            except (*ENGINE_FAILURES, DS01Error) as error:
                self.log.error("Files of a new project of %s stay: %s", self._log_name, error)
        self.let_go()
        self.object_id = ""
        self.staged = ""

    async def _leave_behind(
        self, session: str, container: str, kind: Literal["failed", "ended"], error: Exception
    ) -> None:
        """What could not be removed now is removed as soon as the engine lets us."""
        self.log.error("Something of %s stays until the engine answers: %s", self._log_name, error)
        wanted = intend(
            replace(self._labels(), session=session),
            self.clock(),
            reason="it was left behind by a start" if kind == "failed" else "it had ended by itself",
            kind=kind,
            by="hub",
            container=container,
            name=self.object_name,
            grace=1,
            alone=True,
        )
        if await self._ask(wanted) is not None:
            self.site.carrier.kick()

    async def delete_forever(self) -> None:
        """The server or its user is deleted: nothing of it may stay on the engine."""
        if await self.get_object() is not None:
            await self.stop(now=True)

    async def rename(self, old: str, new: str) -> None:
        """A session is named by its labels, which never change; so only a retired one is renamed."""
        found = await self.get_object()
        if found is not None:
            raise SessionRefused(messages.rename_while_running(old, new))


def _ending(state: dict[str, Any], memory: str = "", source: str = "") -> Refusal:
    """How a container ended before it answered, for people."""
    if state.get("OOMKilled") and state.get("ExitCode") == 128 + engine_endings.SIGKILL:
        return messages.out_of_memory(memory, source)
    reason = str(state.get("Error") or engine_endings.said(state.get("ExitCode")))
    return messages.crashed_at_start(reason.splitlines()[0][:300])


def _moment(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else None

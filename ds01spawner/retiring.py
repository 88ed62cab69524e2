"""What becomes of a session on Docker: whether it runs, how it ended, how it is retired.

The other half of `DS01Spawner`. Every destructive call checks that the container is ours, may be
repeated, and verifies afterwards: a device is free only when its holder is gone.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

import docker.errors
import requests.exceptions

from . import fetching, logtail, messages
from .engines.docker import launch
from .errors import DS01Error, EngineError, Refusal
from .hub_errors import SessionRefused
from .labels import SessionLabels
from .policy.plan import SessionUse
from .policy.units import say_size

if TYPE_CHECKING:
    from dockerspawner import DockerSpawner as _Spawner
else:
    _Spawner = object

RETIRED_BY_OWNER = "it was retired by its owner"
SIGKILLED = 137
ENGINE_FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


class SessionEndings(_Spawner):  # type: ignore[misc]
    """See the module's text. Mix in before `SessionMixin`, whose unimplemented steps it provides."""

    object_id: Any
    staged: Any

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
            found = await self.get_object()
        except EngineError as error:
            self.log.error("Cannot tell whether %s runs, so it is kept: %s", self._log_name, error)
            return None if self.object_id else 0
        if found is None:
            return 0
        if found["State"]["Running"]:
            return None
        return await self._bury(found)

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
        return None if found["State"]["Running"] else self._how_it_ended(found, starting=True)

    async def _bury(self, found: dict[str, Any]) -> str:
        """A container that ended by itself: keep its log, say why, remove it, free its devices."""
        state = found["State"]
        if self.object_id and state.get("Status") == "exited":
            self.ended(self._how_it_ended(found).sentence, "crashed", log_tail=await self.log_tail())
        try:
            await self._remove(self.object_id)
        except ENGINE_FAILURES as error:
            self.log.error("Leftover of %s stays for the reconciler: %s", self._log_name, error)
        return f"ExitCode={state.get('ExitCode')}"

    def _how_it_ended(self, found: dict[str, Any], *, starting: bool = False) -> Refusal:
        """How a container ended, for its owner: with the limit it ran under, and whose rule that is."""
        labels = self.site.session_in(found)
        memory = SessionUse.from_labels(labels).memory if labels else None
        try:
            limits = self.site.limits(self.person, self.clock())
            source = limits.source("session.memory") if limits.session.memory == memory else ""
        except DS01Error:
            source = ""
        return _ending(found["State"], say_size(memory) if memory else "", source, starting=starting)

    # --- retire ---------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Retire: ask the processes to end, remove the container, make sure that it is gone."""
        # The hub polls before it stops, which found the id by name and checked its labels.
        if not self.object_id and await self.get_object() is None:
            self.clear_state()
            return
        container = self.object_id
        asking = asyncio.ensure_future(self._ask_to_end(container, 1 if now else self.retire_grace))
        # What it said so far is read while it ends, so that nobody waits for it afterwards.
        labels, tail = await asyncio.gather(self._labels_of(container), self.log_tail())
        await asking
        await self._remove(container)
        if labels:
            self.site.endings.ended(labels, self.clock(), RETIRED_BY_OWNER, "stopped", log_tail=tail)
        self.object_id = ""
        self.clear_state()

    async def _ask_to_end(self, container: str, grace: int) -> None:
        try:
            await self.docker("stop", container, timeout=grace)
        except docker.errors.NotFound:
            pass
        except ENGINE_FAILURES as error:
            self.log.warning("Stopping %s failed, removing it by force: %s", self._log_name, error)

    async def _labels_of(self, container: str) -> SessionLabels | None:
        try:
            found = await self.docker("inspect_container", container)
        except ENGINE_FAILURES:
            return None
        labels: SessionLabels | None = self.site.session_in(found)
        return labels

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
        steps: list[Any] = [partial(launch.discard, site=self.site, name=self.object_name, session=session)]
        if staged:
            steps.append(partial(fetching.clear, site=self.site, user=self.user.name, token=staged))
        for step in steps:
            try:
                await self.site.engine.run(step, pool="stop", key=self.object_name)
            except (*ENGINE_FAILURES, DS01Error) as error:
                self.log.error("Leftover of %s stays for the reconciler: %s", self._log_name, error)
        self.object_id = ""
        self.staged = ""

    async def delete_forever(self) -> None:
        """The server or its user is deleted: nothing of it may stay on the engine."""
        if await self.get_object() is not None:
            await self.stop(now=True)

    async def rename(self, old: str, new: str) -> None:
        """A session is named by its labels, which never change; so only a retired one is renamed."""
        found = await self.get_object()
        if found is not None:
            raise SessionRefused(messages.rename_while_running(old, new))


def _ending(state: dict[str, Any], memory: str = "", source: str = "", *, starting: bool = False) -> Refusal:
    """How a container ended, for people."""
    # The engine's mark stays after a killed kernel too, so only an end by SIGKILL was the kernel's doing.
    if state.get("OOMKilled") and state.get("ExitCode") == SIGKILLED:
        return messages.out_of_memory(memory, source)
    reason = str(state.get("Error") or f"its main process ended with exit code {state.get('ExitCode')}")
    say = messages.crashed_at_start if starting else messages.crashed
    return say(reason.splitlines()[0][:300])

"""Coming back to a session that still runs though the hub had lost it. A part of `DS01Spawner`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import docker.errors

from . import messages
from .core.errors import DS01Error, EngineError, Refused
from .core.labels import SessionLabels
from .intents.carry import carry
from .placement.model import Inventory
from .policy.options import LaunchOptions, parse_options
from .retiring import ENGINE_FAILURES

if TYPE_CHECKING:
    from dockerspawner import DockerSpawner as _Spawner
else:
    _Spawner = object


class SessionAdoption(_Spawner):  # type: ignore[misc]
    """Mix in before `SessionEndings`."""

    _avoid: set[str]
    session_labels: SessionLabels | None

    async def join_running(self) -> Any:
        """This very session where it still runs; else clear a leftover of ours, or refuse the name."""
        await self.site.engine.ready()
        await asyncio.to_thread(self.site.engine.answers)  # one that hangs refuses in seconds
        self._avoid = set()
        try:
            found = await self.docker("inspect_container", self.object_name)
        except docker.errors.NotFound:
            return None
        except ENGINE_FAILURES as error:
            raise EngineError(str(error)) from error
        if not self.is_mine(found):
            raise Refused(messages.name_taken(self.object_name))
        labels = self.site.engine.session_in(found)
        assert labels is not None  # it is mine by its labels
        if await self._retired_instead(labels):
            return None
        if not found["State"]["Running"]:
            await self._bury(found)
            return None
        # The hub had lost it (its database went back in time, say). Work goes on where it was:
        # removing it would destroy work, and a second one cannot have the name.
        return await self._adopt(found, labels)

    async def _retired_instead(self, labels: SessionLabels) -> bool:
        """Finish a retirement that is under way; whether there was one. Refused while it does not end."""
        site, now = self.site, self.clock()

        def finish() -> bool:
            if site.intents.withdraw(labels.session, now):  # its owner has come back to it
                return False
            intent = site.intents.get(labels.session)
            if intent is None:
                return False
            done = carry(site, intent, now)
            if not done.gone:
                raise Refused(messages.being_retired(labels.project))
            return True

        return await asyncio.to_thread(finish)

    async def _adopt(self, found: dict[str, Any], labels: SessionLabels) -> Any:
        self.object_id, self.session_id, self.session_labels = found["Id"], labels.session, labels
        if token := _variable(found, "JUPYTERHUB_API_TOKEN"):
            self.api_token = token
        # Described as what it is, not as what this start would have been.
        self.options = await asyncio.to_thread(self._options_of, labels)
        self.keep_options(self.options)
        self.progress_log.step(
            "started", f"Your session on {labels.project} was still running: you are back in it"
        )
        return await self.get_ip_and_port()

    def _options_of(self, labels: SessionLabels) -> LaunchOptions:
        return options_of(labels, self.site.engine.inventory().inventory)


def options_of(labels: SessionLabels, inventory: Inventory) -> LaunchOptions:
    """What a running session is, as options; a device that nobody knows any more counts as "auto". Pure."""
    devices = inventory.by_uuid()
    profiles = {d.profile for u in labels.gpu_uuids if (d := devices.get(u)) is not None}
    gpu = "none" if not labels.gpu_uuids else next(iter(profiles)) if len(profiles) == 1 else "auto"
    raw: dict[str, Any] = {"project": labels.project, "environment": labels.environment, "gpu": gpu}
    if labels.gpu_uuids:
        raw |= {"gpu_count": len(labels.gpu_uuids), "preemptible": labels.preemptible}
    try:
        return parse_options(raw)
    except DS01Error:  # labels of an older release
        return parse_options({"gpu": "auto" if labels.gpu_uuids else "none"})


def _variable(inspected: dict[str, Any], name: str) -> str:
    lines = inspected["Config"].get("Env") or []
    return next((line.partition("=")[2] for line in lines if line.startswith(f"{name}=")), "")

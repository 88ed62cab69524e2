"""One server's container: what is asked of the engine about it, in threads and in order for its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any

import docker.errors
import requests.exceptions

from ... import fetching
from ...core import logtail
from ...core.ending import Ended
from ...core.errors import EngineError
from ...core.labels import SessionLabels
from .. import claiming
from ..base import Claimed
from . import endings
from .client import DockerEngine

if TYPE_CHECKING:
    from ...site import Site

FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
EVENTS_BACK = timedelta(hours=1)
"""How far back the engine is asked for what happened to a container; it keeps less in any case."""
REMOVAL_LOOKS, REMOVAL_LOOK_S = 100, 0.1


class DockerServer:
    """See the module's text. Cheap to make; holds nothing."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self._engine = site.engine

    async def ready(self) -> None:
        """Return when the engine answers within seconds."""
        await self._engine.ready()
        await asyncio.to_thread(self._engine.answers)  # one that hangs refuses in seconds

    async def answers(self) -> None:
        """The same, where the engine was asked before."""
        await asyncio.to_thread(self._engine.answers)

    async def find(self, container: str = "", *, quick: bool = False) -> dict[str, Any] | None:
        """What has this name, or an id, as the engine tells it; None when it says that nothing has.

        ``quick`` waits some seconds for an engine that hangs, not a minute.
        """
        engine, wanted = self._engine, container or self.name
        with failures_named("the container engine did not answer: "):
            try:
                if quick:
                    look = engine.run(lambda _: engine.quick.inspect_container(wanted), pool="read")
                else:
                    look = engine.call("inspect_container", wanted)
                return dict(await look)
            except docker.errors.NotFound:
                return None

    # --- a start --------------------------------------------------------------------------------

    async def claim(self, request: claiming.LaunchRequest) -> Claimed:
        """Create the container with its devices. The create is the claim; see `Engine.claim`."""
        return await self._engine.in_order("claim", self.name, partial(claiming.claim, request))

    async def start(self, claimed: Claimed) -> None:
        """Start it and verify it; `DeviceUnusable` on bad devices. See `Engine.start`."""
        await self._engine.in_order("mutate", self.name, partial(self._engine.start, claimed))

    def let_go(self, claimed: Claimed) -> None:
        """Let go of the folders of a start, after whatever its container still waits for. Idempotent."""
        self._engine.in_order("mutate", self.name, partial(self._engine.let_go, claimed))

    async def discard(self, session: str) -> None:
        """Remove what a start made under this name, behind any call that is still in flight."""
        await self.answers()
        work = partial(self._engine.discard, self.name, session)
        await self._engine.in_order("stop", self.name, work)

    async def discard_fetch(self, user: str, token: str) -> None:
        """Stop what fetches a new project for a start, and throw away what it brought."""
        work = partial(fetching.clear, site=self.site, user=user, token=token)
        with failures_named():
            await self._engine.run(work, pool="stop", key=self.name)

    # --- its end --------------------------------------------------------------------------------

    async def log_tail(self, container: str) -> str:
        """The last lines it printed, or nothing when they cannot be read."""
        if not container:
            return ""
        lines = logtail.READ_LINES
        try:
            raw = await self._engine.call("logs", container, tail=lines, stdout=True, stderr=True)
            return logtail.tail(raw)
        except FAILURES:
            return ""

    async def ask_to_end(self, container: str, grace: int) -> None:
        """Ask its processes to end, and kill those that did not within ``grace`` seconds."""
        with failures_named():
            try:
                await self._engine.call("stop", container, timeout=grace, key=self.name)
            except docker.errors.NotFound:
                return

    async def remove(self, container: str) -> None:
        """Remove a container of ours and verify it: a device is free only when its holder is gone."""
        with failures_named():
            try:
                await self._engine.call("remove_container", container, force=True, v=True, key=self.name)
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if error.status_code != 409:  # 409: a removal is under way already
                    raise
            for _ in range(REMOVAL_LOOKS):
                if await self.find(container) is None:
                    return
                await asyncio.sleep(REMOVAL_LOOK_S)
        raise EngineError(f"the container {self.name} could not be removed")

    async def how_ended(
        self, labels: SessionLabels, found: dict[str, Any] | None, memory: tuple[str, str], tail: str
    ) -> Ended | None:
        """How a session ended that did not end by us; ``found`` is what is left of it, None where it is gone.

        ``memory`` says what it may use and whose rule that is. None where the engine forgot.
        """
        now = datetime.now(timezone.utc)  # the engine's events follow no clock of a test
        since, session, state = now - EVENTS_BACK, labels.session, (found or {}).get("State") or {}

        def look(client: Any) -> endings.Evidence:
            if found is not None:
                return endings.read_with(client, state, found["Id"], since, now)
            return endings.read_session(client, session, self._engine.session_in_event, since, now)

        try:
            seen = await self._engine.run(look, pool="read")
        except FAILURES:
            seen = endings.of_state(state)
        return endings.explain(session, seen, *memory, tail)


class SpawnerCalls:
    """The engine's API as DockerSpawner asks it, call by call.

    DockerSpawner makes a container by asking for one. Ours are made by `DockerServer.claim`, from what it
    would ask for; so here that call answers what it was asked, and makes nothing.
    """

    def __init__(self, engine: DockerEngine, name: str) -> None:
        call: Callable[..., Any] = partial(engine.call, key=name)
        self.inspect_container = partial(call, "inspect_container")
        self.inspect_image = partial(call, "inspect_image")
        self.port = partial(call, "port")
        self.exec_create = partial(call, "exec_create")
        self.exec_start = partial(call, "exec_start")

    async def create_container(self, **arguments: Any) -> dict[str, Any]:
        """What would be created."""
        return arguments


@contextmanager
def failures_named(what: str = "") -> Iterator[None]:
    """Turn what the SDK raises into `EngineError`."""
    try:
        yield
    except FAILURES as error:
        raise EngineError(f"{what}{error}") from error

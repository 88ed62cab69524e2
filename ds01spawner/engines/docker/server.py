"""One server's container: what is asked of the engine about it, in threads and in order for its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import docker.errors
import requests.exceptions

from ... import messages
from ...core.ending import Ended
from ...core.errors import EngineError, Refusal
from ...core.labels import SessionLabels
from .. import claiming
from ..base import Claimed, Found, Pool
from ..ends import SIGKILL, explain, lost, said
from .client import DockerEngine

if TYPE_CHECKING:
    from ...site import Site

T = TypeVar("T")
FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
EVENTS_BACK = timedelta(hours=1)
"""How far back the engine is asked for what happened to a container; it keeps less in any case."""


class DockerServer:
    """See the module's text. Cheap to make; holds nothing."""

    def __init__(self, site: Site, name: str) -> None:
        self.site, self.name = site, name
        self._engine = site.engine

    async def ready(self) -> None:
        """Return when the engine answers within seconds."""
        await asyncio.to_thread(self._engine.answers)  # one that hangs refuses in seconds

    async def answers(self) -> None:
        """The same, where the engine was asked before."""
        await asyncio.to_thread(self._engine.answers)

    def in_order(self, pool: Pool, work: Callable[[], T]) -> asyncio.Future[T]:
        """Work of this server in its order. See `Engine.in_order`."""
        return self._engine.in_order(pool, self.name, work)

    async def find(self, container: str = "", *, quick: bool = False) -> Found | None:
        """What has this name, or an id; None when the engine says that nothing has. See `Engine.find`."""
        look = partial(self._engine.find, container or self.name, quick=quick)
        return await self._engine.in_order("read", None, look)

    # --- a start --------------------------------------------------------------------------------

    async def claim(self, request: claiming.LaunchRequest) -> Claimed:
        """Create the container with its devices. The create is the claim; see `Engine.claim`."""
        return await self.in_order("claim", partial(claiming.claim, request))

    async def start(self, claimed: Claimed) -> None:
        """Start it and verify it; `DeviceUnusable` on bad devices. See `Engine.start`."""
        await self.in_order("mutate", partial(self._engine.start, claimed))

    def let_go(self, claimed: Claimed) -> None:
        """Let go of the folders of a start, after whatever its container still waits for. Idempotent."""
        self.in_order("mutate", partial(self._engine.let_go, claimed))

    async def discard(self, session: str) -> None:
        """Remove what a start made under this name, behind any call that is still in flight."""
        await self.answers()
        await self.in_order("stop", partial(self._engine.discard, self.name, session))

    # --- its end --------------------------------------------------------------------------------

    async def log_tail(self, container: str) -> str:
        """The last lines it printed, or nothing when they cannot be read."""
        if not container:
            return ""
        return await self._engine.in_order("read", None, partial(self._engine.log_tail, container))

    async def how_ended(
        self, labels: SessionLabels, found: Found | None, memory: tuple[str, str], seen: datetime
    ) -> Ended:
        """How a session ended that did not end by us; ``found`` is what is left of it, None where it is gone.

        ``memory`` says what it may use and whose rule that is, ``seen`` when it was last seen to run.
        """
        now = datetime.now(timezone.utc)  # the engine's events follow no clock of a test
        engine, tail = self._engine, ""
        if found is not None:
            tail = await self.log_tail(found.container)
            told = await engine.in_order("read", None, partial(engine.how_ended, found.container))
            told = told if told.ended_at else found.end
        else:
            look = partial(engine.how_vanished, labels.session, now - EVENTS_BACK, now)
            told = await engine.in_order("read", None, look)
        return explain(labels.session, told, *memory, tail) or lost(labels.session, seen)

    def why_it_did_not_start(self, found: Found, memory: tuple[str, str]) -> Refusal:
        """How a session ended before it answered, for its owner."""
        end = found.end
        if end.oom and end.exit_code == 128 + SIGKILL:
            return messages.out_of_memory(*memory)
        reason = end.error or said(end.exit_code)
        return messages.crashed_at_start(reason.splitlines()[0][:300])


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

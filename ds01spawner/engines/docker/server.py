"""One server's container: what is asked of the engine about it, in threads and in order for its name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import docker.errors
import requests.exceptions

from ... import messages
from ...core import logtail
from ...core.ending import Ended
from ...core.errors import EngineError, Refusal
from ...core.labels import SessionLabels
from .. import claiming
from ..base import Claimed, Found, Pool
from . import endings
from .client import DockerEngine

if TYPE_CHECKING:
    from ...site import Site

T = TypeVar("T")
FAILURES = (docker.errors.DockerException, requests.exceptions.RequestException, OSError)
EVENTS_BACK = timedelta(hours=1)
"""How far back the engine is asked for what happened to a container; it keeps less in any case."""


@dataclass(frozen=True)
class DockerFound(Found):
    """What has a server's name, with the engine's own words of its state."""

    state: Mapping[str, Any] = field(default_factory=dict)


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

    def in_order(self, pool: Pool, work: Callable[[], T]) -> asyncio.Future[T]:
        """Work of this server in its order. See `Engine.in_order`."""
        return self._engine.in_order(pool, self.name, work)

    async def find(self, container: str = "", *, quick: bool = False) -> DockerFound | None:
        """What has this name, or an id; None when the engine says that nothing has. See `Engine.find`."""
        engine, wanted = self._engine, container or self.name
        with failures_named("the container engine did not answer: "):
            try:
                if quick:
                    look = engine.run(lambda _: engine.quick.inspect_container(wanted), pool="read")
                else:
                    look = engine.call("inspect_container", wanted)
                found = await look
            except docker.errors.NotFound:
                return None
        env = dict(line.partition("=")[::2] for line in found["Config"].get("Env") or ())
        state = found["State"]
        running, code = bool(state["Running"]), state.get("ExitCode")
        return DockerFound(
            found["Id"], engine.session_in(found), running, exit_code=code, env=env, state=state
        )

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
        lines = logtail.READ_LINES
        try:
            raw = await self._engine.call("logs", container, tail=lines, stdout=True, stderr=True)
            return logtail.tail(raw)
        except FAILURES:
            return ""

    async def how_ended(
        self, labels: SessionLabels, found: Found | None, memory: tuple[str, str], seen: datetime
    ) -> Ended:
        """How a session ended that did not end by us; ``found`` is what is left of it, None where it is gone.

        ``memory`` says what it may use and whose rule that is, ``seen`` when it was last seen to run.
        """
        now = datetime.now(timezone.utc)  # the engine's events follow no clock of a test
        since, session, state = now - EVENTS_BACK, labels.session, _state(found)
        tail = await self.log_tail(found.container) if found else ""

        def look(client: Any) -> endings.Evidence:
            if found is not None:
                return endings.read_with(client, state, found.container, since, now)
            return endings.read_session(client, session, self._engine.session_in_event, since, now)

        try:
            told = await self._engine.run(look, pool="read")
        except FAILURES:
            told = endings.of_state(state)
        return endings.explain(session, told, *memory, tail) or endings.lost(session, seen)

    def why_it_did_not_start(self, found: Found, memory: tuple[str, str]) -> Refusal:
        """How a session ended before it answered, for its owner."""
        state = _state(found)
        if state.get("OOMKilled") and found.exit_code == 128 + endings.SIGKILL:
            return messages.out_of_memory(*memory)
        reason = str(state.get("Error") or endings.said(found.exit_code))
        return messages.crashed_at_start(reason.splitlines()[0][:300])


def _state(found: Found | None) -> Mapping[str, Any]:
    return found.state if isinstance(found, DockerFound) else {}


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

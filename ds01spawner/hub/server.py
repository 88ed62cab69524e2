"""What a start needs of the hub's spawner, whatever its engine; and what is asked of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..core.ending import Ended
from ..core.errors import Refusal
from ..core.labels import SessionLabels
from ..engines.base import Claimed, Found, Pool
from ..engines.claiming import LaunchRequest
from ..policy.options import LaunchOptions
from ..policy.resolve import Person
from ..site import Site
from .kept_options import KeptOptions
from .progress import Progress

if TYPE_CHECKING:
    from ..queue.turns import Turns

T = TypeVar("T")
Address = tuple[str, int]


@dataclass(frozen=True)
class Wish:
    """Who asks for what session: validated, and not allowed yet."""

    person: Person
    server: str
    session: str
    options: LaunchOptions


class OnEngine(Protocol):
    """What is asked of the engine about one server: `Engine` for its name, awaited, in its order.

    All of it fails with `EngineError`, and a start's part with `Refused` too.
    """

    async def ready(self) -> None:
        """Return when the engine answers within seconds."""

    def in_order(self, pool: Pool, work: Callable[[], T]) -> Awaitable[T]:
        """Run work in a thread, behind all earlier work of this server."""

    async def find(self, container: str = "", *, quick: bool = False) -> Found | None:
        """What has this server's name, or an id; None only when the engine says that nothing has.

        ``quick`` waits some seconds for an engine that hangs, not a minute.
        """

    async def claim(self, request: LaunchRequest) -> Claimed:
        """Create the session with its devices. Leaves nothing when it raises."""

    async def start(self, claimed: Claimed) -> None:
        """Start and verify what was claimed; `DeviceUnusable` where another device may do."""

    def let_go(self, claimed: Claimed) -> None:
        """Release what this process held for a start. Idempotent; does not wait."""

    async def discard(self, session: str) -> None:
        """Remove this session under this name, if it is there, and see it gone. Idempotent."""

    async def log_tail(self, container: str) -> str:
        """The last lines it printed; empty where they cannot be read. Never raises."""

    async def how_ended(
        self, labels: SessionLabels, found: Found | None, memory: tuple[str, str], seen: datetime
    ) -> Ended:
        """How a session ended that did not end by us; ``found`` is what is left of it, None where it is gone.

        ``memory`` says what it may use and whose rule that is, ``seen`` when it was last seen to run. Never
        raises: where the engine forgot, it was lost when it was last seen.
        """

    def why_it_did_not_start(self, found: Found, memory: tuple[str, str]) -> Refusal:
        """How a session ended before it answered, for its owner."""


class Server(Protocol):
    """One server of a user. `SessionSpawner` has all of it but what stands under *the engine's*."""

    # Traits.
    start_timeout: int
    boot_timeout: int
    lock_timeout: int
    retire_grace: int
    retire_patience: int
    answer_interval: float
    cmd: Any
    image: str
    pull_policy: str
    clock: Callable[[], datetime]

    # The hub's.
    name: str
    user: Any
    server: Any
    orm_spawner: Any
    user_options: Any
    api_token: str
    log: Any
    _log_name: str

    # This process's.
    site: Site
    person: Person
    service_url: str
    turns: Turns
    kept: KeptOptions
    progress_log: Progress

    # The session that it is.
    session_id: str
    session_labels: SessionLabels | None
    """As last seen; None once its end is reported."""

    # The engine's.
    object_id: str
    object_name: str
    configured_image: str

    @property
    def on_engine(self) -> OnEngine:
        """This server on the engine."""

    async def native(self) -> Mapping[str, Any]:
        """What the engine's own spawner class and its settings would create, in the engine's words."""

    async def came_up(self) -> Address:
        """Where a session that was just started answers, after what the site runs in it first."""

    async def get_ip_and_port(self) -> Address:
        """Where a session that runs answers."""

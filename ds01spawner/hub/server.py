"""What a start needs of the hub's spawner, whatever its engine; and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from ..core.labels import SessionLabels
from ..policy.options import LaunchOptions
from ..policy.resolve import Person
from ..site import Site
from .kept_options import KeptOptions
from .progress import Progress

if TYPE_CHECKING:
    from ..engines.docker.server import DockerServer
    from ..queue.turns import Turns
    from .retire import Retirement

Address = tuple[str, int]


@dataclass(frozen=True)
class Wish:
    """Who asks for what session: validated, and not allowed yet."""

    person: Person
    server: str
    session: str
    options: LaunchOptions


class Server(Protocol):
    """One server of a user. `spawner.SessionSpawner` has all of it but what stands under *the engine's*."""

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
    retirement: Retirement

    # The session that it is.
    session_id: str
    session_labels: SessionLabels | None
    """As last seen; None once its end is reported."""

    # The engine's.
    object_id: str
    object_name: str
    configured_image: str
    on_engine: DockerServer

    async def native(self) -> Mapping[str, Any]:
        """What the engine's own spawner class and its settings would create, in the engine's words."""

    async def came_up(self) -> Address:
        """Where a session that was just started answers, after what the site runs in it first."""

    async def get_ip_and_port(self) -> Address:
        """Where a session that runs answers."""

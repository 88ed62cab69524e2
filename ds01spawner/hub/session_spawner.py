"""What JupyterHub calls of a spawner, on any engine; each callback hands on to what does the work.

That is `start.Start`, `retire.Retirement`, `form.launch_form` and `kept_options.KeptOptions`. The class for
an engine puts `SessionSpawner` before that engine's own, and adds what `server.Server` calls the engine's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

from traitlets import Callable, Float, Integer, Unicode, default

from ..core.labels import SessionLabels
from ..core.lag import watch
from ..core.public_urls import service_address
from ..policy.options import from_form
from ..policy.resolve import Person
from ..queue.turns import Turns
from ..site import Site
from .form import launch_form
from .http_errors import open_form
from .kept_options import KeptOptions
from .progress import Progress
from .retire import Retirement
from .server import Address
from .start import Start
from .traits import START_TIMEOUT_S, SiteTraits, settings_of

BOOT_TIMEOUT_S = 300


def arrive_in_turn(spawner: SessionSpawner) -> Awaitable[list[str]]:
    """Let the hub go on with a start when it is this one's turn. Set as ``server_token_scopes``.

    That is the first thing the hub asks a spawner when it starts a server, before its own work on tokens and
    database. The scopes are those of the hub's role for servers. A site's own list goes without the wait.
    """
    spawner.expect_progress()
    spawner.kept.commit()  # here, since a coroutine runs later

    async def no_more_scopes() -> list[str]:
        await spawner.turns.arrive()
        return []

    return no_more_scopes()


async def accept_options(spawner: SessionSpawner, raw: Mapping[str, Any]) -> None:
    """Validate what was asked for, from whatever source. Set as ``apply_user_options``."""
    spawner.kept.accept(raw)
    await asyncio.sleep(0)  # others are served between the hub's work for a start and ours


class SessionSpawner(SiteTraits):
    """What JupyterHub calls, on any engine. Mix in before the engine's spawner class."""

    lock_timeout = Integer(20, help="Seconds to wait for the claim lock; then the start is refused.").tag(
        config=True
    )
    boot_timeout = Integer(
        BOOT_TIMEOUT_S,
        min=1,
        help="""Seconds that a start's own work may take, the fetching of its image included. Waiting for its
        turn while others boot does not count; ``start_timeout`` bounds all of it together.""",
    ).tag(config=True)
    boots_at_once = Integer(
        0,
        min=0,
        help="""How many sessions boot at a time; the others wait for their turn in the order in which they
        were asked for. 0 goes by the machine's processors and by how long starts take.""",
    ).tag(config=True)
    answer_interval = Float(0.05, help="Seconds between looks whether a new session answers yet.").tag(
        config=True
    )
    retire_grace = Integer(
        30, min=1, max=60, help="Seconds a session's processes get to save their work when it is retired."
    ).tag(config=True)
    retire_patience = Integer(
        120,
        min=0,
        help="""Seconds that a retire goes on in the hub while the container engine does not answer. After
        that the server leaves the hub's list, and the session is retired as soon as the engine answers.""",
    ).tag(config=True)
    clock = Callable(lambda: datetime.now(timezone.utc), help="Returns the time, with a zone. For tests.")

    session_id = Unicode()
    session_labels: SessionLabels | None = None
    """The session this server was last seen to have; None once its end is reported."""
    starting: Start | None = None
    """The last start of this server in this process."""
    _site: Site | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress_log = Progress()
        self.kept = KeptOptions(self)
        self.retirement = Retirement(self)
        with suppress(RuntimeError):  # no loop, no lag
            watch()

    @property
    def site(self) -> Site:
        """The shared parts of this process: policy, engine, store, workspaces."""
        if self._site is None:
            self._site = Site.for_settings(settings_of(self).model_dump())
        return self._site

    @property
    def turns(self) -> Turns:
        """The line in which this process's starts boot."""
        return self.site.turns(self.boots_at_once)

    @property
    def person(self) -> Person:
        """The session's owner as the policy sees them, groups read now."""
        groups = frozenset(g.name for g in self.user.groups)
        return Person(name=self.user.name, groups=groups, admin=bool(self.user.admin))

    @property
    def service_url(self) -> str:
        """Public address of the service, with a trailing slash: a path where it has no domain of its own."""
        path, known = f"{self.hub.base_url.removesuffix('hub/')}services/ds01/", self.user.settings
        return service_address(path, known.get("subdomain_host", ""), known.get("subdomain_hook"))

    # --- what is asked for ----------------------------------------------------------------------

    @default("options_form")
    def _default_options_form(self) -> Any:
        return launch_form

    @default("options_from_form")
    def _default_options_from_form(self) -> Any:
        return from_form

    def options_from_query(self, query: dict[str, Any]) -> Any:
        """A link never starts anything: the form opens, filled in, and waits for a click."""
        raise open_form(self.log)

    @default("apply_user_options")
    def _default_apply_user_options(self) -> Any:
        return accept_options

    # --- start ----------------------------------------------------------------------------------

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return START_TIMEOUT_S  # a whole class may be before this start

    @default("server_token_scopes")
    def _default_server_token_scopes(self) -> Any:
        return arrive_in_turn

    def expect_progress(self) -> None:
        """Begin the list of what the next start does; browsers may follow it before `start` is called."""
        if self.progress_log.done:
            self.progress_log = Progress()

    async def start(self) -> Address:
        """Launch the session; `Start` says what every ending leaves behind."""
        self.expect_progress()
        self.starting = Start(self, self.retirement)
        self.session_id = self.starting.session
        return await self.starting.run()

    async def progress(self) -> Any:
        """The start's events, from the first, for every browser that asks."""
        async for event in self.progress_log.follow():
            yield event

    # --- afterwards -----------------------------------------------------------------------------

    async def poll(self) -> Any:
        """None while it runs, and also while the engine cannot tell; else how it ended."""
        return await self.retirement.poll()

    async def stop(self, now: bool = False) -> None:
        """Retire the session; `Retirement.stop` says what happens while the engine is away."""
        await self.retirement.stop(now)
        self.clear_state()

    async def delete_forever(self) -> None:
        """The server or its user is deleted: nothing of it may stay on the engine."""
        if await self.retirement.find() is not None:
            await self.stop(now=True)

    async def rename(self, old: str, new: str) -> None:
        """Only a server without a session is renamed."""
        await self.retirement.refuse_rename(old, new)

    def get_state(self) -> dict[str, Any]:
        """The session's id too, by which it can be retired while the engine does not answer."""
        state = dict(super().get_state())
        if self.retirement.session and self.object_id:
            state["ds01"] = {"v": 1, "session": self.retirement.session}
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read it back; labels win where the engine answers."""
        super().load_state(state)
        kept = state.get("ds01")
        if isinstance(kept, dict) and isinstance(kept.get("session"), str):
            self.session_id = kept["session"]

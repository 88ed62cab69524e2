"""What every handler of the service reaches: the site, the hub, the shared reading, the looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH

from ..core.hub_client import HubClient
from ..core.public_urls import origin_of
from ..core.settings import Settings
from ..idle.state import IdleFiles
from ..notify.board import NoticeBoard
from ..pages import keys, template_dirs
from ..pages.hub import HubContext
from ..pages.render import install_filters
from ..policy.resolve import Limits, Person
from ..site import Site
from ..store import Store
from .decisions import Decisions
from .places import Places
from .site_reading import Snapshots

T = TypeVar("T")


@dataclass(frozen=True)
class Urls:
    """Public addresses, each with a trailing slash. ``hub`` is whole where the service has another domain."""

    hub: str = "/hub/"
    service: str = "/services/ds01/"
    """The path of the service on its own host."""
    address: str = ""
    """Its whole address where the hub's pages are of another host."""

    @property
    def told(self) -> str:
        """The service as pages of the hub name it."""
        return self.address or self.service

    @property
    def hub_static(self) -> str:
        """The hub's styles, fonts and scripts: served here where the hub is of another origin, since browsers
        take no fonts from there."""
        return f"{self.service}hub-static/" if self.foreign_origin else f"{self.hub}static/"

    @property
    def foreign_origin(self) -> str:
        """The hub's origin where it is not the service's own; its pages may read live parts."""
        return origin_of(self.hub)

    @property
    def base(self) -> str:
        """The deployment's base URL."""
        return self.hub.removesuffix("hub/")

    def server(self, user: str, server: str) -> str:
        """Where a running session is opened."""
        path = f"{self.base}user/{quote(user, safe='@~')}/"
        return f"{path}{quote(server, safe='')}/" if server else path

    def spawn(self, user: str, server: str) -> str:
        """The launch page for one server."""
        path = f"{self.hub}spawn/{quote(user, safe='@~')}"
        return f"{path}/{quote(server, safe='')}" if server else path


@dataclass
class Context:
    """One for each process of the service."""

    site: Site
    hub: HubClient
    urls: Urls
    secret: bytes
    snapshots: Snapshots
    templates: Environment
    clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc)
    nav: tuple[tuple[str, str], ...] = ()
    """(path below the service, title) of the pages."""
    decisions: Decisions = field(init=False)
    log_outs: keys.LogOuts = field(init=False)
    board: NoticeBoard = field(init=False)
    places: Places = field(default_factory=Places)
    extra: dict[str, Any] = field(default_factory=dict)
    """What handler modules keep for themselves, by their own name."""

    def __post_init__(self) -> None:
        """The idle service writes its decisions beside the settings."""
        self.log_outs = keys.LogOuts(self.site.settings.state_dir)
        self.decisions = Decisions(IdleFiles(self.site.settings.state_dir))
        self.board = NoticeBoard(self.site.store, self.clock)

    @property
    def settings(self) -> Settings:
        """The site's settings."""
        return self.site.settings

    async def store(self, work: Callable[[Store], T]) -> T:
        """Run ``work`` on the store in a thread; `StoreError` when it is down."""
        return await asyncio.to_thread(lambda: work(self.site.store()))

    async def limits(self, person: Person) -> Limits:
        """What a person gets now."""
        now = self.clock()
        return await asyncio.to_thread(self.site.limits, person, now)

    def key(self, person: str) -> str:
        """A key for the live fragments of a person's page."""
        return keys.sign(self.secret, person, self.clock())

    def hub_context(self, person: str) -> HubContext:
        """``ds01`` for templates that the hub and the service share."""
        key = self.key(person) if person else ""
        own_logo = self.settings.own_logo
        return HubContext(
            self.urls.told, key, lambda _: None, lambda: self.board.of(person), own_logo=own_logo
        )


def make_templates(extra_dirs: tuple[str, ...] = ()) -> Environment:
    """The hub's pages with ours over them, as the hub itself composes them."""
    base = str(Path(DATA_FILES_PATH) / "templates")
    env = Environment(
        loader=ChoiceLoader(
            [
                PrefixLoader({"templates": FileSystemLoader([base])}, "/"),
                FileSystemLoader([*extra_dirs, *template_dirs(), base]),
            ]
        ),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    install_filters(env)
    return env

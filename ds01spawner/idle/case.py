"""What the idle service works with: its surroundings, how it is set up, and one session within one pass."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from ..core.hub_client import HubServer, Stopped
from ..engines.docker.engine_reader import Running
from ..notify.channels import Kind, Notice, Notifier
from .idle_document import CaseJson
from .idle_store import Book, Facts
from .model import Decision, IdleRules, Session
from .observe import Look
from .retirements import Retirements
from .state import IdleFiles


class Hub(Protocol):
    """What the service asks of the hub (see `hub_client.HubClient`)."""

    async def servers(self) -> dict[tuple[str, str], HubServer]: ...
    async def server(self, user: str, name: str) -> HubServer | None: ...
    async def stop(self, user: str, server: str, remove: bool = False) -> Stopped: ...


class Sensors(Protocol):
    """What the service asks of the sensors (see `observe.Observer`)."""

    async def look(
        self, running: Collection[Running], servers: Mapping[tuple[str, str], HubServer]
    ) -> dict[str, Look]: ...
    def keep_only(self, sessions: Collection[str]) -> None: ...


@dataclass(frozen=True)
class Settled:
    """How the service works. Times in seconds; ``hooks`` are ``module:function``."""

    poll: float = 60.0
    window: float = 60.0
    port: int = 8888
    parallel: int = 16
    """Requests to the hub, and so stops, at once; 0 for no limit."""
    dry_run: bool = False
    cull_default: bool = True
    cull_named: bool = True
    """Whether servers without and with a name are retired for being idle. Lifetimes end them all the same."""
    remove_named: bool = False
    hooks: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    page_size: int = 0
    timeout: float = 60.0
    tls: ssl.SSLContext | None = None
    may_end: Callable[[HubServer], Awaitable[bool]] | None = None
    """Asked while a session is to be warned or retired for being idle; False takes its idle limit away."""

    @property
    def at_once(self) -> int:
        """``parallel`` as a number that a semaphore takes."""
        return self.parallel or 1_000_000

    def culls(self, server: str) -> bool:
        """Whether a server of that name may be retired for being idle."""
        return self.cull_named if server else self.cull_default


@dataclass(frozen=True)
class Parts:
    """The service's surroundings. ``running``, ``rules`` and ``share`` block and run in threads."""

    hub: Hub
    observer: Sensors
    running: Callable[[], list[Running]]
    rules: Callable[[HubServer, datetime], IdleRules]
    book: Book
    notifier: Notifier
    files: IdleFiles
    clock: Callable[[], datetime]
    retirements: Retirements
    share: Callable[[Collection[Running]], float] = field(default=lambda _: 0.0)
    """Share of the machine's devices in use, 0 to 1."""
    base_url: str = "/"
    """The deployment's, below which sessions have their paths."""


@dataclass(frozen=True)
class Case:
    """One session within one pass."""

    running: Running
    server: HubServer
    session: Session
    rules: IdleRules
    decision: Decision

    def notice(self, kind: Kind, key: str, text: str, now: datetime) -> Notice:
        """A notice to the session's owner."""
        return notice_to(self.session, kind, key, text, now)

    def public(self) -> CaseJson:
        """The case as pages and commands show it."""
        session = self.session
        return {
            "user": session.user,
            "server": session.server,
            "address": session.address,
            "session": session.id,
            "project": session.project,
            "kept_until": session.extension_until.isoformat() if session.extension_until else None,
            **self.decision.as_dict(),
        }


def session_of(running: Running, server: HubServer, facts: Facts) -> Session:
    """The session that is decided on, from what engine, hub and store say of it."""
    labels = running.labels
    return Session(
        id=labels.session,
        user=labels.user,
        server=labels.server,
        project=labels.project,
        started_at=_moment(labels.created_at) or server.started,
        holds_gpu=bool(labels.gpu_uuids),
        lifetime_end=_moment(labels.expires_at),
        extension_until=facts.kept_until.get(labels.session),
        deadline=facts.deadline(labels.gpu_uuids),
    )


def notice_to(session: Session, kind: Kind, key: str, text: str, now: datetime) -> Notice:
    """A notice to a session's owner."""
    return Notice(kind, key, session.user, session.server, session.id, session.project, text, now)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return moment if moment.tzinfo else None

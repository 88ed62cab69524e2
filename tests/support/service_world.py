"""The service over HTTP for tests: real handlers, store, policy and queue of builds; the rest is played.

People log in with their name as token; `PlayedHub.people` says who they are, `PlayedHub.scopes` what their
log-in may do beyond opening the service.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from jupyterhub.services.auth import HubOAuth
from tornado import web
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port

from ds01spawner.core.errors import EngineError
from ds01spawner.core.hub_client import HubError, HubUser, Stopped, read_user
from ds01spawner.core.labels import SessionLabels
from ds01spawner.core.settings import Settings
from ds01spawner.engines.base import EngineSession, EngineState
from ds01spawner.engines.docker.engine import Docker
from ds01spawner.engines.docker.image_store import EngineFacts, ImageMissing
from ds01spawner.environments.builder.builds import BuildRunner
from ds01spawner.environments.builder.builds import Site as BuildSite
from ds01spawner.environments.environment_service import EnvironmentService
from ds01spawner.environments.facts import SINGLEUSER_LABEL, ImageFacts
from ds01spawner.environments.offered import Environments
from ds01spawner.environments.preflight import Host
from ds01spawner.placement.devices import Holding
from ds01spawner.policy.resolve import Person
from ds01spawner.service.app import make_app
from ds01spawner.service.context import Context, Urls, make_templates
from ds01spawner.service.handler_base import PersonHandler
from ds01spawner.service.site_reading import Snapshots
from ds01spawner.site import Site
from support.played_engine import PlayedEngine

NOW = datetime(2026, 3, 3, 14, 0, tzinfo=timezone.utc)
PREFIX = "/x/services/ds01/"
SECRET = b"k" * 32
COOKIE_SECRET = "c" * 64
GPUS = """\
version: 1
cards:
  - {name: NVIDIA A100-SXM4-80GB, memory: 80g, mig: [3g.40gb, 2g.20gb, 1g.10gb, 1g.10gb]}
"""
POLICY = "version: 1\ndefaults: {idle: {keep_alive: {per_session: 4h, per_day: 8h}}}\n"
LAB = "sha256:" + "1" * 64


class PlayedHub:
    """The hub's API: who people are, and what it was told to do."""

    def __init__(self) -> None:
        self.people = {
            "alice": Person("alice", frozenset({"students"})),
            "bob": Person("bob"),
            "root": Person("root", admin=True),
        }
        self.servers: dict[str, dict[str, Any]] = {
            "alice": {"": {"ready": True, "user_options": {"project": "thesis", "gpu": "1g.10gb"}}}
        }
        self.scopes: dict[str, list[str]] = {}
        self.stopped: list[tuple[str, str]] = []
        self.down = False

    async def person(self, name: str, max_age: float = 0) -> Person:
        if self.down:
            raise HubError(0, "the hub did not answer")
        if name not in self.people:
            raise HubError(404, "the hub answered 404 Not Found")
        return self.people[name]

    async def user(self, name: str, max_age: float = 0) -> HubUser:
        return read_user({"name": name, "servers": self.servers.get(name, {})})

    async def users(self, state: str = "active") -> AsyncIterator[HubUser]:
        for person in self.people.values() if state == "active" else ():
            yield HubUser(person.name, person.groups)

    async def stop(self, user: str, server: str) -> Stopped:
        self.stopped.append((user, server))
        self.servers.get(user, {}).pop(server, None)
        return "stopped"


class PlayedLedger:
    """The engine's list of sessions; counts how often it is asked."""

    def __init__(self) -> None:
        self.sessions: list[EngineSession] = []
        self.others: list[EngineSession] = []
        self.holdings: list[Holding] = []
        self.reads, self.error = 0, None

    def add(
        self,
        user: str,
        session: str,
        server: str = "",
        uuids: Any = (),
        project: str = "thesis",
        environment: str = "lab",
    ) -> None:
        labels = SessionLabels(
            user, server, project, "hub", session, "sha256:1", environment, tuple(uuids), 1 / 7,
            NOW.isoformat(),
        )  # fmt: skip
        self.sessions.append(EngineSession(labels, "c" + session, session, "running", "Up", NOW.isoformat()))
        self.holdings += [
            Holding(u, f"{labels.address}", "session", user=user, session=session) for u in uuids
        ]

    def read(self, *_: Any) -> EngineState:
        self.reads += 1
        if self.error:
            raise self.error
        return EngineState(tuple(self.holdings), tuple(self.sessions), tuple(self.others))


class PlayedImages:
    """The engine's images, in memory."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.held: dict[str, ImageFacts] = {LAB: ImageFacts(LAB, tags=("ds01/lab:latest",))}

    def add(self, reference: str, image: str, **facts: Any) -> None:
        """An image that somebody made, under a name."""
        self.held[image] = ImageFacts(image, tags=(reference,), **facts)
        self.on_change()

    def inspect(self, reference: str) -> ImageFacts:
        for facts in self.held.values():
            if reference in (facts.id, *facts.tags):
                return facts
        raise ImageMissing(f"image {reference}: not on this machine")

    def list(self, labels: Any = ()) -> tuple[ImageFacts, ...]:
        return tuple(self.held.values())

    def in_use(self) -> dict[str, tuple[str, ...]]:
        return {}

    def tag(self, image: str, reference: str) -> None:
        facts = self.inspect(image)
        self.held[facts.id] = replace(facts, tags=(*facts.tags, reference))
        self.on_change()

    def needs_probe(self, facts: ImageFacts) -> bool:
        return SINGLEUSER_LABEL not in facts.labels

    def remove(self, reference: str) -> None:
        for facts in [f for f in self.held.values() if reference in f.tags]:
            self.held[facts.id] = replace(facts, tags=tuple(t for t in facts.tags if t != reference))
        self.on_change()

    def engine(self) -> EngineFacts:
        return EngineFacts("28.0", "amd64")

    def client(self, timeout: int = 0) -> Any:
        raise EngineError("there is no engine behind these images")

    async def run(self, call: Any, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(call, *args, **kwargs)


@dataclass
class World:
    """One service and what stands around it."""

    context: Context
    site: Site
    ledger: PlayedLedger
    hub: PlayedHub
    images: PlayedImages
    auth: HubOAuth
    runner: BuildRunner
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> Any:
        """The open store."""
        return self.site.store()

    @property
    def uuids(self) -> list[str]:
        """The devices."""
        return [d.uuid for d in self.site.engine.inventory().inventory.devices]

    @property
    def env_service(self) -> EnvironmentService:
        """The environment service for environments; its builds stay queued."""
        env_service: EnvironmentService = self.context.extra["environments.desk"]
        return env_service


def make_world(folder: Path, monkeypatch: pytest.MonkeyPatch, policy: str = POLICY, **settings: Any) -> World:
    """Everything but the listening server."""
    (folder / "gpus.yaml").write_text(GPUS)
    (folder / "policy.yaml").write_text(policy)
    made = Settings(
        state_dir=folder,
        devices="simulated",
        inventory=folder / "gpus.yaml",
        workspace_root=settings.pop("workspace_root", folder),
        policy=folder / "policy.yaml",
        image="ds01/lab:latest",
        **settings,
    )
    site = Site.for_settings(made.model_dump())
    ledger, hub, images = PlayedLedger(), PlayedHub(), PlayedImages()
    site.__dict__["engine"] = Docker(made, PlayedEngine())  # type: ignore[arg-type]
    site.engine.__dict__["ledger"] = ledger
    site.__dict__["environments"] = Environments(made, images, site.store)  # type: ignore[arg-type]
    context = Context(
        site=site,
        hub=hub,  # type: ignore[arg-type]
        urls=Urls("/x/hub/", PREFIX),
        secret=SECRET,
        snapshots=Snapshots(site),
        templates=make_templates(),
        clock=lambda: NOW,
    )
    runner = BuildRunner(
        site.store(),
        images,
        BuildSite(Host("amd64", "6.1")),
        workers=0,
        clock=lambda: NOW,  # type: ignore[arg-type]
    )
    context.extra["environments.desk"] = EnvironmentService(site, runner, lambda: NOW)
    auth = _played_auth(hub, monkeypatch)
    return World(context, site, ledger, hub, images, auth, runner)


def _played_auth(hub: PlayedHub, monkeypatch: pytest.MonkeyPatch) -> HubOAuth:
    auth = HubOAuth(
        api_token="t",
        api_url="http://127.0.0.1:1/hub/api",
        oauth_client_id="service-ds01",
        oauth_redirect_uri=f"{PREFIX}oauth_callback",
        base_url=PREFIX,
        hub_prefix="/x/hub/",
        access_scopes={"access:services!service=ds01"},
    )

    def model(token: str) -> dict[str, Any] | None:
        if token == "prometheus":
            return {"kind": "service", "name": token, "scopes": list(auth.access_scopes)}
        scopes = [*auth.access_scopes, *hub.scopes.get(token, ())]
        return {"kind": "user", "name": token, "scopes": scopes} if token in hub.people else None

    async def later(token: str) -> dict[str, Any] | None:
        return model(token)

    def user_for_token(token: str, use_cache: bool = True, session_id: str = "", *, sync: bool = True) -> Any:
        return model(token) if sync else later(token)

    monkeypatch.setattr(auth, "user_for_token", user_for_token, raising=True)
    monkeypatch.setattr(PersonHandler, "_hub_auth", auth)
    return auth


class Client:
    """``await client(path, …)``: one request to the service."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def __call__(
        self,
        path: str,
        who: str = "",
        method: str = "GET",
        body: Any = None,
        headers: dict[str, str] | None = None,
        form: Any = None,
        raw: bytes | None = None,
    ) -> Any:
        given = dict(headers or {})
        if who:
            given["Authorization"] = f"token {who}"
        data: Any = raw
        if form is not None:
            data = urlencode(form)
        elif body is not None:
            data = json.dumps(body)
        answer: Any = await AsyncHTTPClient().fetch(
            HTTPRequest(
                f"http://127.0.0.1:{self.port}{PREFIX}{path}",
                method=method,
                headers=given,
                body=data,
                allow_nonstandard_methods=True,
                follow_redirects=False,
                request_timeout=60,
            ),
            raise_error=False,
        )
        answer.text = answer.body.decode("utf-8", "replace") if answer.body else ""
        return answer


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[Client]:
    """The service on a free port."""
    listening, port = bind_unused_port()
    server = HTTPServer(make_app(world.context, cookie_secret=COOKIE_SECRET, **world.settings))
    server.add_sockets([listening])
    try:
        yield Client(port)
    finally:
        server.stop()
        await server.close_all_connections()


def cookie(who: str) -> dict[str, str]:
    """The login cookie of a browser."""
    value = web.create_signed_value(COOKIE_SECRET, "service-ds01", who).decode()
    return {"Cookie": f"service-ds01={value}", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}


def raw_request(port: int, data: bytes) -> bytes:
    """Send bytes as they are, and read the answer to its end. Blocking."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        found = b""
        while chunk := connection.recv(65536):
            found += chunk
    return found

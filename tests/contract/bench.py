"""One site on one engine, and what can happen to its sessions behind the hub's back."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import docker
from docker.errors import APIError, NotFound
from support.engine_door import EngineDoor

from ds01spawner.core import installation
from ds01spawner.core.labels import MANAGED, SESSION
from ds01spawner.core.settings import Settings
from ds01spawner.engines.base import Claimed, Found
from ds01spawner.engines.claiming import LaunchRequest, claim
from ds01spawner.engines.docker.image_store import Resolved
from ds01spawner.engines.fake import Machine
from ds01spawner.environments.catalogue import Environment
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.policy.options import parse_options
from ds01spawner.policy.resolve import Person
from ds01spawner.site import Site

POLICY = """
version: 1
defaults:
  gpu: {max_equivalents: 1}
  session: {max: 2, cpus: 1, memory: 32m, shm: 16m, pids: 64, lifetime: 1h}
  queue: {max_wait: 1h}
  storage: {minimum_free: {workspace: 1m, host: 1m, engine: 1m}}
"""
GPUS = """
version: 1
cards:
  - {uuid: "GPU-%s", name: Simulated, memory: 80g, mig: [1g.10gb, 1g.10gb]}
"""
FOREVER = ("sleep", "600")
EATS = ("sh", "-c", "exec tail /dev/zero")


class Backstage(Protocol):
    """What only a test can do to an engine. ``box`` is an `EngineSession.container`."""

    image: str

    def kill(self, box: str) -> None:
        """Its main process is killed by somebody who is not the hub."""

    def exhaust(self, launched: Launched) -> None:
        """It wants more memory than it may have, and is ended for that."""

    def delete(self, box: str) -> None:
        """It is removed by somebody who is not the hub."""

    def stranger(self, name: str) -> str:
        """Somebody else's container of that name, which says that it is a session."""

    def away(self) -> Any:
        """The engine does not answer for a while."""


@dataclass(frozen=True)
class Launched:
    request: LaunchRequest
    claimed: Claimed

    @property
    def box(self) -> str:
        return self.claimed.container

    @property
    def name(self) -> str:
        return str(self.request.create_kwargs["name"])

    @property
    def session(self) -> str:
        return self.request.session


class Bench:
    """See the module's text."""

    def __init__(self, settings: Settings, behind: Backstage) -> None:
        self.settings, self.behind = settings, behind
        self.now = datetime.now(timezone.utc).replace(microsecond=0)
        self.site = Site(settings)

    @property
    def engine(self) -> Any:
        return self.site.engine

    def restart(self) -> None:
        """The hub's process is another one; the engine goes on."""
        self.site.endings.flush()
        self.site = Site(self.settings)

    def request(
        self,
        user: str,
        *,
        gpu: str = "none",
        server: str = "",
        image: str = "",
        command: tuple[str, ...] = FOREVER,
        **more: Any,
    ) -> LaunchRequest:
        project = f"p{server}"
        image = image or self.behind.image
        environment = Environment("lab", "lab", image)
        return LaunchRequest(
            site=self.site,
            person=Person(user),
            options=parse_options({"project": project, "gpu": gpu}),
            workspace=self.site.workspaces.prepare(user, project),
            create_kwargs={
                "name": f"{self.settings.hub_id}--{user}{server}",
                "command": list(command),
                "environment": {"JUPYTERHUB_API_TOKEN": "secret"},
            },
            session=uuid.uuid4().hex,
            server=server,
            image=Resolved(environment, image, ImageFacts(image)),
            clock=lambda: self.now,
            stop_timeout=1,
            keys=frozenset({f"user:{user}"}),
            **more,
        )

    def claim(self, user: str, **more: Any) -> Launched:
        request = self.request(user, **more)
        return Launched(request, claim(request))

    def launch(self, user: str, **more: Any) -> Launched:
        made = self.claim(user, **more)
        try:
            self.engine.start(made.claimed)
        finally:
            self.engine.let_go(made.claimed)
        return made

    def ours(self) -> dict[str, str]:
        """The state of every session of this site, by its id."""
        return {s.labels.session: s.state for s in self.engine.look().sessions}

    def held(self) -> list[str]:
        """Who holds the devices of this site."""
        mine = {d.uuid for d in self.engine.inventory().inventory.devices}
        return [h.session for h in self.engine.look().holdings if h.uuid in mine]

    def found(self, launched: Launched) -> Found:
        found = self.engine.find(launched.name)
        assert found is not None
        return found

    def record(self, launched: Launched) -> Any:
        return next(s for s in self.engine.look().sessions if s.labels.session == launched.session)


class FakeBackstage:
    """The machine in memory."""

    image = "sha256:" + "1" * 64

    def __init__(self, settings: Settings) -> None:
        self.machine = Machine.of(settings)
        self.machine.images.add(self.image)

    def _box(self, box: str) -> Any:
        found = self.machine.get(box)
        assert found is not None
        return found

    def kill(self, box: str) -> None:
        self.machine.end(self._box(box), 137, signal=9)

    def exhaust(self, launched: Launched) -> None:
        self.machine.end(self._box(launched.box), 137, oom=True)

    def delete(self, box: str) -> None:
        self.machine.remove(self._box(box))

    def stranger(self, name: str) -> str:
        return self.machine.make(name, {MANAGED: "true", SESSION: "theirs"}).id

    @contextmanager
    def away(self) -> Iterator[None]:
        self.machine.away = True
        yield
        self.machine.away = False


class DockerBackstage:
    """A real engine, behind a door of this bench."""

    def __init__(self, engine: docker.DockerClient, image: str, hub: str, door: EngineDoor) -> None:
        self.api, self.hub, self.door = engine.api, hub, door
        self.image = self.api.inspect_image(image)["Id"]

    def kill(self, box: str) -> None:
        self.api.kill(box)
        self._ended(box)

    def exhaust(self, launched: Launched) -> None:
        self._ended(launched.box)  # that is what it was started for: see `EATS`

    def _ended(self, box: str) -> None:
        self.api.wait(box, timeout=60)

    def delete(self, box: str) -> None:
        self.api.remove_container(box, force=True, v=True)

    def stranger(self, name: str) -> str:
        labels = {"ds01.hub": self.hub, MANAGED: "true", SESSION: "theirs"}
        made = self.api.create_container(self.image, list(FOREVER), name=name, labels=labels)
        return str(made["Id"])

    @contextmanager
    def away(self) -> Iterator[None]:
        self.door.turn("refuse")
        yield
        self.door.turn("pass")

    def clear(self) -> None:
        for left in self.api.containers(all=True, filters={"label": f"ds01.hub={self.hub}"}):
            with suppress(NotFound, APIError):
                self.api.remove_container(left["Id"], force=True, v=True)


def make_settings(folder: Path, engine: str, hub: str, **more: Any) -> Settings:
    """A site's folders, policy and devices."""
    for name in ("state", "workspaces"):
        (folder / name).mkdir()
    (folder / "gpus.yaml").write_text(GPUS % uuid.uuid4())  # others may use a real engine too
    (folder / "policy.yaml").write_text(POLICY)
    installation.make(folder / "state")
    return Settings(
        engine=engine,
        state_dir=folder / "state",
        workspace_root=folder / "workspaces",
        policy=folder / "policy.yaml",
        devices="simulated",
        inventory=folder / "gpus.yaml",
        hub_id=hub,
        isolation_probe=False,
        allow_open_network=True,
        **more,
    )

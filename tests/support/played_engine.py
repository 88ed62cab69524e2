"""A container engine in memory: containers of sessions, and every way in which it can fail to remove one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import docker.errors
import requests

from ds01spawner.core.errors import EngineError
from ds01spawner.core.installation import Installation
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.client import DockerEngine, KeyedExecutor
from support.ours import INSTALLATION, signed


def api_error(status: int, text: str = "it failed") -> docker.errors.APIError:
    """What docker-py raises for an answer with that status."""
    response = requests.Response()
    response.status_code = status
    kind = docker.errors.NotFound if status == 404 else docker.errors.APIError
    return kind(text, response=response, explanation=text)


class PlayedEvents(list[Any]):
    """A stream of events that has ended."""

    def close(self) -> None:
        """Nothing to close."""


class PlayedEngine:
    """The client, and the part of `DockerEngine` around it. ``fails[method]`` is raised, or called first."""

    def __init__(self, installation: Installation = INSTALLATION) -> None:
        self.installation = installation
        self.executor = KeyedExecutor(claim=1, mutate=2, stop=4, read=2, pull=1)
        self.containers: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []
        self.fails: dict[str, Any] = {}
        self.stays = False
        """A removal is answered well, and the container stays."""
        self.down = False
        self.ends_at = ""
        """What the engine's own clock says when it stops a container; it has none where empty."""

    def add(
        self,
        labels: SessionLabels,
        state: str = "running",
        name: str = "",
        by: Installation | None = None,
    ) -> str:
        """A container of a session; its id."""
        ident = f"c-{labels.session}"
        name = name or ident
        self.containers[ident] = {
            "Id": ident,
            "Name": f"/{name}",
            "Config": {"Labels": signed(labels, name, by or self.installation), "Env": []},
            "State": {"Running": state == "running", "Status": state, "ExitCode": 0},
        }
        return ident

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if self.down:
            raise requests.ConnectionError("connection refused")
        failure = self.fails.get(method)
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            failure()

    def _find(self, name: str) -> dict[str, Any]:
        for found in self.containers.values():
            if name in (found["Id"], found["Name"].lstrip("/")):
                return found
        raise api_error(404)

    def ping(self) -> bool:
        """It answers."""
        self._called("ping")
        return True

    def info(self) -> dict[str, Any]:
        """What it says about itself."""
        self._called("info")
        return {"ServerVersion": "28.0", "NCPU": 4, "CgroupVersion": "2", "CgroupDriver": "systemd"}

    def inspect_container(self, name: str) -> dict[str, Any]:
        """By id or name."""
        self._called("inspect_container")
        return self._find(name)

    def events(self, **_: Any) -> PlayedEvents:
        """It remembers none."""
        self._called("events")
        return PlayedEvents()

    def inspect_network(self, name: str) -> dict[str, Any]:
        """When the engine started, by its bridge."""
        return {"Created": "2026-01-01T00:00:00.000000000Z"}

    def stop(self, name: str, timeout: int = 10) -> None:
        """Ask to end."""
        self._called("stop")
        state = {"Running": False, "Status": "exited", "ExitCode": 0}
        self._find(name)["State"] = state | ({"FinishedAt": self.ends_at} if self.ends_at else {})

    def logs(self, name: str, **_: Any) -> bytes:
        """What it printed."""
        self._called("logs")
        self._find(name)
        return b"its last line\n"

    def remove_container(self, name: str, **_: Any) -> None:
        """Remove it."""
        found = self._find(name)
        self._called("remove_container")
        if not self.stays:
            del self.containers[found["Id"]]

    # --- as `DockerEngine` -----------------------------------------------------------------------

    @property
    def client(self) -> PlayedEngine:
        """The calling thread's client."""
        return self

    @property
    def quick(self) -> PlayedEngine:
        """The client that does not wait long."""
        return self

    def answers(self) -> PlayedEngine:
        """The client, where the engine answers."""
        try:
            self.ping()
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EngineError(f"the container engine does not answer: {error}") from error
        return self

    async def ready(self) -> None:
        """It needs no preparation."""

    def call(self, method: str, *args: Any, key: str | None = None, **kwargs: Any) -> asyncio.Future[Any]:
        """One call, in a thread."""
        return self.run(lambda client: getattr(client, method)(*args, **kwargs))

    def run(self, work: Callable[[Any], Any], **_: Any) -> asyncio.Future[Any]:
        """Work with a client, in a thread."""
        return asyncio.ensure_future(asyncio.to_thread(work, self))


def log_tail(client: PlayedEngine, container: str, *_: Any, **__: Any) -> bytes:
    """In place of `bounded.log_tail`, which reads the answer's stream."""
    return client.logs(container)


assert {"answers", "call", "client", "ready", "run"} <= set(dir(DockerEngine))

"""`DS01Spawner`: the spawner for Docker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dockerspawner import DockerSpawner
from traitlets import default

from ..core.names import dns_label
from ..core.settings import DEFAULT_IMAGE
from ..engines.docker.create import WORKSPACE
from ..engines.docker.engine import docker_of
from ..engines.docker.server import DockerServer, SpawnerCalls
from .server import Address, OnEngine
from .session_spawner import SessionSpawner


class DS01Spawner(SessionSpawner, DockerSpawner):  # type: ignore[misc]
    """Starts each server as a session on Docker: a claim, a container and a workspace mount.

    Of DockerSpawner it uses what its settings say a container should be, and where a container answers.
    """

    _configured_image = DEFAULT_IMAGE

    @default("image")
    def _default_image(self) -> str:
        return DEFAULT_IMAGE

    @property
    def configured_image(self) -> str:
        """The image of a site without a catalogue; ``image`` itself becomes an id at the start."""
        if not self.image.startswith("sha256:"):
            self._configured_image = self.image
        return self._configured_image

    @default("cmd")
    def _default_cmd(self) -> list[str]:
        return ["jupyterhub-singleuser"]

    @default("notebook_dir")
    def _default_notebook_dir(self) -> str:
        return WORKSPACE

    @default("default_url")
    def _default_default_url(self) -> str:
        return "/lab"

    @default("http_timeout")
    def _default_http_timeout(self) -> int:
        return 120  # at a hub restart a busy session must not be taken for dead

    @default("object_name")
    def _object_name_default(self) -> str:
        parts = [self.prefix, self.user.name] + ([self.name] if self.name else [])
        return dns_label(*parts)

    @default("prefix")
    def _default_prefix(self) -> str:
        # Two hubs on one engine must not want the same names.
        return "ds01" if self.hub_id == "hub" else f"ds01-{self.hub_id}"

    @property
    def on_engine(self) -> OnEngine:
        """This server's container on the engine."""
        return DockerServer(self.site, self.object_name)

    @property
    def client(self) -> Any:
        """The calling thread's client; its API version is known before the first use on the loop."""
        return docker_of(self.site.engine).client

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """DockerSpawner's own calls of the engine; they make and end nothing (`SpawnerCalls`)."""
        return getattr(SpawnerCalls(docker_of(self.site.engine).clients, self.object_name), method)(
            *args, **kwargs
        )

    async def native(self) -> Mapping[str, Any]:
        """The arguments of the container that DockerSpawner would create by its settings."""
        wanted: Mapping[str, Any] = await self.create_object()
        return wanted

    async def came_up(self) -> Address:
        """Where the session answers, after the command that the site runs in it first."""
        if self.post_start_cmd:
            await self.post_start_exec()
        ip, port = await self.get_ip_and_port()
        return ip, port

    async def get_url(self) -> str:
        """Where it answers. The hub asks after a restart: a start that it did not see to the end left no
        address in its database, and the session would be shut down for not answering at another one."""
        known = str(self.server.url)
        try:
            ip, port = await self.get_ip_and_port()
        except Exception as error:  # whatever it was, the hub goes by what it knew
            ip, port, why = "", 0, str(error)
        else:
            why = "its container has no address"
        if not ip:
            self.log.warning("The address of %s is not known, so it stays %s: %s", self._log_name, known, why)
            return known
        host = f"[{ip}]" if ":" in ip else ip
        return f"{'https' if self.internal_ssl else 'http'}://{host}:{port}{self.server.base_url}"

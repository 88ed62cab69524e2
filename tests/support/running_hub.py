"""A real JupyterHub with proxy in a process of its own, as a site runs it, for tests to use and to kill."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from ds01spawner.demo import ACCOUNTS

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "ds01-test"
PASSWORD = "a password of the tests"
HUB_PYTHON = os.environ.get("DS01_TEST_HUB_PYTHON") or sys.executable
"""The Python whose JupyterHub is tested; it has this package too. ``make test-hub5`` names an older one."""
READY_S = 200
"""How long a start may take on a machine that does much else."""
UNREAD = "in use by something this service did not start"

CONFIG = """
import os
from ds01spawner import configure
from ds01spawner.demo import DemoAuthenticator
import docker
from ds01spawner.engines.docker.network import ensure_network

c = get_config()
state = {state!r}
network = ensure_network(docker.from_env(version="auto").api, {network!r}, "test-network")
c.JupyterHub.bind_url = "http://127.0.0.1:{port}{base_url}"
c.JupyterHub.hub_ip = network.gateway
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.auth_token = {proxy_token!r}
c.ConfigurableHTTPProxy.pid_file = state + "/proxy.pid"
c.JupyterHub.db_url = "sqlite:///" + state + "/hub.sqlite"
c.JupyterHub.cookie_secret_file = state + "/cookie_secret"
c.JupyterHub.authenticator_class = DemoAuthenticator
c.DemoAuthenticator.password = {password!r}
c.Authenticator.allowed_users = {users!r}
c.Authenticator.admin_users = {{"admin"}}
c.JupyterHub.load_groups = {{"students": {{"users": {students!r}}}}}
c.JupyterHub.concurrent_spawn_limit = 100
c.JupyterHub.named_server_limit_per_user = 20
c.JupyterHub.services = [{{"name": "tests", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [{{"name": "tests", "services": ["tests"], "scopes": [
    "admin:users", "admin:servers", "admin:server_state", "access:servers", "access:services", "admin:groups",
    "read:hub", "list:users", "read:metrics", "read:users:activity", "users:activity"]}}]
c.DockerSpawner.network_name = network.name
c.DockerSpawner.pull_policy = "never"
c.DS01Spawner.image = {image!r}
c.DS01Spawner.state_dir = state
c.DS01Spawner.workspace_root = {workspaces!r}
c.DS01Spawner.hub_id = {hub_id!r}
c.DS01Spawner.prefix = {hub_id!r}
c.DS01Spawner.devices = "simulated"
c.DS01Spawner.inventory_file = state + "/gpus.yaml"
c.DS01Spawner.policy_file = state + "/policy.yaml"
c.DS01Spawner.isolation_probe = False  # tests count a hub's containers
{extra}
configure(c{arguments})
{after}
"""

GPUS = """
version: 1
cards:
  - uuid: GPU-{uuid}
    name: Simulated A100
    memory: 80g
    mig: [3g.40gb, 1g.10gb, 1g.10gb]
"""

POLICY = """
version: 1
defaults:
  gpu: {max_equivalents: 0.5, full_gpu: false}
  session: {max: 3, cpus: 1, memory: 1g, shm: 128m, pids: 512, lifetime: 12h}
  storage: {minimum_free: {workspace: 50m, host: 50m, engine: 50m}}
groups:
  students:
    gpu: {profiles: [1g.10gb], max_equivalents: 0.3}
"""


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RunningHub:
    """See the module's text. ``extra`` is configuration before ``configure(c)``, ``after`` after it."""

    def __init__(
        self,
        folder: Path,
        hub_id: str,
        image: str,
        *,
        extra: str = "",
        after: str = "",
        arguments: str = ", service=False, idle=False",
        policy: str = POLICY,
        gpus: str = GPUS,
        base_url: str = "/",
        users: set[str] | None = None,
        hub: str = HUB_PYTHON,
        network: str = NETWORK,
    ) -> None:
        self.state = folder / "state"
        self.workspaces = folder / "workspaces"
        for path in (self.state, self.workspaces):
            path.mkdir(parents=True, exist_ok=True)
        self.hub_id, self.base_url, self._python = hub_id, base_url, hub
        self.port, self.token = free_port(), secrets.token_hex(16)
        # Unique UUIDs: other tests may use this engine at the same time.
        (self.state / "gpus.yaml").write_text(gpus.replace("{uuid}", str(uuid.uuid4())))
        (self.state / "policy.yaml").write_text(policy)
        self._hub_port = free_port()
        self.proxy_port, self.proxy_token = free_port(), secrets.token_hex(16)
        self.service_port = free_port()
        self.env: dict[str, str] = {}
        """Added to the environment of the hub, not to that of its services."""
        self._config = folder / "jupyterhub_config.py"
        self._config.write_text(
            CONFIG.format(
                state=str(self.state),
                workspaces=str(self.workspaces),
                network=network,
                port=self.port,
                hub_port=self._hub_port,
                proxy_port=self.proxy_port,
                proxy_token=self.proxy_token,
                password=PASSWORD,
                users=set(ACCOUNTS) | (users or set()),
                students=sorted({"alice", "bob"} | (users or set())),
                token=self.token,
                image=image,
                hub_id=hub_id,
                extra=extra,
                after=after,
                base_url=base_url,
                arguments=arguments,
            )
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / "hub.log"
        self.http = httpx.Client(
            base_url=f"{self.url}hub/api",
            headers={"Authorization": f"token {self.token}"},
            timeout=120,
        )

    def move(self) -> None:
        """Give the hub another inner port; counts from its next start."""
        port = free_port()
        text = self._config.read_text()
        self._config.write_text(text.replace(f"hub_port = {self._hub_port}\n", f"hub_port = {port}\n"))
        self._hub_port = port

    @property
    def url(self) -> str:
        """Public address, with a trailing slash."""
        return f"http://127.0.0.1:{self.port}{self.base_url}"

    def start(self) -> RunningHub:
        """Start and wait until the API answers."""
        self.begin()
        self.wait_for(self._answers, 60, "the hub to answer")
        return self

    def begin(self) -> None:
        """Start the process, and do not wait."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DS01_", "JUPYTERHUB_"))}
        env |= {"DS01_SERVICE_PORT": str(self.service_port), **self.env}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self._python, "-m", "jupyterhub", "-f", str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=self.state,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the hub ended with {self.process.returncode}:\n{self.tail()}")
        try:
            return self.http.get("/").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """End the hub process alone at once, as a crash does; the proxy lives on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """Shut the hub and its proxy down in good order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
        pid_file = self.state / "proxy.pid"
        if pid_file.exists():
            with suppress(ProcessLookupError, ValueError, IndexError):
                os.kill(int(pid_file.read_text().split()[0]), signal.SIGKILL)

    def tail(self, lines: int = 80) -> str:
        """The end of the hub's log, without our own polling."""
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([t for t in text if " 200 GET " not in t][-lines:])

    # --- the API ----------------------------------------------------------------------------------

    def server_path(self, user: str, server: str = "") -> str:
        """API path of a user's server."""
        return f"/users/{user}/servers/{server}" if server else f"/users/{user}/server"

    def launch(self, user: str, options: Any = None, server: str = "") -> httpx.Response:
        """POST a start; returns when it is ready, pending or refused."""
        body: Any = {"user_options": options} if options is not None else {}
        if options is not None and self.version < 6:
            body = options  # hub 5 takes the body itself for the options
        return self.http.post(self.server_path(user, server), json=body)

    @cached_property
    def version(self) -> int:
        """The hub's major version."""
        return int(self.http.get("/").json()["version"].split(".")[0])

    def start_session(self, user: str, options: Any = None, server: str = "") -> dict[str, Any]:
        """Start a session and wait until it is ready; returns the server's model.

        Once more where a container of someone else could not be read: it may hold every device, so the hub
        is right to refuse, and on an engine that others use too such a moment passes.
        """
        deadline = time.monotonic() + READY_S
        while True:
            told = len(self.log.read_text(errors="replace"))
            answer = self.launch(user, options, server)
            assert answer.status_code in (201, 202), f"{answer.status_code}: {answer.text}\n{self.tail()}"
            while (model := self.server(user, server)).get("pending"):
                assert time.monotonic() < deadline, f"{user}/{server} is not ready\n{self.tail()}"
                time.sleep(0.1)
            if model.get("ready"):
                return model
            said = self.log.read_text(errors="replace")[told:]
            assert UNREAD in said, f"{user}/{server} failed\n{self.tail()}"
            assert time.monotonic() < deadline, f"{user}/{server} failed again and again\n{self.tail()}"

    def wait_ready(self, user: str, server: str = "", patience: float = READY_S) -> dict[str, Any]:
        """Wait until a server is ready."""
        try:
            self.wait_for(
                lambda: self.server(user, server).get("ready"), patience, f"{user}/{server} to be ready"
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None
        return self.server(user, server)

    def settle(self, user: str, server: str = "") -> None:
        """Wait until nothing is pending for a server, as after a restart: up to the hub's http_timeout."""
        self.wait_for(lambda: not self.server(user, server).get("pending"), 170, f"{user} to settle")

    def server(self, user: str, server: str = "") -> dict[str, Any]:
        """A server's model, or an empty one."""
        return dict(self.user(user)["servers"].get(server, {}))

    def user(self, name: str) -> dict[str, Any]:
        """A user's model."""
        answer = self.http.get(f"/users/{name}", params={"include_stopped_servers": "1"})
        answer.raise_for_status()
        return dict(answer.json())

    def retire(self, user: str, server: str = "") -> None:
        """DELETE a server and wait until the hub says it is stopped."""
        answer = self.http.delete(self.server_path(user, server))
        assert answer.status_code in (202, 204), f"{answer.status_code}: {answer.text}\n{self.tail()}"
        self.wait_for(
            lambda: (
                not self.server(user, server).get("ready") and not self.server(user, server).get("pending")
            ),
            150,
            f"{user}/{server} to be retired",
        )

    def progress(self, user: str, server: str = "") -> list[dict[str, Any]]:
        """All progress events of a start, as one browser sees them, until the start is over."""
        path = f"{self.server_path(user, server)}/progress"
        events = []
        with self.http.stream("GET", path) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    events.append(json.loads(line[5:]))
        return events

    @staticmethod
    def wait_for(condition: Callable[[], Any], patience: float, what: str) -> None:
        """Poll until a condition holds; AssertionError with ``what`` when it does not."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, f"waited {patience:g} s for {what}"
            time.sleep(0.1)


@contextmanager
def running_hub(folder: Path, hub_id: str, image: str, **options: Any) -> Iterator[RunningHub]:
    """A hub for the block; its log is printed when the block fails."""
    hub = RunningHub(folder, hub_id, image, **options)
    try:
        yield hub.start()
    except BaseException:
        print(hub.tail(150), file=sys.stderr)
        raise
    finally:
        hub.stop()

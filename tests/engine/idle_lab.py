"""Real sessions for the idle tests: JupyterLab in containers with our labels, driven like a person would."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from support.ours import installation_of, signed
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from ds01spawner.core.errors import Refusal
from ds01spawner.core.hub_client import HubServer
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.engine_reader import EngineReader
from ds01spawner.gpu.reading import GpuReading
from ds01spawner.idle.case import Parts, Settled
from ds01spawner.idle.idle_store import Facts
from ds01spawner.idle.lab import LabClient
from ds01spawner.idle.model import IdleRules
from ds01spawner.idle.observe import Observer, Sensors
from ds01spawner.idle.procs import HostSampler
from ds01spawner.idle.service import IdleService
from ds01spawner.idle.state import IdleFiles
from ds01spawner.notify.channels import FileChannel, Notifier
from ds01spawner.placement.devices import Inventory
from ds01spawner.workspace.session_files import ProjectFolder

TOKEN = "a-token-for-tests"
UID = 12345
PORT = 8888


@dataclass
class Lab:
    """A running session and its owner's hands."""

    user: str
    container: Any
    labels: SessionLabels
    folder: Path

    @property
    def address(self) -> str:
        networks = self.container.attrs["NetworkSettings"]["Networks"]
        return next(n["IPAddress"] for n in networks.values())

    @property
    def base(self) -> str:
        return f"http://{self.address}:{PORT}/user/{self.user}"

    def api(self, path: str, method: str = "GET", data: Any = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = Request(f"{self.base}{path}", body, {"Authorization": f"token {TOKEN}"}, method=method)
        with urlopen(request, timeout=20) as response:
            return json.loads(response.read() or b"null")

    def wait_up(self) -> Lab:
        for _ in range(600):
            try:
                self.api("/api/status")
                return self
            except OSError:
                time.sleep(0.2)
        raise AssertionError("the server did not come up")

    def notebook(self, name: str = "train.ipynb") -> str:
        """Open a notebook: a session with a kernel. Returns the kernel's id."""
        made = self.api(
            "/api/sessions",
            "POST",
            {"path": name, "name": name, "type": "notebook", "kernel": {"name": "python3"}},
        )
        return made["kernel"]["id"]

    async def execute(self, kernel: str, code: str, wait: bool = True) -> None:
        """Run a cell, and go away without waiting for its end unless told to."""
        socket = await self._socket(f"/api/kernels/{kernel}/channels")
        header = {
            "msg_id": uuid.uuid4().hex,
            "username": "x",
            "session": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        await socket.write_message(json.dumps({**message, "channel": "shell", "buffers": []}))
        while True:
            answer = json.loads(await socket.read_message())
            mine = answer.get("parent_header", {}).get("msg_id") == header["msg_id"]
            state = answer.get("content", {}).get("execution_state")
            if mine and state == ("idle" if wait else "busy"):
                break
        socket.close()

    async def type(self, text: str) -> None:
        """Type a line into a new terminal, and close the page."""
        name = self.api("/api/terminals", "POST", {})["name"]
        socket = await self._socket(f"/terminals/websocket/{name}")
        for _ in range(2):
            await socket.read_message()
        await socket.write_message(json.dumps(["stdin", text + "\r"]))
        await socket.read_message()
        socket.close()

    async def _socket(self, path: str) -> Any:
        url = f"ws://{self.address}:{PORT}/user/{self.user}{path}"
        return await websocket_connect(HTTPRequest(url, headers={"Authorization": f"token {TOKEN}"}))


def start_lab(client: Any, image: str, hub: str, root: Path, user: str, **labels: Any) -> Lab:
    """Start JupyterLab as ``user`` with a project folder; `Lab.wait_up` waits until it answers."""
    folder = root / user / "p"
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        path.chmod(0o755)
        _chown(path)
    told = SessionLabels(
        user=user,
        server="",
        project="p",
        hub=hub,
        session=uuid.uuid4().hex,
        created_at=datetime.now(timezone.utc).isoformat(),
        **labels,
    )
    command = (
        f"exec /opt/ds01/bin/jupyter-lab --ip=0.0.0.0 --port={PORT} "
        f"--no-browser --IdentityProvider.token={TOKEN} --ServerApp.base_url=/user/{user}/ "
        "--ServerApp.root_dir=/workspace"
    )
    container = client.containers.run(
        image,
        ["sh", "-c", command],
        name=f"ds01-idletest-{told.session[:12]}",
        labels=signed(told, f"ds01-idletest-{told.session[:12]}", by=installation_of(hub)),
        user=f"{UID}:{UID}",
        environment={"HOME": "/tmp", "NVIDIA_VISIBLE_DEVICES": "void"},
        volumes={str(folder): {"bind": "/workspace", "mode": "rw"}},
        working_dir="/workspace",
        detach=True,
    )
    container.reload()
    return Lab(user, container, told, folder)


def start_bare(client: Any, image: str, hub: str, root: Path, user: str, **labels: Any) -> Lab:
    """A small session that is not Jupyter: a web server that knows no page."""
    (root / user / "p").mkdir(parents=True)
    told = SessionLabels(
        user=user,
        server="",
        project="p",
        hub=hub,
        session=uuid.uuid4().hex,
        created_at=datetime.now(timezone.utc).isoformat(),
        **labels,
    )
    container = client.containers.run(
        image,
        ["httpd", "-f", "-p", str(PORT)],
        name=f"ds01-idletest-{told.session[:12]}",
        labels=signed(told, f"ds01-idletest-{told.session[:12]}", by=installation_of(hub)),
        detach=True,
        init=True,
    )
    return Lab(user, container, told, root / user / "p")


def _chown(path: Path) -> None:
    os.chown(path, UID, UID)


class FakeHub:
    """A hub that thinks everybody's page is open: its activity is always now, except for ``away``."""

    def __init__(self, labs: list[Lab], away: tuple[str, ...] = ()) -> None:
        self.labs = {lab.user: lab for lab in labs}
        self.away = dict.fromkeys(away, datetime.now(timezone.utc) - timedelta(hours=1))
        self.stopped: dict[str, datetime] = {}

    def _server(self, user: str) -> HubServer:
        seen = self.away.get(user, datetime.now(timezone.utc))
        return HubServer(user, "", f"/user/{user}/", last_activity=seen, ready=True)

    async def servers(self) -> dict:
        return {(u, ""): self._server(u) for u in self.labs if u not in self.stopped}

    async def server(self, user: str, name: str) -> HubServer | None:
        return None if user in self.stopped else self._server(user)

    async def stop(self, user: str, server: str, remove: bool = False) -> str:
        await asyncio.to_thread(self._remove, user)
        self.stopped[user] = datetime.now(timezone.utc)
        return "stopped"

    def _remove(self, user: str) -> None:
        """Stop and remove, as the spawner does."""
        self.labs[user].container.stop(timeout=5)
        self.labs[user].container.remove(force=True)


class NoIntents:
    """Decisions that are carried out at once by the stand-in hub, so that none is kept."""

    def open(self) -> dict:
        return {}

    def ask(self, running: Any, decision: Any, now: datetime) -> None:
        pass

    def end(self, running: Any, decision: Any, now: datetime) -> bool:
        raise AssertionError("every session is the hub's")

    def go_on(self, now: datetime) -> None:
        pass


class NoBook:
    """No extensions, no maintenance; keeps the reasons."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.warned_at: dict[str, datetime] = {}

    def facts(self, sessions: Any, now: datetime) -> Facts:
        return Facts()

    def keep_alive(self, *args: Any, **kwargs: Any) -> Refusal:
        raise AssertionError("nobody asked")

    def retiring(self, session: Any, decision: Any, now: datetime) -> None:
        self.reasons[session.user] = decision.reason

    def over(self, sessions: Any, now: datetime) -> None:
        pass

    def warned(self, session: Any, decision: Any, now: datetime) -> None:
        self.warned_at.setdefault(session.user, now)


def no_gpu() -> GpuReading:
    return GpuReading(Inventory(mode="none"))


def make_service(
    connect: Callable[[], Any],
    hub_id: str,
    hub: FakeHub,
    root: Path,
    rules: IdleRules,
    poll: float,
    window: float,
    gpu: Callable[[], GpuReading] = no_gpu,
    host: Any = None,
) -> IdleService:
    """The real service and sensors around a stand-in hub and store."""
    engine = EngineReader(connect, lambda: installation_of(hub_id))

    def folder(user: str, project: str) -> ProjectFolder:
        return ProjectFolder(root, user, project)

    sensors = Sensors(host or HostSampler(), engine, LabClient(TOKEN), gpu, folder, PORT)
    parts = Parts(
        hub=hub,
        observer=Observer(sensors, window),
        running=engine.running,
        rules=lambda server, now: rules,
        book=NoBook(),
        notifier=Notifier([FileChannel(folder)]),
        files=IdleFiles(root),
        clock=lambda: datetime.now(timezone.utc),
        retirements=NoIntents(),
    )
    return IdleService(parts, Settled(poll=poll))

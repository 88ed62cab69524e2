"""The site under test: engine, gate, hub with its services, driver; kept up as a service manager would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
from fakes.nvml import A100, Machine, build, slice_uuid
from support.running_hub import RunningHub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi

from .clock import Clock
from .engine import IMAGE, Engine
from .gate import Gate
from .log import Log
from .plan import USERS
from .session import SCRIPT

CARDS, SLICES = 2, 7
DEVICES = CARDS * SLICES
RESTART_S = 1.0
"""Seconds after which a service manager starts a hub again."""
MODULES = {"service": "ds01spawner.service", "idle": "ds01spawner.idle", "proxy": "configurable-http-proxy"}
POLICY = """
version: 1
defaults:
  gpu: {max_equivalents: 1.0, profiles: [1g.10gb]}
  session: {max: 3, cpus: 0.5, memory: 24m, shm: 16m, pids: 64, lifetime: 12h}
  storage: {minimum_free: {workspace: 1m, host: 1m, engine: 1m}}
"""
NAMES = tuple(f"u{n:02d}" for n in range(USERS))
EXTRA = f"""
from ds01spawner import demo
demo.ACCOUNTS.update(dict.fromkeys({NAMES!r}, "student"))
c.DS01Spawner.cmd = ["sh", "-c", {SCRIPT!r}]
c.DS01Spawner.retire_grace = 1
c.DS01Spawner.devices = "nvml"
c.DS01Spawner.attach = "simulated"
c.DS01Spawner.poll_interval = 5
c.DS01Spawner.start_timeout = 60
"""
AFTER = """
for s in c.JupyterHub.services:
    s.setdefault("environment", {{}}).update({seen!r})
"""
SIZES = {"engine": "1500m", "hub/state": "128m", "hub/workspaces": "64m"}
"""File systems of their own, small enough to be filled."""


class Stage:
    """Everything that the campaign runs. Inside its namespaces only."""

    def __init__(self, folder: Path, log: Log) -> None:
        self.folder, self.log = folder, log
        for name, size in SIZES.items():
            (folder / name).mkdir(parents=True)
            options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder / name)]
            subprocess.run(["mount", *options], check=True)
        self.engine = Engine(folder / "engine")
        self.machine = Machine(folder / "inventory")
        self.users = list(NAMES)
        self.generation = 0
        self.lost: set[int] = set()
        self.api: dict[str, ServiceApi] = {}
        self.ending = False
        self.hub_ended_at = 0.0
        self.card_faulted_at = 0.0

    def set_up(self) -> None:
        """Engine, image, driver, gate, hub; tokens for everybody."""
        self.engine.start().make_image()
        self.gate = Gate(self.folder / "gate", self.engine.socket)
        self.draw()
        library = build(self.folder)
        self.clock = Clock(self.folder)
        every = self.machine.env(library)
        seen = {k: every[k] for k in ("LD_LIBRARY_PATH", "FAKE_NVML_INVENTORY")}
        seen["LD_LIBRARY_PATH"] = str(library)
        seen |= self.clock.env
        os.environ["DOCKER_HOST"] = f"unix://{self.gate.path}"
        self.hub = RunningHub(
            self.folder / "hub",
            "faults",
            IMAGE,
            extra=MAY_MAKE_TOKENS + EXTRA,
            after=AFTER.format(seen=seen),
            arguments=', idle_arguments=("--poll", "5", "--window", "5")',
            policy=POLICY,
            users=set(self.users),
        )
        self.hub.env |= seen
        self.hub.start()
        threading.Thread(target=self._supervise, name="supervisor", daemon=True).start()
        for user in [*self.users, "admin"]:
            self.api[user] = ServiceApi(self.hub, user)

    def _supervise(self) -> None:
        """Start the hub again whenever it ends; its other processes are its own business."""
        while True:
            assert self.hub.process is not None
            status = self.hub.process.wait()
            self.hub_ended_at = time.time()
            if self.ending:
                return
            self.log.say("hub ended", status=status)
            time.sleep(RESTART_S)
            self.hub.begin()

    def draw(self, slow: bool = False) -> None:
        """Write what the driver shows now."""
        self.machine.clear()
        for card in range(CARDS):
            keys = {"lost": 2} if card in self.lost else {}
            self.machine.gpu(card, A100, mig=1, **keys)
            self.machine.slices(card, *(["1g.10gb"] * SLICES), generation=self.generation if card else 0)
        if slow:
            self.machine.line("slow * 60000")
        self.machine.write()

    def devices(self) -> set[str]:
        """The slices that there are now."""
        return {slice_uuid(n, i, self.generation if n else 0) for n in range(CARDS) for i in range(SLICES)}

    # --- processes ----------------------------------------------------------------------------------

    def pids(self, name: str) -> list[int]:
        """Processes of a part, by what they run; the namespace holds none but ours."""
        if name == "hub":
            return [self.hub.process.pid] if self.hub.process and self.hub.process.poll() is None else []
        if name == "engine":
            return [self.engine.process.pid] if self.engine.process else []
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
                if any(MODULES[name].encode() in word for word in words[:3]):
                    found.append(int(entry.name))
        return found

    def signal(self, name: str, number: signal.Signals) -> list[int]:
        """Send a signal to every process of a part; returns which."""
        pids = self.pids(name)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    # --- looks --------------------------------------------------------------------------------------

    def hub_answers(self) -> bool:
        """Whether the hub's API answers through its proxy."""
        try:
            return httpx.get(f"{self.hub.url}hub/api/", timeout=3).status_code == 200
        except httpx.HTTPError:
            return False

    def service_answers(self) -> bool:
        """Whether the service answers through the proxy."""
        try:
            address = f"{self.hub.url}services/ds01/api/availability"
            headers = self.api["admin"].http.headers
            return httpx.get(address, headers=headers, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """End everything in good order; the namespace ends the rest."""
        self.ending = True
        with suppress(Exception):
            self.hub.stop()
        with suppress(Exception):
            for container in self.engine.client().containers.list(all=True):
                container.remove(force=True)
        with suppress(Exception):
            self.engine.kill()

    def keep(self, folder: Path) -> None:
        """Keep what explains a failure."""
        for name in ("hub/hub.log", "dockerd.log"):
            with suppress(OSError):
                shutil.copy(self.folder / name, folder / Path(name).name)
        for path in (self.hub.state).glob("ds01.sqlite*"):
            with suppress(OSError):
                shutil.copy(path, folder / path.name)

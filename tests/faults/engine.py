"""A Docker engine of the campaign's own, to be killed, stopped and filled up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import docker
import requests
from docker.errors import DockerException
from fakes.engine import own_dockerd

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "ds01/test-busybox:latest"
START_S = 60
ERRORS = (DockerException, requests.RequestException, OSError)


class Engine:
    """``client`` talks to it directly, past what the product is made to see."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "sock"
        self.process: subprocess.Popen[bytes] | None = None
        self.up = True
        """Whether no fault keeps it down."""
        self._config = folder / "daemon.json"
        self._settings = {
            "data-root": str(folder / "data"),
            "exec-root": str(folder / "exec"),
            "pidfile": str(folder / "pid"),
            "hosts": [f"unix://{self.socket}"],
            "live-restore": True,
            "userland-proxy": False,
            "ip6tables": False,
            "shutdown-timeout": 3,
        }

    def start(self) -> Engine:
        """Start it and wait until it answers."""
        self._config.write_text(json.dumps(self._settings))
        with suppress(OSError):
            (self.folder / "pid").unlink()
        with (self.folder.parent / "dockerd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(own_dockerd()), "--config-file", str(self._config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not self.answers():
            assert time.monotonic() < deadline, "the campaign's engine did not start: see dockerd.log"
            time.sleep(0.1)
        return self

    def client(self, timeout: float = 20) -> docker.DockerClient:
        """A client of the caller's own."""
        return docker.DockerClient(f"unix://{self.socket}", version="1.41", timeout=timeout)

    def answers(self) -> bool:
        """Whether it answers now."""
        try:
            client = self.client(timeout=3)
            client.ping()
            client.close()
        except ERRORS:
            return False
        return True

    def keep_containers(self, keep: bool) -> None:
        """Whether containers outlive the next end of the engine (its live-restore)."""
        self._settings["live-restore"] = keep
        self._config.write_text(json.dumps(self._settings))
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def make_image(self) -> None:
        """Put the image of the sessions on it."""
        env = {**os.environ, "DOCKER_HOST": f"unix://{self.socket}"}
        script = [sys.executable, str(ROOT / "scripts" / "build_images.py"), "busybox"]
        subprocess.run(script, env=env, check=True)

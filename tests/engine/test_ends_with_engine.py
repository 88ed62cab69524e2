"""Sessions that end because their engine does: told as that, and not as a crash of theirs."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import docker
import pytest
from fakes.engine import own_dockerd

from ds01spawner.engines.docker import endings
from ds01spawner.engines.docker.connections import connect
from ds01spawner.engines.ends import explain

READY_S = 90


class OwnEngine:
    """A dockerd in a network namespace of its own, which may be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.folder / 'sock'}"

    def start(self) -> docker.DockerClient:
        names = ("data-root", "exec-root", "pidfile")
        roots = [f"--{name}={self.folder / name.split('-')[0]}" for name in names]
        flags = ["--iptables=false", "--ip6tables=false", f"--host={self.address}"]
        with (self.folder / "log").open("ab") as log:
            command = ["unshare", "--net", str(own_dockerd()), *roots, *flags]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            try:
                client = docker.DockerClient(self.address, version="auto", timeout=60)
                client.ping()
                return client
            except (docker.errors.DockerException, OSError):
                time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text()[-3000:])

    def end(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end()
        subprocess.run(["umount", "-l", *map(str, self.folder.glob("exec/netns/*"))], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def own(engine, busybox_image):
    made = OwnEngine(Path(tempfile.mkdtemp(prefix="ds01r")))
    client = made.start()
    client.images.load(b"".join(engine.images.get(busybox_image).save(named=True)))
    yield made, client
    made.close()


def test_what_ends_with_the_engine_is_told_so(own, busybox_image):
    made, client = own

    def run(*command):
        return client.containers.run(busybox_image, [*command], detach=True, network_mode="none", init=False)

    session, polite, crashed = (
        run("sleep", "600"),
        run("sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"),
        run("sh", "-c", "exit 7"),
    )
    crashed.wait(timeout=60)
    made.end()
    client = made.start()
    api = connect(base_url=made.address)

    def told(container):
        deadline = time.monotonic() + READY_S
        while True:
            now = datetime.now(timezone.utc)
            found = endings.read(api, container.id, now - timedelta(minutes=10), now)
            if found.ended_at is not None or time.monotonic() > deadline:
                return explain("s", found)
            time.sleep(0.2)

    assert [told(c).kind for c in (session, polite, crashed)] == ["engine", "engine", "crashed"]
    later = run("sh", "-c", "sleep 16; exit 0")
    later.wait(timeout=90)
    assert told(later).kind == "shutdown", "what ends by itself later did not end with the engine"

"""Services end with the hub that started them, and give way to those of the next one."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.running_hub import free_port

from ds01spawner.core.settings import Settings

STARTER = """
import os, signal, subprocess, sys, time
from ds01spawner.hub.configure import _environment
from ds01spawner.core.settings import Settings
module, state, port, name, life = sys.argv[1:]
env = {
    **os.environ, **_environment(Settings.model_validate({"state_dir": state})),
    "JUPYTERHUB_SERVICE_NAME": name, "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api",
    "JUPYTERHUB_API_TOKEN": "t", "JUPYTERHUB_SERVICE_URL": f"http://127.0.0.1:{port}",
    "JUPYTERHUB_SERVICE_PREFIX": "/services/ds01/", "JUPYTERHUB_BASE_URL": "/",
    "JUPYTERHUB_CLIENT_ID": "service-ds01",
}
made = subprocess.Popen([sys.executable, "-m", module], env=env, start_new_session=True)
print(made.pid, flush=True)
time.sleep(float(life))
os.kill(os.getpid(), signal.SIGKILL)
"""
"""What starts a service as the hub does, and is killed after ``life`` seconds."""

IDLE, SERVICE = ("ds01spawner.idle", "ds01-idle"), ("ds01spawner.service", "ds01")


class Started:
    """A service and the process that started it."""

    def __init__(self, folder: Path, kind: tuple[str, str], port: int, life: float) -> None:
        self.log = (folder / f"log-{time.monotonic_ns()}").open("w+")
        self.hub = subprocess.Popen(
            [sys.executable, "-c", STARTER, kind[0], str(folder), str(port), kind[1], str(life)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.hub.stdout is not None
        self.pid = int(self.hub.stdout.readline())

    def alive(self) -> bool:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False

    def end(self) -> None:
        for process in (self.hub.pid, self.pid):
            if self.alive() or process == self.hub.pid:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        self.hub.wait()
        self.log.seek(0)
        print(self.log.read()[-3000:])
        self.log.close()


@pytest.fixture
def start(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith(("DS01_", "JUPYTERHUB_"))]:
        monkeypatch.delenv(name)
    Settings.model_validate(
        {
            "state_dir": tmp_path,
            "workspace_root": tmp_path / "w",
            "devices": "none",
            "docker_host": f"unix://{tmp_path}/no-engine",
        }
    ).write()
    made = []

    def make(kind, port=0, life=600.0):
        made.append(Started(tmp_path, kind, port or free_port(), life))
        return made[-1]

    yield make
    for one in made:
        one.end()


def until(condition, patience=60.0):
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def holds(folder: Path, lock: str, pid: int) -> bool:
    path = folder / lock
    return path.exists() and f'"{pid}:' in path.read_text()


@pytest.mark.parametrize("kind", [IDLE, SERVICE], ids=["idle", "service"])
@pytest.mark.parametrize("life", [0.05, 0.3, 4.0])
def test_a_service_ends_with_a_hub_that_dies_at_any_moment(start, kind, life):
    one = start(kind, life=life)
    one.hub.wait()
    until(lambda: not one.alive(), 30)


def test_an_idle_service_that_waits_for_its_lock_ends_with_its_hub_too(start, tmp_path):
    with (tmp_path / "idle.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one = start(IDLE, life=6.0)
        one.hub.wait()
        until(lambda: not one.alive(), 30)


@pytest.mark.parametrize(
    ("kind", "lock"), [(IDLE, "idle.lock"), (SERVICE, "service.lock")], ids=["idle", "service"]
)
def test_one_that_did_not_notice_gives_way_to_that_of_the_next_hub(start, tmp_path, kind, lock):
    """Stopped by a signal while its hub was killed: it keeps lock and port, and notices nothing."""
    port = free_port()
    old = start(kind, port)
    until(lambda: holds(tmp_path, lock, old.pid) and (kind == IDLE or listens(port)))
    os.kill(old.pid, signal.SIGSTOP)
    old.hub.kill()
    old.hub.wait()
    assert old.alive()
    new = start(kind, port)
    until(lambda: holds(tmp_path, lock, new.pid))
    assert not old.alive()
    if kind == SERVICE:
        until(lambda: listens(port))
    assert new.alive()


def test_a_service_says_who_may_not_have_its_port(start, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        one = start(SERVICE, other.getsockname()[1])
        until(lambda: not one.alive())
        one.log.flush()
        assert "The service cannot listen at" in Path(one.log.name).read_text()

"""A second Docker engine beside the machine's own: own data, own socket, own bridge, gone afterwards."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import docker

CACHE = Path(__file__).resolve().parents[2] / ".cache/engines"
SUITE = "trixie"
"""Suite of Debian whose engine knows CDI, for hosts whose own one does not."""
CDI_SINCE = 25
START_S = 40


def version(dockerd: str | Path) -> tuple[int, ...]:
    """Version of a dockerd binary, such as ``(20, 10, 24)``."""
    said = subprocess.run([str(dockerd), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    assert found, said
    return tuple(int(n) for n in found.groups())


def own_dockerd() -> Path:
    """The machine's own dockerd."""
    path = shutil.which("dockerd")
    assert path, "no dockerd in PATH: run 'make engine'"
    return Path(path)


def cdi_dockerd() -> Path:
    """A dockerd that does CDI: the machine's own where it is new enough, else Debian's, kept in .cache."""
    own = own_dockerd()
    if version(own) >= (CDI_SINCE,):
        return own
    unpacked = CACHE / SUITE / "usr/sbin/dockerd"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker may be fetching it
        if not unpacked.exists():
            _download()
    return unpacked


def _download() -> None:
    """Fetch and unpack docker.io of another suite, with package lists of its own; nothing is installed."""
    work = CACHE / "apt"
    (work / "lists/partial").mkdir(parents=True, exist_ok=True)
    sources = work / "suite.sources"
    sources.write_text(
        "Types: deb\nURIs: http://deb.debian.org/debian\n"
        f"Suites: {SUITE}\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "-",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{key}={value}" for key, value in options.items())]
    subprocess.run([*apt, "update"], check=True)
    subprocess.run([*apt, "download", "docker.io"], check=True, cwd=work)
    package = max(work.glob("docker.io_*.deb"), key=lambda p: p.stat().st_mtime)
    made = Path(tempfile.mkdtemp(dir=CACHE))
    subprocess.run(["dpkg", "-x", str(package), str(made)], check=True)
    made.rename(CACHE / SUITE)
    shutil.rmtree(work / "lists", ignore_errors=True)


def _die_with_parent() -> None:
    """In the child: be asked to end when the test run dies, however it dies."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class SecondEngine:
    """A dockerd of our own. ``with SecondEngine(…) as engine: engine.client…``.

    ``first`` are folders put first in its PATH, where it looks for runc, hooks and its proxy; ``env`` is
    added to its environment, which OCI hooks inherit. Its name must be unique and at most 4 characters.
    """

    def __init__(
        self, name: str, dockerd: Path, config: dict[str, Any], first: list[Path], env: dict[str, str]
    ) -> None:
        # Of this process, so that two test runs side by side do not meet.
        self.bridge = f"ds01t{name}-{os.getpid() % 100_000}"
        assert len(self.bridge) <= 15, "the bridge's name is too long"
        self.dockerd = dockerd
        # Short, because the path of a socket may have 107 characters only.
        self.folder = Path(tempfile.mkdtemp(prefix="ds01e"))
        self.config = {
            "iptables": False,
            "ip6tables": False,
            "bridge": self.bridge,
            "data-root": str(self.folder / "data"),
            "exec-root": str(self.folder / "exec"),
            "pidfile": str(self.folder / "pid"),
            "hosts": [f"unix://{self.folder / 'sock'}"],
            **config,
        }
        path = os.pathsep.join([*map(str, first), str(dockerd.parent), str(dockerd.parent.parent / "bin")])
        self.env = {**os.environ, **env, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
        self.process: subprocess.Popen[bytes] | None = None
        self.client: docker.DockerClient

    def __enter__(self) -> SecondEngine:
        # Never "bridge none": that takes docker0 away from the machine's own engine.
        subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
        subprocess.run(
            ["ip", "addr", "add", f"198.18.{os.getpid() % 250}.1/24", "dev", self.bridge], check=True
        )
        (self.folder / "daemon.json").write_text(json.dumps(self.config))
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [str(self.dockerd), "--config-file", str(self.folder / "daemon.json")],
                env=self.env,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process is not None
            if self.process.poll() is not None:
                break
            with contextlib.suppress(docker.errors.DockerException, OSError):
                self.client = docker.DockerClient(
                    f"unix://{self.folder / 'sock'}", version="auto", timeout=60
                )
                self.client.ping()
                return
            time.sleep(0.1)
        raise AssertionError(f"the second engine did not start:\n{self.log()[-3000:]}")

    def log(self) -> str:
        """What the engine wrote."""
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        """Remove its containers, stop it, remove its bridge and its data."""
        if hasattr(self, "client"):
            for container in self.client.containers.list(all=True):
                with contextlib.suppress(docker.errors.DockerException):
                    container.remove(force=True)
            self.client.close()
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        subprocess.run(["ip", "link", "del", self.bridge], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

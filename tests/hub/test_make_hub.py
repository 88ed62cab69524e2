"""`make hub` as a person at a terminal meets it: what it prints, what it refuses, what Ctrl-C leaves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from support.running_hub import RunningHub, free_port

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = [sys.executable, str(ROOT / "scripts" / "run_hub.py")]


def free_ports() -> int:
    """A port whose neighbours, which the demo derives from it, are free too."""
    for _ in range(50):
        port = free_port()
        if port < 64000 and all(_is_free(port + offset) for offset in (1, 2, 81)):
            return port
    raise AssertionError("no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _at_a_terminal() -> None:
    """Ctrl-C counts, also where the tests run in the background of a shell that has it ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Demo:
    """`scripts/run_hub.py` in a terminal of its own."""

    def __init__(self, folder: Path, hub_id: str, lab_image: str) -> None:
        self.port, self.state, self.hub_id = free_ports(), folder / "state", hub_id
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DS01_", "JUPYTERHUB_"))},
            "PORT": str(self.port),
            "DS01_STATE_DIR": str(self.state),
            "DS01_HUB_ID": hub_id,
            "DS01_NETWORK": "ds01-test",
            "DS01_IMAGE": lab_image,
        }
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> str:
        """Run it until it has said what there is to say; returns that."""
        self.process = subprocess.Popen(
            SCRIPT, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, preexec_fn=_at_a_terminal,
        )  # fmt: skip
        said = []
        for line in self.process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                return "".join(said)
        raise AssertionError("".join(said))

    def run(self, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run it where it must refuse to start."""
        return subprocess.run(
            SCRIPT, env=self.env | changes, capture_output=True, text=True, timeout=60, check=False
        )

    def ctrl_c(self) -> str:
        """Ctrl-C as a terminal sends it, to the whole foreground group; returns the last words."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return self.process.communicate(timeout=60)[0]

    def login(self, user: str, password: str) -> Browser:
        return Browser(self.url, user, password)


class Browser:
    """Someone logged in through the form, cookies and all."""

    def __init__(self, url: str, user: str, password: str) -> None:
        self.http = httpx.Client(base_url=url, follow_redirects=True, timeout=60)
        page = self.http.get("/hub/login").text
        token = re.search(r'name="_xsrf" value="([^"]+)"', page)
        assert token, page
        form = {"username": user, "password": password, "_xsrf": token[1]}
        self.answer = self.http.post("/hub/login", params={"_xsrf": token[1]}, data=form)
        self.user = user

    def api(self, method: str, path: str, **kwargs) -> httpx.Response:
        token = next(c.value for c in self.http.cookies.jar if c.name == "_xsrf" and c.path == "/hub/")
        return self.http.request(method, f"/hub/api{path}", headers={"X-XSRFToken": token}, **kwargs)

    def ready(self) -> bool:
        servers = self.api("GET", f"/users/{self.user}").json()["servers"]
        return bool(servers.get("", {}).get("ready"))


@pytest.fixture
def demo(tmp_path, hub_id, lab_image):
    made = Demo(tmp_path, hub_id, lab_image)
    yield made
    if made.process is not None:
        made.ctrl_c()
        log = made.state / "hub.log"
        print(log.read_text(errors="replace")[-6000:])


def test_a_person_logs_in_works_and_finds_the_session_after_ctrl_c(demo, engine):
    said = demo.start()
    password = (demo.state / "password").read_text().strip()
    assert (demo.state / "password").stat().st_mode & 0o777 == 0o600
    assert f"The hub runs at {demo.url}" in said
    assert password in said
    for line in ("alice     student", "bob       student", "admin     administrator", "simulated"):
        assert line in said

    assert demo.login("alice", "wrong").answer.status_code == 403
    alice = demo.login("alice", password)
    assert alice.answer.status_code == 200
    started = alice.api("POST", "/users/alice/server", json={"project": "thesis", "gpu": "1g.10gb"})
    assert started.status_code in (201, 202), started.text
    RunningHub.wait_for(alice.ready, 90, "alice's session to be ready")
    [session] = engine.containers.list(filters={"label": f"ds01.hub={demo.hub_id}"})

    assert "runs already at" in demo.run().stderr
    assert "Sessions keep running" in demo.ctrl_c()
    assert demo.process.returncode == 0
    session.reload()
    assert session.status == "running"

    demo.start()
    alice = demo.login("alice", password)
    assert alice.ready()
    assert alice.api("DELETE", "/users/alice/server").status_code in (202, 204)
    RunningHub.wait_for(
        lambda: not engine.containers.list(all=True, filters={"label": f"ds01.hub={demo.hub_id}"}),
        150,
        "the container to be gone",
    )
    assert (demo.state / "workspaces" / "alice" / "thesis").is_dir()


@pytest.mark.parametrize(
    ("port", "sentence"),
    [
        ("http", "PORT=http is not a port from 1024 to 65000"),
        ("80", "PORT=80 is not a port from 1024 to 65000"),
        ("65500", "PORT=65500 is not a port from 1024 to 65000"),
    ],
)
def test_a_port_that_cannot_be_is_refused(demo, port, sentence):
    answer = demo.run(PORT=port)
    assert (answer.returncode, answer.stderr) == (1, f"!! {sentence}\n")


@pytest.mark.parametrize(("offset", "use"), [(0, "the hub"), (1, "the proxy's API"), (81, "the hub's API")])
def test_a_taken_port_is_named_with_the_way_out(demo, offset, use):
    with socket.socket() as other:
        other.bind(("127.0.0.1", demo.port + offset))
        other.listen()
        answer = demo.run()
    assert answer.returncode == 1
    assert answer.stderr == (
        f"!! port {demo.port + offset} ({use}) is taken by another program; choose another with "
        f"PORT={demo.port + 1000} make hub\n"
    )

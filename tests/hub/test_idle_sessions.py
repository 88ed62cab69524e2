"""Idle sessions on a real hub, with real notebook servers and limits of seconds: who goes and who stays."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import docker
import pytest
from bs4 import BeautifulSoup
from fakes.nvml import A100, H100, Machine, build, card_uuid, slice_uuid
from support.idle import command, decisions, events_of, page_of
from support.labs import Browser, Lab
from support.running_hub import NETWORK, RunningHub, running_hub
from support.slow import slow_file as serve_slowly

POLL, TIMEOUT, LEAD = 2, 24, 8
POLICY = f"""
version: 1
defaults:
  gpu: {{max_equivalents: 1.0, full_gpu: true}}
  session: {{max: 3, cpus: 1, memory: 1g, shm: 128m, pids: 512, lifetime: 12h}}
  storage: {{minimum_free: {{workspace: 50m, host: 50m, engine: 50m}}}}
  idle: {{timeout: {TIMEOUT}s, start_grace: 1s, warn_lead: {LEAD}s, lifetime_lead: {LEAD}s}}
"""
PEOPLE = {"carol", "dave", "erin", "frank", "grace"}
TAIL = uuid.uuid4().hex[:12]
STAY = ("bob", "carol", "erin", "frank", "grace")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """Two whole cards, a slice whose load the driver tells, and one whose load it does not."""
    return drivers(Machine(tmp_path_factory.mktemp("machine") / "inventory"))


def own(text: str) -> str:
    """UUIDs of this run: another one may use this engine at the same time."""
    return text.replace("0123456789ab", TAIL)


def drivers(machine: Machine, *, busy: int | None = None, held: str = "") -> Machine:
    """Write the machine: whole card ``busy`` computes, ``held`` is a line about a process."""
    machine.clear()
    for index in (0, 1):
        machine.gpu(index, H100, mig=0, util=80 if index == busy else 0, used_mib=900)
    machine.gpu(2, H100, mig=1, gpm=1).slices(2, "1g.10gb", util=40, used_mib=70)
    machine.gpu(3, A100, mig=1).slices(3, "2g.20gb", used_mib=500)
    if held:
        machine.line(held)
    machine.lines[:] = map(own, machine.lines)
    return machine.write()


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient, lab_image: str, machine: Machine
) -> Iterator[RunningHub]:
    """A hub with both services, on a machine whose driver is pretended."""
    every = machine.env(build(tmp_path_factory.mktemp("nvml")))
    seen = {k: every[k] for k in ("LD_LIBRARY_PATH", "FAKE_NVML_INVENTORY")}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in seen.items():
            patch.setenv(key, value)
        with running_hub(
            tmp_path_factory.mktemp("hub"),
            f"test-{os.getpid()}-idle",
            lab_image,
            extra='c.DS01Spawner.devices = "nvml"\nc.DS01Spawner.attach = "simulated"',
            after=f"for s in c.JupyterHub.services:\n    s.setdefault('environment', {{}}).update({seen!r})",
            arguments=f', idle_arguments=("--poll", "{POLL}", "--window", "{2 * POLL}")',
            policy=POLICY,
            users=PEOPLE,
        ) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Everybody's open tabs."""
    made = Browser()
    yield made
    made.close()


@pytest.fixture(scope="module")
def slow_file() -> Iterator[int]:
    """Port of a file that comes at some 200 KiB a second."""

    with serve_slowly() as port:
        yield port


@pytest.fixture(scope="module")
def scene(
    hub: RunningHub, engine: docker.DockerClient, machine: Machine, browser: Browser, slow_file: int
) -> dict[str, Any]:
    """Seven people begin; the answer is when each one last did something, and what holds which device."""
    last: dict[str, datetime] = {}
    held: dict[str, list[str]] = {}

    def start(user: str, gpu: str = "none") -> Lab:
        hub.start_session(user, {"project": "thesis", "gpu": gpu})
        box = engine.containers.get(f"{hub.hub_id}--{user}")
        held[user] = [u for u in box.labels["ds01.gpu.uuids"].split(",") if u]
        return Lab(hub, browser, user)

    def done(user: str) -> None:
        last[user] = datetime.now().astimezone()

    alice = start("alice", "full")
    pid = engine.containers.get(f"{hub.hub_id}--alice").attrs["State"]["Pid"]
    mine = [own(card_uuid(0)), own(card_uuid(1))].index(held["alice"][0])
    drivers(machine, busy=1 - mine, held=f"proc {card_uuid(mine)} {pid} 900")
    # A finished notebook in an open tab that still holds its GPU memory.
    alice.execute(alice.notebook(), "x = 1 + 1")
    done("alice")
    start("bob", "full")
    start("carol", "1g.10gb")
    start("dave", "2g.20gb")
    done("dave")
    # A cell without output, and nobody there.
    erin = start("erin")
    erin.execute(erin.notebook(), "import time; time.sleep(3600)", wait=False, stay=False)
    # Training left alone by its terminal. It computes elsewhere, so it takes little CPU here.
    frank = start("frank")
    train = hub.workspaces / "frank" / "thesis" / "train.py"
    train.write_text("import time\nwhile True:\n    sum(range(300_000)); time.sleep(0.15)\n")
    frank.type("nohup python3 train.py >/dev/null 2>&1 & exit")
    # A download within a quiet process.
    start("grace")
    gateway = engine.networks.get(NETWORK).attrs["IPAM"]["Config"][0]["Gateway"]
    fetch = f"import urllib.request as u; u.urlretrieve('http://{gateway}:{slow_file}/', '/tmp/x')"
    engine.containers.get(f"{hub.hub_id}--grace").exec_run(["python3", "-c", fetch], detach=True)
    done("grace")
    return {"last": last, "held": held, "mine": mine}


@pytest.fixture(scope="module")
def retired(hub: RunningHub, machine: Machine, scene: dict[str, Any]) -> dict[str, Any]:
    """The scene when the two idle people were retired and the others had every time to be."""

    def gone(user: str) -> Callable[[], bool]:
        return lambda: not hub.server(user).get("ready") and not hub.server(user).get("pending")

    for user in ("alice", "dave"):
        hub.wait_for(gone(user), 150, f"{user} to be retired; now {decisions(hub).get(user)}")
    drivers(machine, busy=1 - scene["mine"])  # with its process the memory came free
    left = TIMEOUT + LEAD + 3 * POLL - (datetime.now().astimezone() - scene["last"]["grace"]).total_seconds()
    time.sleep(max(0.0, left))
    return scene


def test_idle_people_are_retired_and_busy_ones_stay(hub, retired, sessions_of):
    assert sorted(c.labels["ds01.user"] for c in sessions_of(hub)) == sorted(STAY), decisions(hub)
    why = {user: decision["reason"] for user, decision in decisions(hub).items()}
    assert sorted(why) == sorted(STAY)
    assert why["bob"].startswith("In use: ")
    assert "GPU 80 %" in why["bob"]
    assert "GPU 40 %" in why["carol"]
    assert "a cell is running (train.ipynb)" in why["erin"]
    assert "a program is at work (python3 train.py)" in why["frank"]
    assert "network" in why["grace"]


@pytest.mark.parametrize("user", ["alice", "dave"])
def test_the_warning_came_first_and_the_end_at_its_time(hub, retired, user):
    events = [e for e in events_of(hub, user) if e["action"] in ("started", "warned", "retiring", "ended")]
    assert [e["action"] for e in events][-3:] == ["warned", "retiring", "ended"]
    at = {e["action"]: datetime.fromisoformat(e["at"]) for e in events}
    promised = datetime.fromisoformat(next(e for e in events if e["action"] == "warned")["until"])
    assert (at["retiring"] - at["warned"]).total_seconds() >= LEAD
    assert -0.5 <= (at["retiring"] - promised).total_seconds() <= 2 * POLL
    assert (at["retiring"] - retired["last"][user]).total_seconds() >= TIMEOUT - POLL


def test_the_reason_has_the_measured_values(hub, retired):
    reason = events_of(hub, "alice")[-1]["reason"]
    assert reason.startswith("Retired after 2")
    assert f"limit: {TIMEOUT} s without use (defaults (policy.yaml:" in reason
    for part in ("no cell is running", "no program is at work", "CPU", "network", "GPU 0 %", "warned at"):
        assert part in reason
    assert "GPU memory unchanged" in events_of(hub, "dave")[-1]["reason"]


def test_its_owner_reads_when_why_and_what_was_kept(hub, retired):
    page = page_of(hub, "alice", "hub/user/alice/")
    shown = BeautifulSoup(page.text, "html.parser").get_text(" ", strip=True)
    assert "Your session has ended" in shown
    assert "Retired after 2" in shown
    assert "GPU 0 %" in shown
    assert "everything in the project thesis" in shown
    assert "Last lines of its log" in shown
    assert "Start again" in shown


def test_its_device_is_free_again(hub, retired):
    states = {d["uuid"]: d["state"] for d in command(hub, "gpus")["devices"]}
    assert states[retired["held"]["alice"][0]] == "free"
    assert states[own(slice_uuid(3, 0))] == "free"
    assert states[retired["held"]["bob"][0]] == "held"


def test_the_notices_in_the_workspace_tell_the_warning_and_the_end(hub, retired):
    lines = (hub.workspaces / "alice/thesis/.ds01/notices").read_text().splitlines()
    assert "This session is retired at" in lines[-2]
    assert "Retired after" in lines[-1]


def test_a_driver_away_in_the_middle_retires_nobody_without_a_fresh_warning(hub, machine, retired):
    hub.start_session("dave", {"project": "thesis", "gpu": "2g.20gb"})
    hub.wait_for(lambda: decisions(hub).get("dave", {}).get("state") == "warned", 90, "dave to be warned")
    machine.line("init 9").write()
    hub.wait_for(
        lambda: "could not be measured" in decisions(hub)["dave"]["reason"], 120, "the driver to fail"
    )
    time.sleep(LEAD + 3 * POLL)
    assert hub.server("dave")["ready"]
    back = datetime.now().astimezone()
    drivers(machine, busy=1 - retired["mine"])
    hub.wait_for(lambda: not hub.server("dave").get("ready"), 90, "dave to be retired")
    events = [e for e in events_of(hub, "dave") if datetime.fromisoformat(e["at"]) > back]
    at = {e["action"]: datetime.fromisoformat(e["at"]) for e in events}
    assert (at["retiring"] - at["warned"]).total_seconds() >= LEAD

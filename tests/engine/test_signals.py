"""Idle sessions on real containers, with limits of seconds: who is warned, who is retired, who stays."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import docker
import pytest
from idle_lab import FakeHub, make_service, no_gpu, start_bare, start_lab
from support.ours import installation_of
from support.slow import slow_file

from ds01spawner.engines.docker.engine_reader import EngineReader
from ds01spawner.gpu.reading import Activity, GpuReading
from ds01spawner.idle.procs import HostSampler
from ds01spawner.idle.rules import from_policy
from ds01spawner.placement.devices import Device, Inventory
from ds01spawner.policy.model import Idle

PLAIN = replace(from_policy(Idle(), "the built-in policy", poll=100), start_grace=0)
POLL = 1.5
RULES = replace(PLAIN, timeout=15, warn_lead=6, max_gap=20)


def connect():
    return docker.APIClient(version="auto", timeout=20)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace root that the containers' users may reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith("pytest"):
            folder.chmod(0o755)
    return tmp_path


@pytest.fixture
def slow_download():
    """Address of a file that comes at 200 KiB a second."""

    with slow_file() as port:
        yield port


async def run_for(service, seconds: float) -> list[dict[str, str]]:
    """Pass after pass; every pass's states by user."""
    end, seen = time.monotonic() + seconds, []
    while time.monotonic() < end:
        began = time.monotonic()
        cases = await service.one_pass()
        seen.append({c.session.user: c.decision.state for c in cases})
        await asyncio.sleep(max(0.0, POLL - (time.monotonic() - began)))
    await service.settle()
    return seen


async def test_who_is_retired_and_who_stays(engine, lab_image, hub_id, root, slow_download):
    labs = {u: start_lab(engine, lab_image, hub_id, root, u) for u in ("idle", "cell", "nohup", "load")}
    for lab in labs.values():
        await asyncio.to_thread(lab.wait_up)
    gateway = labs["load"].container.attrs["NetworkSettings"]["Networks"]["bridge"]["Gateway"]

    # An open page with an open, idle kernel, and a terminal that prints for ever.
    await labs["idle"].execute(labs["idle"].notebook(), "x = 1 + 1")
    await labs["idle"].type("watch -n 1 date")
    # A cell without output, and nobody there.
    await labs["cell"].execute(labs["cell"].notebook(), "import time; time.sleep(3600)", wait=False)
    # Training left alone by its terminal. It computes elsewhere, so it takes little CPU here.
    train = "import time\nwhile True:\n    sum(range(300_000)); time.sleep(0.15)\n"
    (labs["nohup"].folder / "train.py").write_text(train)
    await labs["nohup"].type("nohup python3 train.py >/dev/null 2>&1 & exit")
    # A download within a quiet process.
    fetch = f"import urllib.request as u; u.urlretrieve('http://{gateway}:{slow_download}/', '/tmp/x')"
    labs["load"].container.exec_run(["python3", "-c", fetch], detach=True)

    hub = FakeHub(list(labs.values()))
    service = make_service(connect, hub_id, hub, root, RULES, POLL, 3.0)
    began = datetime.now(timezone.utc)
    seen = await run_for(service, 32)

    assert list(hub.stopped) == ["idle"], service.parts.book.reasons
    states = [s["idle"] for s in seen if "idle" in s]
    order = [s for i, s in enumerate(states) if i == 0 or states[i - 1] != s]
    assert [s for s in order if s != "active"] == ["idle", "warned", "retire"]
    warned, stopped = service.parts.book.warned_at["idle"], hub.stopped["idle"]
    assert (stopped - warned).total_seconds() >= RULES.warn_lead
    assert (stopped - began).total_seconds() <= RULES.timeout + 10  # the typing before counts as use
    notice = (root / "idle/p/.ds01/notices").read_text()
    assert "This session is retired at" in notice
    assert (root / "idle/p/.ds01/notices").stat().st_uid == (root / "idle/p").stat().st_uid
    assert service.parts.book.reasons["idle"].startswith("Retired after")
    assert "no cell is running, no program is at work" in service.parts.book.reasons["idle"]
    last = {c.session.user: c.decision.reason for c in await service.observe()}
    assert "a cell is running (train.ipynb)" in last["cell"]
    assert "a program is at work (python3 train.py)" in last["nohup"]
    assert "network" in last["load"]


async def test_gpu_sessions(engine, busybox_image, hub_id, root):
    """A busy card and a busy slice stay; held memory and a slice without any signal are retired."""
    uuids = {"card": "GPU-1", "slice": "MIG-2", "held": "GPU-3", "blind": "MIG-4", "lost": "GPU-5"}
    labs = [
        start_bare(engine, busybox_image, hub_id, root, u, gpu_uuids=(uuid,)) for u, uuid in uuids.items()
    ]
    devices = tuple(Device(u, "GPU", "full", 1000) for u in uuids.values() if u != "GPU-5")
    activity = {
        "GPU-1": Activity(80.0, 900, 1),
        "MIG-2": Activity(25.0, 900, 1),
        "GPU-3": Activity(0.0, 900, 1),
        "MIG-4": Activity(None, None, None),
    }
    reading = GpuReading(Inventory(mode="nvml", devices=devices), activity=activity)
    hub = FakeHub(labs, away=tuple(uuids))
    rules = replace(PLAIN, timeout=5, warn_lead=2, max_gap=20)
    service = make_service(connect, hub_id, hub, root, rules, POLL, 3.0, gpu=lambda: reading)
    await run_for(service, 14)
    assert sorted(hub.stopped) == ["blind", "held"]
    assert "GPU 0 %" in service.parts.book.reasons["held"]


async def test_an_engine_away_in_the_middle_retires_nobody_wrongly(engine, busybox_image, hub_id, root):
    lab = start_bare(engine, busybox_image, hub_id, root, "alice")
    hub = FakeHub([lab], away=("alice",))
    rules = replace(PLAIN, timeout=4, warn_lead=2, max_gap=3)
    service = make_service(connect, hub_id, hub, root, rules, POLL, 2.0)
    states = await run_for(service, 4)
    assert states[-1]["alice"] == "warned"
    away = EngineReader(
        lambda: docker.APIClient(base_url="unix:///nowhere", version="1.41"), lambda: installation_of(hub_id)
    )
    there, service.parts = service.parts, _with(service.parts, running=away.running)
    for _ in range(3):
        with pytest.raises(Exception, match="engine did not answer"):
            await service.one_pass()
        await asyncio.sleep(POLL)
    service.parts = there
    first = await service.one_pass()
    back = datetime.now(timezone.utc)
    assert first[0].decision.state in ("active", "idle", "warned")
    await run_for(service, 9)
    assert (hub.stopped["alice"] - back).total_seconds() >= rules.warn_lead


def _with(parts, **changes):
    from dataclasses import replace

    return replace(parts, **changes)


async def test_the_engine_tells_the_same_as_the_host(engine, lab_image, hub_id, root):
    """Counters through ``/proc`` and through the engine agree, where both can be read."""
    lab = start_lab(engine, lab_image, hub_id, root, "alice")
    await asyncio.to_thread(lab.wait_up)
    reader = EngineReader(connect, lambda: installation_of(hub_id))
    running = reader.running()
    assert [(r.labels.user, r.addresses) for r in running] == [("alice", (lab.address,))]
    container = running[0].container
    host, told = HostSampler().sample([container])[container], reader.sample([container])[container]
    assert told.cpu == pytest.approx(host.cpu, rel=0.3, abs=0.5)
    assert told.network == pytest.approx(host.network, rel=0.3, abs=5000)
    assert {p.kind for p in host.processes if p.kind != "shell"} == {"server"}
    assert {p.kind for p in told.processes if p.kind != "shell"} == {"server"}
    assert reader.sample(["f" * 64])["f" * 64].missing.startswith("the container engine did not answer")


async def test_without_the_hosts_processes_the_engine_is_asked(engine, busybox_image, hub_id, root, tmp_path):
    lab = start_bare(engine, busybox_image, hub_id, root, "alice")
    hub = FakeHub([lab], away=("alice",))
    blind = HostSampler(proc=tmp_path / "no-proc")
    rules = replace(PLAIN, timeout=600, warn_lead=2, max_gap=20)
    service = make_service(connect, hub_id, hub, root, rules, POLL, 3.0, gpu=no_gpu, host=blind)
    states = await run_for(service, 5)
    assert states[-1] == {"alice": "idle"}

"""The ledger and the claim against a real engine."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import docker
import pytest
import requests

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "placement"))
from machines import FOUR_CARDS
from support.claiming import claim
from support.ours import INSTALLATION, installation_of, signed

from ds01spawner.core.errors import EngineError, LockError, Refused
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker import ledger as ledgers
from ds01spawner.engines.docker.ledger import Ledger
from ds01spawner.engines.docker.lock import claim_lock
from ds01spawner.gpu.reading import GpuReading
from ds01spawner.placement.devices import Device, GpuRequest, Holding, Inventory

ATTEMPTS = 200
LOCK_SECONDS = 120


@pytest.fixture
def api(engine):
    """The low-level client of one thread."""
    return engine.api


@pytest.fixture
def clients():
    """A client for each thread, closed afterwards."""
    local, made = threading.local(), []

    def client() -> docker.APIClient:
        if not hasattr(local, "client"):
            local.client = docker.APIClient(version="1.41", timeout=120)
            made.append(local.client)
        return local.client

    yield client
    for one in made:
        one.close()


@pytest.fixture
def make(api, busybox_image, hub_id):
    """Create containers of ours; all are removed afterwards."""
    made = []

    def make(name="", labels=None, start=False, **host) -> str:
        given = {"ds01.hub": hub_id, **(labels or {})}
        created = api.create_container(
            busybox_image,
            ["sleep", "600"],
            name=name or None,
            labels=given,
            host_config=api.create_host_config(**host),
        )
        made.append(created["Id"])
        if start:
            api.start(created["Id"])
        return created["Id"]

    yield make
    for one in made:
        with contextlib.suppress(docker.errors.NotFound):
            api.remove_container(one, force=True)


def session(hub_id, session, uuids):
    """Name and labels of a session's container."""
    told = SessionLabels("alice", session, "thesis", hub_id, session, gpu_uuids=tuple(uuids))
    name = f"{hub_id}-{session}"
    return {"name": name, "labels": signed(told, name)}


def mine(snapshot, *containers):
    return {h.uuid for h in snapshot.holdings if h.container in containers}


def test_what_real_containers_hold_in_any_state(api, make, hub_id):
    ledger = Ledger(lambda: api, installation=lambda: INSTALLATION)
    gpu = [["gpu"]]
    named = make(device_requests=[{"DeviceIDs": ["MIG-1-0"], "Capabilities": gpu}])
    counted = make(device_requests=[{"Count": 1, "Capabilities": gpu}])
    every = make(device_requests=[{"Count": -1, "Capabilities": gpu}])
    privileged = make(privileged=True)
    plain = make(start=True)
    ours = make(**session(hub_id, "s1", ["MIG-3-0"]), start=True)
    api.pause(ours)
    snapshot = ledger.read(FOUR_CARDS)
    assert mine(snapshot, named) == {"MIG-1-0"}
    assert mine(snapshot, counted) == {"GPU-0"}
    assert len(mine(snapshot, every)) == len(mine(snapshot, privileged)) == 14
    assert mine(snapshot, plain) == set()
    assert mine(snapshot, ours) == {"MIG-3-0"}
    [record] = [s for s in snapshot.sessions if s.container == ours]
    assert (record.labels.address, record.state, record.started_at != "") == ("alice/s1", "paused", True)
    api.unpause(ours)


def test_the_cache_follows_the_list(api, make, hub_id):
    ledger = Ledger(lambda: api, installation=lambda: INSTALLATION)
    one = make(**session(hub_id, "s1", ["MIG-3-0"]))
    [before] = [s for s in ledger.read(FOUR_CARDS).sessions if s.container == one]
    assert (before.state, before.started_at) == ("created", "")
    api.start(one)
    [running] = [s for s in ledger.read(FOUR_CARDS).sessions if s.container == one]
    assert running.state == "running"
    assert running.started_at
    api.kill(one)
    api.wait(one)
    after = ledger.read(FOUR_CARDS)
    assert mine(after, one) == {"MIG-3-0"}, "a stopped container still holds"
    api.remove_container(one)
    assert mine(ledger.read(FOUR_CARDS), one) == set()


def test_a_renamed_container_loses_its_exemption(api, make, hub_id):
    name = f"{hub_id}-infra"
    ledger = Ledger(lambda: api, exempt=(name,))
    infra = make(name=name, device_requests=[{"Count": -1, "Capabilities": [["gpu"]]}])
    assert mine(ledger.read(FOUR_CARDS), infra) == set()
    api.rename(infra, f"{name}-2")
    assert len(mine(ledger.read(FOUR_CARDS), infra)) == 14


def test_a_container_removed_between_list_and_inspect_is_gone(api, make):
    gone = make(device_requests=[{"Count": -1, "Capabilities": [["gpu"]]}])
    ledger = Ledger(lambda: api, installation=lambda: INSTALLATION)
    listed = api.containers(all=True)
    api.remove_container(gone)

    class Late:
        """The list of a moment ago, the inspects of now."""

        def containers(self, all):
            return listed

        def inspect_container(self, ident):
            return api.inspect_container(ident)

    ledger = Ledger(Late)
    assert gone not in {h.container for h in ledger.read(FOUR_CARDS).holdings}


class Broken:
    """An engine that fails at the named call."""

    def __init__(self, api, at, error):
        self.api, self.at, self.error = api, at, error

    def containers(self, **kwargs):
        if self.at == "list":
            raise self.error
        return self.api.containers(**kwargs)

    def inspect_container(self, ident):
        raise self.error


LIST = [requests.ConnectionError("down"), requests.ReadTimeout("slow"), docker.errors.APIError("500")]
INSPECT = [requests.ConnectionError("down"), docker.errors.APIError("500")]


@pytest.mark.parametrize(("at", "error"), [*(("list", e) for e in LIST), *(("inspect", e) for e in INSPECT)])
def test_an_engine_that_does_not_answer_grants_nothing(api, make, at, error, tmp_path):
    make()
    ledger = Ledger(lambda: Broken(api, at, error))
    created = []
    with pytest.raises(EngineError, match="Docker engine does not"):
        claim(
            tmp_path / "lock",
            ledger,
            lambda: GpuReading(FOUR_CARDS),
            dict,
            GpuRequest("auto"),
            lambda p: created.append(p) or "x",
        )
    assert created == []


def test_a_container_the_engine_does_not_tell_about_holds_everything_until_it_does(api, make, hub_id):
    """As while an image is made of it: the engine keeps it locked, and inspect does not return."""
    locked = make()
    answers = {"locked": True}

    class Slow:
        def inspect_container(self, ident):
            if answers["locked"] and ident == locked:
                raise requests.ReadTimeout("slow")
            return api.inspect_container(ident)

    ledger = Ledger(lambda: api, inspect_client=Slow)

    def held():
        return {h.uuid for h in ledger.read(FOUR_CARDS).holdings if h.container == locked}

    assert held() == {d.uuid for d in FOUR_CARDS.devices}
    answers["locked"] = False
    assert held() == set()


class Locked:
    """An engine that does not tell about one container until it is let go."""

    def __init__(self, api, container):
        self.api, self.container = api, container
        self.asked, self.free = 0, threading.Event()

    def inspect_container(self, ident):
        if ident == self.container:
            self.asked += 1
            assert self.free.wait(60)
        return self.api.inspect_container(ident)


def test_a_page_does_not_wait_for_a_locked_container_and_it_is_asked_about_once(api, make):
    """Each reader waited for the whole of its time, one after another."""
    locked, other = make(), make(privileged=True)
    engine = Locked(api, locked)
    ledger = Ledger(lambda: api, inspect_client=lambda: engine)
    for _ in range(3):
        seen = ledger.read(FOUR_CARDS, patience=0.05)
        assert not engine.free.is_set()
        assert len(mine(seen, locked)) == 14, "what is not known is taken"
        assert other in {h.container for h in seen.holdings}
    assert engine.asked == 1
    engine.free.set()
    assert mine(ledger.read(FOUR_CARDS, patience=60), locked) == set()
    assert engine.asked == 1


def test_what_the_engine_tells_later_is_kept_though_no_reader_waits_any_more(api, make):
    locked = make()
    engine = Locked(api, locked)
    ledger = Ledger(lambda: api, inspect_client=lambda: engine)
    assert len(mine(ledger.read(FOUR_CARDS, patience=0.05), locked)) == 14
    asked = next(iter(ledger._asked.values()))
    engine.free.set()
    asked.result(60)
    assert mine(ledger.read(FOUR_CARDS, patience=0), locked) == set()
    assert engine.asked == 1


def test_a_step_of_a_build_of_ours_holds_nothing_though_it_is_locked(api, make):
    """Saving a large image kept every GPU of the machine from everybody for as long as it took."""
    name = f"ds01-run-b-{uuid.uuid4().hex[:8]}-1"
    ours, forged = make(name=INSTALLATION.name_without_devices(name)), make(name=f"{name}.{'0' * 32}")
    theirs = make(name=installation_of("another").name_without_devices(name))

    class AllLocked(Locked):
        def inspect_container(self, ident):
            self.container = ident if ident in (ours, forged, theirs) else ""
            return super().inspect_container(ident)

    engine = AllLocked(api, "")
    ledger = Ledger(lambda: api, inspect_client=lambda: engine, installation=lambda: INSTALLATION)
    seen = ledger.read(FOUR_CARDS, patience=0.5)
    assert mine(seen, ours) == set()
    assert len(mine(seen, forged)) == len(mine(seen, theirs)) == 14
    engine.free.set()


def test_a_session_that_is_being_saved_holds_what_it_held(api, make, hub_id):
    """The engine pauses and locks it; its changed state had it counted as holding every device."""
    saved = make(**session(hub_id, "s1", ["MIG-3-0"]), start=True)
    engine = Locked(api, "")
    ledger = Ledger(lambda: api, inspect_client=lambda: engine, installation=lambda: INSTALLATION)
    assert mine(ledger.read(FOUR_CARDS), saved) == {"MIG-3-0"}
    api.pause(saved)
    engine.container = saved
    seen = ledger.read(FOUR_CARDS, patience=0.05)
    assert mine(seen, saved) == {"MIG-3-0"}
    [record] = [s for s in seen.sessions if s.container == saved]
    assert (record.state, record.started_at != "") == ("paused", True)
    engine.free.set()
    api.unpause(saved)


def test_patience_begins_anew_with_each_container_that_is_told_of(monkeypatch):
    """A busy engine tells of two hundred containers one by one; that is no reason to know nothing of them."""
    first, second, waits = Future(), Future(), []

    def wait(left, patience, _):
        waits.append((set(left), patience))
        return ({first}, {second}) if len(waits) == 1 else (set(), {second})

    monkeypatch.setattr(ledgers, "wait_for", wait)
    ledgers._wait([first, second], 4)
    assert waits == [({first, second}, 4), ({second}, 4)]


def test_no_engine_at_all():
    with pytest.raises(EngineError, match="does not list its containers"):
        Ledger(lambda: docker.APIClient(base_url="unix:///nowhere.sock")).read(FOUR_CARDS)


@dataclass(frozen=True)
class Proc:
    pid: int
    uuid: str


def test_processes_are_explained_by_the_containers_they_run_in(api, make, hub_id):
    ours = make(**session(hub_id, "s1", ["MIG-1-0"]), start=True)
    pid = api.inspect_container(ours)["State"]["Pid"]
    bare = subprocess.Popen(["sleep", "60"])
    try:
        found = Ledger(lambda: api, installation=lambda: INSTALLATION).read(
            FOUR_CARDS, [Proc(pid, "MIG-1-0"), Proc(pid, "MIG-1-1"), Proc(bare.pid, "MIG-1-2")]
        )
    finally:
        bare.kill()
        bare.wait()
    unexplained = {(h.uuid, h.holder) for h in found.holdings if h.kind == "process"}
    assert unexplained == {("MIG-1-1", f"process {pid}"), ("MIG-1-2", f"process {bare.pid}")}


class Claims:
    """Claims of containers that are created and never started, as the spawner makes them."""

    def __init__(self, clients, image, hub_id, lock_path):
        self.clients, self.image, self.hub_id, self.lock_path = clients, image, hub_id, lock_path
        self.ledger = Ledger(clients, installation=lambda: INSTALLATION)

    def __call__(self, number: int, profile: str = "auto", **kwargs):
        def create(placement) -> str:
            client = self.clients()
            uuids = [d.uuid for d in placement.devices]
            return client.create_container(
                self.image,
                ["true"],
                **session(self.hub_id, f"s{number}", uuids),
                host_config=client.create_host_config(
                    device_requests=[{"DeviceIDs": uuids, "Capabilities": [["gpu"]]}] if uuids else None
                ),
            )["Id"]

        kwargs.setdefault("timeout", LOCK_SECONDS)
        return claim(
            self.lock_path,
            self.ledger,
            lambda: GpuReading(FOUR_CARDS),
            dict,
            GpuRequest(profile),
            create,
            **kwargs,
        )


@pytest.fixture
def claims(clients, busybox_image, hub_id, tmp_path, engine):
    yield Claims(clients, busybox_image, hub_id, tmp_path / "claim.lock")
    for container in engine.api.containers(all=True, filters={"label": f"ds01.hub={hub_id}"}):
        engine.api.remove_container(container["Id"], force=True)


def test_two_hundred_claims_at_once(claims, api, hub_id):
    profiles = ["auto", "1g.10gb", "2g.20gb", "3g.40gb", "full"]
    ledgers = [
        Ledger(claims.clients, installation=lambda: INSTALLATION) for _ in range(4)
    ]  # as of four processes, each with its own cache

    def attempt(number: int):
        one = Claims(claims.clients, claims.image, claims.hub_id, claims.lock_path)
        one.ledger = ledgers[number % len(ledgers)]
        try:
            return one(number, profiles[number % len(profiles)])
        except Refused as refused:
            return refused.refusal

    with ThreadPoolExecutor(ATTEMPTS) as pool:
        answers = list(pool.map(attempt, range(ATTEMPTS)))
    granted = [a for a in answers if isinstance(a, tuple)]
    refused = [a for a in answers if not isinstance(a, tuple)]
    named = []
    for listed in api.containers(all=True, filters={"label": f"ds01.hub={hub_id}"}):
        for request in api.inspect_container(listed["Id"])["HostConfig"]["DeviceRequests"]:
            named += request["DeviceIDs"]
    assert sorted(named) == sorted(d.uuid for d in FOUR_CARDS.devices), "each device in exactly one container"
    assert sorted(d.uuid for placement, _ in granted for d in placement.devices) == sorted(named)
    assert len(granted) + len(refused) == ATTEMPTS
    assert all(r.code == "gpus-full" and "such devices none is free" in r.limit and r.do for r in refused)


def test_a_claim_whose_create_fails_holds_nothing(claims, api):
    def broken(placement):
        raise EngineError("no space left")

    with pytest.raises(EngineError, match="no space left"):
        claim(
            claims.lock_path,
            claims.ledger,
            lambda: GpuReading(FOUR_CARDS),
            dict,
            GpuRequest("full"),
            broken,
        )
    placement, container = claims(1, "full")
    assert [d.uuid for d in placement.devices] == ["GPU-0"]
    with pytest.raises(Refused):
        claims(2, "full")
    api.remove_container(container)
    assert claims(3, "full")[0].ok


def test_a_claim_that_died_after_create_still_holds(claims, busybox_image, hub_id, tmp_path):
    """A process is killed between create and start: its container is the claim, its lock is gone."""
    code = f"""
import docker, os, signal
from ds01spawner.core.installation import Installation
from ds01spawner.engines.docker.lock import claim_lock
from ds01spawner.core.labels import SessionLabels
with claim_lock({str(claims.lock_path)!r}, 10):
    name = {hub_id!r} + "-dead"
    told = SessionLabels("bob", "", "p", {hub_id!r}, "dead", gpu_uuids=("GPU-0",), container=name)
    labels = Installation({INSTALLATION.id!r}, {INSTALLATION.key!r}).sign(told.to_labels())
    client = docker.APIClient(version="1.41")
    client.create_container({busybox_image!r}, ["true"], name=name, labels=labels)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    with pytest.raises(Refused) as refused:
        claims(1, "full", timeout=5)
    assert "1 in use by sessions" in refused.value.refusal.limit


def test_no_lock_no_gpu(claims, api, hub_id):
    with claim_lock(claims.lock_path, 5):
        started = time.monotonic()
        with pytest.raises(LockError, match="nothing was granted"):
            claims(1, "auto", timeout=0.3)
        assert 0.3 <= time.monotonic() - started < 5
    assert mine_in(claims.ledger.read(FOUR_CARDS).holdings, hub_id, api) == set()


def mine_in(holdings: tuple[Holding, ...], hub_id, api) -> set[str]:
    ours = {c["Id"] for c in api.containers(all=True, filters={"label": f"ds01.hub={hub_id}"})}
    return {h.uuid for h in holdings if h.container in ours}


def test_hubs_with_locks_of_their_own_never_both_get_one(clients, busybox_image, hub_id, tmp_path, engine):
    """Each read before the other created: both had the card."""
    both_have_read = threading.Barrier(2)

    def start(number: int) -> str:
        ledger = Ledger(clients, installation=lambda: installation_of(f"{hub_id}{number}"))

        def create(placement) -> str:
            both_have_read.wait(60)
            requests = [{"DeviceIDs": [d.uuid for d in placement.devices], "Capabilities": [["gpu"]]}]
            host = clients().create_host_config(device_requests=requests)
            labels = {"ds01.hub": hub_id}
            return clients().create_container(busybox_image, ["true"], labels=labels, host_config=host)["Id"]

        def undo(container: str) -> None:
            clients().remove_container(container, force=True)

        try:
            _, container = claim(
                tmp_path / f"{number}.lock",
                ledger,
                lambda: GpuReading(FOUR_CARDS),
                dict,
                GpuRequest("full"),
                create,
                undo=undo,
            )
        except Refused as refused:
            if refused.refusal.code != "gpus-taken":
                raise
            return ""
        return container

    try:
        with ThreadPoolExecutor(2) as pool:
            kept = {c for c in pool.map(start, range(2)) if c}
        there = {c["Id"] for c in engine.api.containers(all=True, filters={"label": f"ds01.hub={hub_id}"})}
        assert there == kept, "who gives way leaves nothing"
        assert len(kept) <= 1
    finally:
        for container in engine.api.containers(all=True, filters={"label": f"ds01.hub={hub_id}"}):
            engine.api.remove_container(container["Id"], force=True)


@pytest.mark.parametrize("remembered", [True, False])
def test_a_container_that_runs_and_is_not_listed_still_holds_its_device(
    api, make, clients, hub_id, remembered
):
    """As with an engine that started while its disk was full: it forgets what runs on."""
    uuid = f"MIG-{hub_id}"
    name = f"forgotten-{hub_id}"
    labels = SessionLabels("alice", "", "thesis", hub_id, f"s-{hub_id}", gpu_uuids=(uuid,))
    container = api.create_container(
        api.inspect_container(make())["Image"],
        ["sleep", "600"],
        name=name,
        labels=signed(labels, name, INSTALLATION),
        environment={"DS01_INSTALLATION": INSTALLATION.id, "DS01_GPU_UUIDS": uuid},
    )["Id"]
    try:
        api.start(container)
        forgets = False

        class Forgetful:
            def __getattr__(self, what):
                return getattr(clients(), what)

            def containers(self, **how):
                return [c for c in clients().containers(**how) if not (forgets and c["Id"] == container)]

        reader = Ledger(Forgetful, installation=lambda: INSTALLATION)
        inventory = Inventory("nvml", (Device(uuid, "a slice", "1g.10gb", 10240, 1),))

        def kinds():
            return [h.kind for h in reader.read(inventory).holders(uuid) if h.container == container]

        if remembered:
            assert kinds() == ["session"]
        forgets = True
        for _ in range(2):
            assert kinds() == ["foreign"]
        assert container[:12] in reader.unlisted()[0].what
        forgets = False
        assert kinds() == ["session"]
        forgets = True
        api.remove_container(container, force=True)
        assert kinds() == []
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            api.remove_container(container, force=True)

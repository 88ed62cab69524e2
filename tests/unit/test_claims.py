"""What a container holds, from what the engine says about it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "placement"))
from machines import machine
from support.ours import INSTALLATION, OTHER, signed

from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker import pids
from ds01spawner.engines.docker.claims import holdings_of, process_holdings
from ds01spawner.engines.docker.device_access import evidence_of
from ds01spawner.placement.devices import Card, Device, Holding, Inventory

# Card 0 whole, card 1 with two slices, card 2 whole.
THREE = machine((), ("3g.40gb", "4g.40gb"), ())
CARD1 = ("MIG-1-0", "MIG-1-1")
ALL = ("GPU-0", *CARD1, "GPU-2")
OURS = SessionLabels("alice", "", "thesis", "hub", "s1", gpu_uuids=("MIG-1-0",), expires_at="2026-02-01")


OURS_LABELS = signed(OURS, "box")


def inspect(host=None, env=(), labels=None, state="running", name="box", ident="c" * 64):
    return {
        "Id": ident,
        "Name": f"/{name}",
        "Created": "2026-01-01T00:00:00Z",
        "State": {"Status": state},
        "Config": {"Env": list(env), "Labels": labels},
        "HostConfig": host or {},
    }


def request(driver="", ids=None, count=0, capabilities=(("gpu",),)):
    return {
        "Driver": driver,
        "DeviceIDs": ids,
        "Count": count,
        "Capabilities": [list(c) for c in capabilities],
        "Options": {},
    }


def uuids(*args, inventory=THREE, **kwargs):
    return tuple(h.uuid for h in holdings_of(*args, inventory, installation=INSTALLATION, **kwargs))


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (None, ()),
        ([], ()),
        ([request(ids=["GPU-0"])], ("GPU-0",)),
        ([request(ids=["gpu-0"])], ("GPU-0",)),
        ([request(ids=["MIG-1-1"])], ("MIG-1-1",)),
        ([request(ids=["GPU-1"])], CARD1),
        ([request(ids=["0"])], ("GPU-0",)),
        ([request(ids=["1"])], CARD1),
        ([request(ids=["1:0"])], CARD1),
        ([request(ids=["0", "2"])], ("GPU-0", "GPU-2")),
        ([request(ids=["all"])], ALL),
        ([request(count=-1)], ALL),
        ([request(count=1)], ("GPU-0",)),
        ([request(count=2)], ("GPU-0", *CARD1)),
        ([request(count=9)], ALL),
        # Every request counts, not the first alone.
        ([request(ids=["GPU-0"]), request(ids=["GPU-2"])], ("GPU-0", "GPU-2")),
        ([request(ids=[]), request(count=1)], ("GPU-0",)),
        ([request("nvidia", ["GPU-2"], capabilities=())], ("GPU-2",)),
        ([request("cdi", ["nvidia.com/gpu=MIG-1-0"])], ("MIG-1-0",)),
        ([request("cdi", ["nvidia.com/gpu=all"])], ALL),
        ([request("cdi", ["nvidia.com/gpu=2"])], ("GPU-2",)),
        ([request("cdi", ["nvidia.com/gpu=gpu2"])], ("GPU-2",)),
        ([request("cdi", ["nvidia.com/gpu=1:0"])], CARD1),
        ([request("cdi", ["nvidia.com/mig=mig1:0"])], CARD1),
        ([request("cdi", ["example.org/gpu=GPU-0"])], ("GPU-0",)),
        ([request("cdi", ["amd.com/gpu=all"])], ()),
        ([request("cdi", ["example.org/nic=0"])], ()),
        ([request("cdi", ["nvidia.com/gpu=0", "nvidia.com/gpu=2"])], ("GPU-0", "GPU-2")),
    ],
)
def test_device_requests(requests, expected):
    assert uuids(inspect({"DeviceRequests": requests})) == expected


@pytest.mark.parametrize(
    "state", ["created", "running", "paused", "restarting", "exited", "dead", "removing"]
)
def test_every_state_counts(state):
    assert uuids(inspect({"DeviceRequests": [request(ids=["GPU-0"])]}, state=state)) == ("GPU-0",)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({"Privileged": True}, ALL),
        ({"Devices": [{"PathOnHost": "/dev/nvidia2"}]}, ("GPU-2",)),
        ({"Devices": [{"PathOnHost": "/dev/nvidia1"}]}, CARD1),
        ({"Devices": [{"PathOnHost": "/dev/char/195:0"}]}, ("GPU-0",)),
        ({"Devices": [{"PathOnHost": "/dev"}]}, ALL),
        ({"Devices": [{"PathOnHost": "/dev/nvidiactl"}, {"PathOnHost": "/dev/nvidia-uvm"}]}, ()),
        ({"Devices": [{"PathOnHost": "/dev/fuse"}]}, ()),
        ({"Devices": [{"PathOnHost": "nvidia.com/gpu=GPU-0"}]}, ("GPU-0",)),
        ({"DeviceCgroupRules": ["c 195:* rwm"]}, ALL),
        ({"DeviceCgroupRules": ["c 195:2 rw"]}, ("GPU-2",)),
        ({"DeviceCgroupRules": ["a *:* rwm"]}, ALL),
        ({"DeviceCgroupRules": ["c 195:255 rwm", "c 10:200 rwm", "b 195:0 r"]}, ()),
        ({"Annotations": {"cdi.k8s.io/x": "nvidia.com/gpu=GPU-0,nvidia.com/gpu=GPU-2"}}, ("GPU-0", "GPU-2")),
    ],
)
def test_other_ways_to_a_device(host, expected):
    assert uuids(inspect(host)) == expected


@pytest.mark.parametrize("runtime", ["nvidia", "nvidia-legacy", "something-else"])
@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ((), ()),
        (("NVIDIA_VISIBLE_DEVICES=void",), ()),
        (("NVIDIA_VISIBLE_DEVICES=none",), ()),
        (("NVIDIA_VISIBLE_DEVICES=",), ()),
        (("NVIDIA_VISIBLE_DEVICES=all",), ALL),
        (("NVIDIA_VISIBLE_DEVICES=0,2",), ("GPU-0", "GPU-2")),
        (("NVIDIA_VISIBLE_DEVICES=MIG-1-1",), ("MIG-1-1",)),
        (("CUDA_VERSION=12.4",), ALL),
        (("CUDA_VERSION=12.4", "NVIDIA_VISIBLE_DEVICES=void"), ()),
        (("NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void"), ()),
        (("NVIDIA_VISIBLE_DEVICES=void", "NVIDIA_VISIBLE_DEVICES=all"), ALL),
        (("NVIDIA_VISIBLE_DEVICES=void", "DOCKER_RESOURCE_GPU=GPU-0"), ("GPU-0",)),
    ],
)
def test_the_environment_counts_where_a_runtime_may_obey_it(runtime, env, expected):
    assert uuids(inspect({"Runtime": runtime}, env)) == expected
    assert uuids(inspect({"Runtime": "runc"}, env)) == ()
    # A request without ids runs the hook, which obeys the environment even with plain runc.
    assert uuids(inspect({"Runtime": "runc", "DeviceRequests": [request()]}, env)) == expected


def test_mounts_that_the_runtime_reads_as_devices():
    bind = {"Runtime": "nvidia", "Binds": ["/dev/null:/var/run/nvidia-container-devices/GPU-0:ro"]}
    mount = {"Runtime": "nvidia", "Mounts": [{"Target": "/var/run/nvidia-container-devices/all"}]}
    assert uuids(inspect(bind)) == ("GPU-0",)
    assert uuids(inspect(mount)) == ALL


def test_the_beginning_of_a_uuid_names_every_device_it_fits():
    assert uuids(inspect({"DeviceRequests": [request(ids=["MIG-1"])]})) == CARD1


def test_nodes_count_as_everything_where_minors_are_unknown():
    cards = (*THREE.cards[:2], replace(THREE.cards[2], minor=None))
    inventory = replace(THREE, cards=cards)
    assert uuids(inspect({"Devices": [{"PathOnHost": "/dev/nvidia0"}]}), inventory=inventory) == ("GPU-0",)
    assert uuids(inspect({"Devices": [{"PathOnHost": "/dev/nvidia5"}]}), inventory=inventory) == ALL


def test_a_minor_is_not_an_index():
    cards = tuple(replace(c, minor=2 - c.index) for c in THREE.cards)
    inventory = replace(THREE, cards=cards)
    assert uuids(inspect({"Devices": [{"PathOnHost": "/dev/nvidia0"}]}), inventory=inventory) == ("GPU-2",)


@pytest.mark.parametrize(
    ("name", "state", "former", "expected"),
    [
        # A slice that is gone: its card where it is known, else everything, while the container lives.
        ("MIG-old", "running", {"MIG-old": "GPU-1"}, CARD1),
        ("mig-OLD", "paused", {"MIG-old": "GPU-1"}, CARD1),
        ("MIG-old", "running", {}, ALL),
        ("MIG-old", "what-is-this", {}, ALL),
        ("MIG-GPU-1/7/0", "running", {}, CARD1),
        ("MIG-GPU-gone/7/0", "running", {}, ()),
        # It cannot be started any more.
        ("MIG-old", "created", {"MIG-old": "GPU-1"}, ()),
        ("MIG-old", "exited", {}, ()),
        ("MIG-GPU-1/7/0", "exited", {}, ()),
        # A GPU that is gone is none of those that are offered.
        ("GPU-gone", "running", {}, ()),
        ("GPU-gone", "running", {"GPU-gone": "GPU-gone"}, ()),
        # An index that no card has.
        ("9", "running", {}, ALL),
        ("9", "exited", {}, ()),
    ],
)
def test_names_the_inventory_does_not_know(name, state, former, expected):
    box = inspect({"DeviceRequests": [request(ids=[name])]}, state=state)
    assert uuids(box, former=former) == expected


def test_a_session_tells_who_and_until_when():
    box = inspect({"DeviceRequests": [request(ids=["MIG-1-0"])]}, labels=OURS_LABELS)
    assert holdings_of(box, THREE, installation=INSTALLATION) == (
        Holding(
            uuid="MIG-1-0",
            holder="alice",
            kind="session",
            user="alice",
            session="s1",
            container="c" * 64,
            since="2026-01-01T00:00:00Z",
            until="2026-02-01",
        ),
    )


def test_labels_alone_hold_where_the_engine_knows_no_devices():
    assert uuids(inspect(labels=OURS_LABELS)) == ("MIG-1-0",)


@pytest.mark.parametrize(
    "labels",
    [
        {"ds01.gpu.allocated": "GPU-0", "ds01.gpu.uuid": "GPU-2", "ds01.gpu.uuids": "GPU-0,GPU-2"},
        OURS.to_labels(),
        {**OURS_LABELS, "ds01.gpu.uuids": "GPU-0"},
        {**OURS_LABELS, "ds01.user": "bob"},
        {**OURS_LABELS, "ds01.mac": ""},
        {**OURS_LABELS, "ds01.mac": "0" * 32},
        {**OURS_LABELS, "ds01.mac": "ü" * 32},
        {k: v for k, v in OURS_LABELS.items() if k != "ds01.gpu.uuid"},
        signed(OURS, "another"),
        signed(OURS, "box", by=OTHER),
        {**signed(OURS, "box", by=OTHER), "ds01.installation": INSTALLATION.id},
    ],
)
def test_labels_that_this_installation_did_not_write_hold_only_what_is_attached(labels):
    assert uuids(inspect(labels=labels)) == ()
    box = inspect({"DeviceRequests": [request(ids=["MIG-1-1"])]}, labels=labels)
    (holding,) = holdings_of(box, THREE, installation=INSTALLATION)
    assert (holding.uuid, holding.kind) == ("MIG-1-1", "foreign")
    assert (holding.user, holding.server, holding.session, holding.until) == ("", "", "", "")
    assert "alice" not in holding.holder
    assert "bob" not in holding.holder


def test_labels_only_add_and_never_narrow():
    eve = signed(SessionLabels("eve", "", "p", "hub", "s9", gpu_uuids=("MIG-1-0",)), "box")
    box = inspect({"DeviceRequests": [request(count=-1)]}, labels=eve)
    assert uuids(box) == ALL
    # A name in a label that means nothing takes nothing away and adds nothing.
    odd = SessionLabels("eve", "", "p", "hub", "s9", gpu_uuids=("MIG-nothing", "all", "0"))
    assert uuids(inspect(labels=signed(odd, "box"))) == ()
    stale = inspect({"DeviceRequests": [request(ids=["MIG-old"])]}, labels=eve)
    assert uuids(stale) == ALL


def test_infrastructure_is_exempt_by_name_or_label():
    everything = {"DeviceRequests": [request(count=-1)]}
    assert uuids(inspect(everything, name="dcgm-exporter"), exempt=("dcgm-exporter",)) == ()
    assert uuids(inspect(everything, name="dcgm-exporter-2"), exempt=("dcgm-exporter",)) == ALL
    assert uuids(inspect(everything, labels={"role": "gpu-hub"}), exempt=("role=gpu-hub",)) == ()
    assert uuids(inspect(everything, labels={"role": "x"}), exempt=("role=gpu-hub", "", "=")) == ALL


def test_a_session_is_never_exempt_whatever_its_image_says():
    labels = {**OURS_LABELS, "role": "gpu-hub"}
    assert uuids(inspect(labels=labels), exempt=("role=gpu-hub", "box")) == ("MIG-1-0",)
    theirs = {**signed(OURS, "box", by=OTHER), "role": "gpu-hub"}
    host = {"DeviceRequests": [request(ids=["GPU-0"])]}
    assert uuids(inspect(host, labels=theirs), exempt=("role=gpu-hub", "box")) == ("GPU-0",)


def test_a_foreign_container_is_named():
    found = holdings_of(inspect({"Privileged": True}, name="sad_wolf"), THREE)
    assert {(h.holder, h.kind, h.user) for h in found} == {("container sad_wolf", "foreign", "")}


def test_a_card_without_devices_is_held_by_its_own_name():
    bare = Inventory("nvml", (), (Card("GPU-0", "A", 80000, True, "unready"),))
    assert uuids(inspect({"Privileged": True}), inventory=bare) == ("GPU-0",)


def test_an_inventory_without_cards_counts_indices_in_order():
    bare = Inventory(
        "simulated", (Device("GPU-a", "A", "full", 1), Device("MIG-b", "A", "1g.10gb", 1, 1, "GPU-b"))
    )
    assert uuids(inspect({"DeviceRequests": [request(count=1)]}), inventory=bare) == ("GPU-a",)
    assert uuids(inspect({"DeviceRequests": [request(ids=["1"])]}), inventory=bare) == ("MIG-b",)


@pytest.mark.parametrize("broken", [{}, {"Config": None, "HostConfig": None, "State": None, "Name": None}])
def test_a_bare_inspect_holds_nothing(broken):
    assert holdings_of(broken, THREE) == ()


def test_evidence_keeps_no_duplicates_and_all_swallows_the_rest():
    one = inspect({"DeviceRequests": [request(ids=["GPU-0"]), request(ids=["GPU-0"])]})
    assert evidence_of(one).tokens == (("uuid", "GPU-0"),)
    two = inspect({"Privileged": True, "DeviceRequests": [request(ids=["GPU-0"])]})
    assert evidence_of(two).tokens == (("all", ""),)


@dataclass(frozen=True)
class Proc:
    pid: int
    uuid: str


@pytest.mark.parametrize(
    ("process", "where", "expected"),
    [
        # Explained: its container holds the device, its card, or a slice of the card it is reported on.
        (Proc(1, "MIG-1-0"), {1: "a"}, ()),
        (Proc(1, "GPU-1"), {1: "a"}, ()),
        (Proc(1, "GPU-2"), {1: "infra"}, ()),
        # Not explained: outside every container, in one that holds something else, or nobody can tell.
        (Proc(1, "MIG-1-0"), {}, ("MIG-1-0",)),
        (Proc(1, "MIG-1-1"), {1: "a"}, ("MIG-1-1",)),
        (Proc(1, "MIG-1-0"), {1: "stranger"}, ("MIG-1-0",)),
        (Proc(1, "GPU-1"), {}, CARD1),
        (Proc(1, "MIG-unheard-of"), {}, ALL),
        # The driver tells no PID: the holder's while there is one, else unexplained.
        (Proc(0, "MIG-1-0"), {}, ()),
        (Proc(0, "MIG-1-1"), {}, ("MIG-1-1",)),
    ],
)
def test_processes_that_no_container_explains(process, where, expected):
    claims = (Holding("MIG-1-0", "alice", "session", container="a"),)
    found = process_holdings([process], claims, THREE, lambda p: where.get(p.pid, ""), frozenset({"infra"}))
    assert tuple(h.uuid for h in found) == expected
    assert {(h.kind, h.holder) for h in found} <= {("process", f"process {process.pid}")}


@pytest.mark.parametrize(
    ("cgroup", "expected"),
    [
        (f"12:devices:/docker/{'a1' * 32}\n", "a1" * 32),
        (f"0::/system.slice/docker-{'b2' * 32}.scope\n", "b2" * 32),
        (f"0::/../docker-{'b2' * 32}.scope/init\n", "b2" * 32),
        ("0::/user.slice/user-1000.slice\n", ""),
        ("0::/\n", ""),
        (f"0::/x{'c3' * 40}\n", ""),
    ],
)
def test_the_container_in_a_cgroup_path(cgroup, expected):
    assert pids.container_in(cgroup) == expected


def test_a_process_that_is_gone_runs_in_no_container(tmp_path):
    assert pids.from_proc(4711, tmp_path) == ""
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"0::/docker/{'d4' * 32}\n")
    assert pids.from_proc(7, tmp_path) == "d4" * 32

"""Attaching on real engines: the way chosen, layouts that change under them, and starts that fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from fakes.nvidia import free_majors
from fakes.nvml import card_uuid, slice_uuid
from fakes.probe import Rig, two_cards

from ds01spawner.engines.docker.reach import gpu_lost

SLICE = slice_uuid(1, 1)


@pytest.fixture
def layout(rig: Rig) -> Iterator[Rig]:
    """The rig, put back to its first layout afterwards."""
    yield rig
    two_cards(rig.machine).write()
    rig.publish()


def test_the_way_is_chosen_by_what_the_engine_knows(rig: Rig) -> None:
    attach = rig.attach()
    assert attach.mode == {"cdi": "cdi", "hook": "nvidia"}[rig.way]
    assert dict(attach.blocks) == {}


def test_slices_remade_under_the_engine(layout: Rig) -> None:
    """New slices are not offered until the CDI list has them; a refreshed list counts without a restart."""
    two_cards(layout.machine, generation=1).write()
    new = slice_uuid(1, 1, 1)
    attach = layout.attach()
    if layout.way == "cdi":
        assert set(attach.blocks) == {slice_uuid(1, i, 1) for i in range(3)}
        with pytest.raises(docker.errors.APIError):
            layout.session("plain", [new])
    layout.publish()
    assert dict(layout.attach().blocks) == {}
    assert layout.session("plain", [new]).opened == layout.nodes().of([new])
    # The old name is refused by the engine; it never stands for another slice.
    with pytest.raises(docker.errors.APIError, match=r"unknown device|unresolvable CDI devices"):
        layout.session("plain", [SLICE])


def test_a_failed_start_leaves_a_container_that_holds_nothing_once_removed(rig: Rig) -> None:
    api = rig.engine.client.api
    arguments = rig.arguments("plain", [card_uuid(7)])
    made = api.create_container(**arguments, name="ds01-test-attach", command=["true"])["Id"]
    try:
        with pytest.raises(docker.errors.APIError) as raised:
            api.start(made)
        assert raised.value.status_code in (400, 500)
        assert api.inspect_container(made)["State"]["Status"] == "created"
    finally:
        api.remove_container(made, force=True)
    assert api.containers(all=True, filters={"name": "ds01-test-attach"}) == []


def test_an_empty_request_is_what_we_never_send(rig: Rig) -> None:
    """On the hook path it hands out every GPU to an image that asks: the reason for the rule."""
    arguments = rig.arguments("cuda", [])
    assert "DeviceRequests" not in arguments["host_config"]
    if rig.way == "cdi":
        return
    arguments["user"] = "0:0"
    arguments["environment"].pop("NVIDIA_VISIBLE_DEVICES")
    empty = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    arguments["host_config"]["DeviceRequests"] = [empty]
    assert rig.run(arguments).opened == rig.nodes().all


def test_a_session_whose_gpu_was_taken_away_is_found(rig: Rig) -> None:
    """What systemd does to a hook container at a daemon-reload, done by hand to its device cgroup."""
    api = rig.engine.client.api
    made = api.create_container(**rig.arguments("plain", [SLICE]), command=["sleep", "60"])["Id"]
    try:
        assert gpu_lost(api, made) is None
        api.start(made)
        assert gpu_lost(api, made) is False
        if rig.way == "hook":
            take_away(api.inspect_container(made)["State"]["Pid"])
            assert gpu_lost(api, made) is True
    finally:
        api.remove_container(made, force=True)


def test_a_session_without_a_gpu_cannot_have_lost_one(rig: Rig) -> None:
    api = rig.engine.client.api
    made = api.create_container(**rig.arguments("all", []), command=["sleep", "60"])["Id"]
    try:
        api.start(made)
        assert gpu_lost(api, made) is None
    finally:
        api.remove_container(made, force=True)


def take_away(pid: int) -> None:
    """Deny every NVIDIA device to a process's cgroup (version 1)."""
    (major,) = free_majors(1)
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    (group,) = [line.split(":", 2)[2] for line in lines if "devices" in line.split(":")[1].split(",")]
    cgroup = Path("/sys/fs/cgroup/devices") / group.lstrip("/")
    # A rule is taken back only by its own words.
    rules = [r for r in (cgroup / "devices.list").read_text().splitlines() if r.startswith(f"c {major}:")]
    assert rules
    for rule in rules:
        (cgroup / "devices.deny").write_text(rule)

"""Attaching on real engines: the way chosen, layouts that change under them, and starts that fail."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import pytest
from fakes.nvml import card_uuid, slice_uuid
from fakes.probe import Rig, two_cards

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

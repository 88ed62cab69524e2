"""A session opens exactly its own devices, whatever its image asks for. Asserted against the kernel."""

from __future__ import annotations

import pytest
from fakes.nvml import card_uuid, slice_uuid
from fakes.probe import ABSENT, Rig

SLICE, OTHER, WHOLE = slice_uuid(1, 1), slice_uuid(1, 2), card_uuid(0)
SESSIONS = {"cpu": [], "slice": [SLICE], "two": [SLICE, WHOLE]}


@pytest.mark.parametrize("devices", ["cpu", "slice"])
@pytest.mark.parametrize("image", ["all", "cuda", "mig"])
def test_root_with_mknod_opens_its_own_nodes_only(rig: Rig, image: str, devices: str) -> None:
    uuids = SESSIONS[devices]
    own = rig.nodes().of(uuids)
    seen = rig.session(image, uuids)
    assert seen.opened == own
    # Nodes of other devices are not even there; made by hand, the cgroup denies each of them.
    assert {n for n, result in seen.given.items() if result != ABSENT} == own
    assert {n for n, result in seen.made.items() if result == "denied"} == rig.nodes().all - own
    assert seen.env["DS01_GPU_UUIDS"] == ",".join(uuids)


@pytest.mark.parametrize("devices", ["cpu", "two"])
def test_a_session_as_it_really_is(rig: Rig, devices: str) -> None:
    """With a person's uid and no capabilities: own nodes open, none can be made."""
    uuids = SESSIONS[devices]
    seen = rig.session("all", uuids, as_root=False)
    assert seen.opened == rig.nodes().of(uuids)
    assert set(seen.made.values()) == {ABSENT}


def test_an_administrators_environment_gives_nothing_either(rig: Rig) -> None:
    wish = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_MIG_CONFIG_DEVICES": "all", "CUDA_VERSION": "12.4"}
    assert rig.session("plain", [SLICE], environment=wish).opened == rig.nodes().of([SLICE])


def test_no_node_of_a_neighbour_on_the_same_card(rig: Rig) -> None:
    """Two slices share the card's node; their capability nodes keep them apart."""
    own = rig.session("all", [OTHER]).opened
    neighbour = rig.nodes().of([SLICE])
    assert own == rig.nodes().of([OTHER])
    assert {n.path for n in own & neighbour} == {"/dev/nvidia0", "/dev/nvidiactl"}
    assert len(neighbour - own) == 2


def test_the_harness_sees_a_leak(rig: Rig) -> None:
    """Without our variable the hostile image gets every GPU where the default runtime obeys it.

    This is what the other tests would see if the product forgot ``void``.
    """
    arguments = rig.arguments("all", [])
    arguments["user"] = "0:0"
    arguments["environment"] = {
        k: v for k, v in arguments["environment"].items() if not k.startswith("NVIDIA")
    }
    opened = rig.run(arguments).opened
    obeys = rig.engine.client.info()["DefaultRuntime"] == "nvidia"
    assert opened == (rig.nodes().all if obeys else frozenset())

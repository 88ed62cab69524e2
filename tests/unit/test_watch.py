"""What a session's owner is told about their device."""

from __future__ import annotations

import pytest

from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import EngineSession
from ds01spawner.placement.devices import Block, Card, Device, Inventory
from ds01spawner.service.watch import device_notices

SLICE = Device("MIG-1", "A100 MIG 1g.10gb", "1g.10gb", 9856, 1, parent="GPU-1")
CARD = Card("GPU-1", "A100", 81920, mig_enabled=True)


def record(*uuids: str) -> EngineSession:
    labels = SessionLabels("alice", "", "thesis", "hub", "s1", gpu_uuids=uuids)
    return EngineSession(labels, "c1", "ds01--alice", "running", "Up")


def inventory(**options: object) -> Inventory:
    return Inventory("nvml", (SLICE,), (CARD,), **options)  # type: ignore[arg-type]


CASES = [
    ("nothing is wrong", record("MIG-1"), inventory(), {}, []),
    ("a CPU session", record(), inventory(), {"MIG-1": Block("drained", "fan")}, []),
    (
        "drained slice",
        record("MIG-1"),
        inventory(),
        {"MIG-1": Block("drained", "fan")},
        ["device-drained:s1:MIG-1"],
    ),
    (
        "drained card",
        record("MIG-1"),
        inventory(),
        {"GPU-1": Block("drained", "fan")},
        ["device-drained:s1:GPU-1"],
    ),
    ("a hold of the queue", record("MIG-1"), inventory(), {"MIG-1": Block("reserved", "x")}, []),
    (
        "lost card",
        record("MIG-1"),
        inventory(blocks={"GPU-1": Block("lost", "gone")}),
        {},
        ["device-lost:s1:GPU-1"],
    ),
    ("re-made slice", record("MIG-0"), inventory(), {}, ["device-gone:s1:MIG-0"]),
    ("driver does not answer", record("MIG-0"), inventory(state="error", reason="x"), {}, []),
]


@pytest.mark.parametrize(("name", "session", "devices", "blocks", "keys"), CASES, ids=[c[0] for c in CASES])
def test_what_owners_are_told(name, session, devices, blocks, keys):
    notices = device_notices([session], devices, blocks)
    assert [n.key for n in notices] == keys
    assert all("thesis" in n.text for n in notices)

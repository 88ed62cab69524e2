"""Simulated inventories: what they say, and how a wrong file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ds01spawner.core.errors import InventoryError
from ds01spawner.core.settings import Settings
from ds01spawner.gpu import Activity, read_gpu, read_inventory
from ds01spawner.gpu.simulated import read_simulated

GOOD = """
version: 1
cards:
  - {name: NVIDIA A100-SXM4-80GB, memory: 80g}
  - name: NVIDIA A100-SXM4-80GB
    memory: 81251
    uuid: GPU-one
    mig: [3g.40gb, {profile: 3g.40gb, uuid: MIG-two, memory: 40192m, load: 55, used: 3g}]
  - {name: NVIDIA A30, memory: 24g, mig: []}
  - {name: NVIDIA A30, memory: 24g, state: lost}
  - {name: NVIDIA A30, memory: 24g, mig_pending: true}
  - {name: NVIDIA A30, memory: 24g, count: 2, load: null}
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "gpus.yaml"
    path.write_text(text)
    return path


def test_what_a_file_says(tmp_path: Path) -> None:
    inventory = read_simulated(write(tmp_path, GOOD)).inventory
    assert (inventory.mode, inventory.state) == ("simulated", "ok")
    assert "simulated" in inventory.reason
    found = [(d.profile, d.memory_mib, d.parent, d.index) for d in inventory.devices]
    assert found == [
        ("full", 81920, None, 0),
        ("3g.40gb", 40960, "GPU-one", 101),
        ("3g.40gb", 40192, "GPU-one", 102),
        ("full", 24576, None, 200),
        ("full", 24576, None, 300),
        ("full", 24576, None, 400),
        ("full", 24576, None, 500),
        ("full", 24576, None, 600),
    ]
    states = [
        inventory.blocks[d.uuid].state if d.uuid in inventory.blocks else "ok" for d in inventory.devices
    ]
    assert states == ["ok", "ok", "ok", "unready", "lost", "unready", "ok", "ok"]
    assert inventory.devices[2].uuid == "MIG-two"
    assert len({d.uuid for d in inventory.devices}) == 8


def test_uuids_left_out_are_the_same_at_every_reading(tmp_path: Path) -> None:
    path = write(
        tmp_path, "cards: [{name: A, memory: 8g, count: 2}, {name: B, memory: 80g, mig: [1g.10gb, 1g.10gb]}]"
    )
    first, second = (read_simulated(path).inventory for _ in range(2))
    assert first == second
    assert first.devices[0].uuid == "GPU-2d87d2fd-1336-53e0-bac7-222a924e75d9"


def test_load_and_memory_as_told(tmp_path: Path) -> None:
    activity = read_simulated(write(tmp_path, GOOD)).activity
    assert activity["MIG-two"] == Activity(55.0, 3072, 0)
    last = list(activity.values())[-1]
    assert last == Activity(None, 0, 0)


WRONG = [
    ("cards: [", "not valid YAML"),
    ("[]", "the file"),
    ("cards: {}", "cards: must be a list"),
    ("version: 2\ncards: []", "version: only version 1"),
    ("gpus: []", "the file.gpus: is not a known key"),
    ("cards: [3]", "cards[0]"),
    ("cards: [{name: A, memory: 8g, colour: red}]", "cards[0].colour"),
    ("cards: [{memory: 8g}]", "cards[0].name"),
    ("cards: [{name: A}]", "cards[0].memory"),
    ("cards: [{name: A, memory: lots}]", "'lots' is not a size"),
    ("cards: [{name: A, memory: true}]", "cards[0].memory"),
    ("cards: [{name: A, memory: 8g, count: 0}]", "cards[0].count"),
    ("cards: [{name: A, memory: 8g, count: 65}]", "cards[0].count"),
    ("cards: [{name: A, memory: 8g, count: 2, uuid: GPU-a}]", "cards[0].uuid"),
    ("cards: [{name: A, memory: 8g, uuid: MIG-a}]", "starts with GPU-"),
    ("cards: [{name: A, memory: 8g, uuid: 'GPU-a,GPU-b'}]", "cards[0].uuid"),
    (
        "cards: [{name: A, memory: 8g, uuid: GPU-a}, {name: A, memory: 8g, uuid: GPU-a}]",
        "cards[1].uuid: GPU-a is there twice",
    ),
    ("cards: [{name: A, memory: 8g, mig: 1g.10gb}]", "cards[0].mig: must be a list"),
    ("cards: [{name: A, memory: 80g, mig: [8g.10gb]}]", "cards[0].mig[0].profile"),
    ("cards: [{name: A, memory: 80g, mig: [{memory: 10g}]}]", "cards[0].mig[0].profile"),
    ("cards: [{name: A, memory: 80g, mig: [4g.40gb, 4g.20gb]}]", "8 compute slices"),
    ("cards: [{name: A, memory: 40g, mig: [3g.40gb, 3g.40gb]}]", "81920 MiB together"),
    ("cards: [{name: A, memory: 8g, state: broken}]", "cards[0].state"),
    ("cards: [{name: A, memory: 8g, load: 101}]", "cards[0].load"),
    ("cards: [{name: A, memory: 8g, mig_pending: 1}]", "cards[0].mig_pending"),
]


@pytest.mark.parametrize(("text", "words"), WRONG)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InventoryError) as raised:
        read_simulated(path)
    assert str(path) in str(raised.value)
    assert words in str(raised.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match=r"nowhere\.yaml: cannot be read"):
        read_simulated(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(devices="simulated"), "set inventory to its path"),
        (Settings(devices="simulated", inventory=Path("/nowhere.yaml")), "cannot be read"),
        (Settings(devices="imaginary"), "use auto, nvml, simulated or none"),
    ],
)
def test_a_source_that_cannot_be_read_offers_nothing(settings: Settings, words: str) -> None:
    inventory = read_inventory(settings)
    assert (inventory.state, inventory.devices) == ("error", ())
    assert words in inventory.reason


def test_none() -> None:
    reading = read_gpu(Settings(devices="none"))
    assert (reading.inventory.mode, reading.inventory.state, reading.inventory.devices) == ("none", "ok", ())

"""Health: what keeps a card back, and when it may come back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.gpu import health_file
from ds01spawner.gpu.health import HealthState, assess
from ds01spawner.gpu.reading import CardHealth, GpuReading, XidEvent, failed, from_raw
from ds01spawner.placement.devices import Inventory

START = datetime(2030, 1, 1, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)


def card(index: int, *slices: str, error: int = 0, health: dict | None = None) -> dict:
    """A raw card as the child tells it; with slices it is in MIG mode."""
    raw: dict = {"index": index, "uuid": f"GPU-{index}", "name": "A100", "memory_mib": 81920, "slices": []}
    raw["processes"] = []
    raw |= {"pci": f"00000000:0{index + 1}:00.0", "health": {"errors": [], **(health or {})}}
    if slices:
        raw["mig"] = [1, 1]
        for position, uuid in enumerate(slices):
            told = {"name": "A100 MIG 1g.10gb", "memory_mib": 9728, "processes": []}
            raw["slices"].append({"index": position, "uuid": uuid, **told})
    if error:
        raw["error"] = [error, "nvmlDeviceGetName"]
    return raw


def nameless(index: int) -> dict:
    return {"index": index, "slices": [], "error": [15, "nvmlDeviceGetHandleByIndex"]}


def reading(*cards: dict, xids: tuple[XidEvent, ...] = ()) -> GpuReading:
    return replace(from_raw({"code": 0, "stable": True, "cards": list(cards)}), xids=xids)


def blocked(result: GpuReading) -> dict[str, str]:
    """State of every device that may not be granted."""
    blocks = result.inventory.blocks
    return {d.uuid: blocks[d.uuid].state for d in result.inventory.devices if d.uuid in blocks}


FAULTS = [
    ({"ecc_uncorrected": 1}, "1 uncorrectable memory error since the driver was loaded"),
    ({"ecc_uncorrected": 12}, "12 uncorrectable memory errors"),
    ({"remap_failed": True}, "could not be remapped"),
    ({"recovery_action": 1}, "the GPU must be reset"),
    ({"recovery_action": 2}, "the machine must be rebooted"),
    ({"recovery_action": 99}, "recovery action 99 is needed"),
]


@pytest.mark.parametrize(("health", "words"), FAULTS)
def test_a_fault_blocks_the_card_and_its_slices_only(health: dict, words: str) -> None:
    _, result = assess(HealthState(), reading(card(0, "MIG-a", "MIG-b", health=health), card(1)), START)
    assert blocked(result) == {"MIG-a": "unready", "MIG-b": "unready"}
    assert words in result.inventory.blocks["MIG-a"].reason
    assert [c.state for c in result.inventory.cards] == ["unready", "ok"]


@pytest.mark.parametrize(
    "health",
    [{}, {"ecc_uncorrected": 0, "remap_failed": False, "recovery_action": 0}, {"remap_pending": True}],
)
def test_a_well_card_is_offered_at_once(health: dict) -> None:
    assert blocked(assess(HealthState(), reading(card(0, health=health)), START)[1]) == {}


@pytest.mark.parametrize(
    ("code", "pci", "expected"),
    [(code, "0000:01:00", {}) for code in (13, 31, 43, 45, 68, 109)]
    + [(code, "0000:01:00", {"GPU-0": "unready"}) for code in (48, 63, 64, 79, 94, 95, 119, 154)]
    + [(79, "0000:02:00", {"GPU-1": "unready"}), (79, "0000:09:00", {}), (79, "nonsense", {})],
)
def test_xids(code: int, pci: str, expected: dict[str, str]) -> None:
    events = (XidEvent(pci, code, 10, 5.0),)
    assert blocked(assess(HealthState(), reading(card(0), card(1), xids=events), START)[1]) == expected


def test_an_old_xid_is_history_and_a_known_one_counts_once() -> None:
    old = (XidEvent("0000:01:00", 79, 10, 4000.0),)
    assert blocked(assess(HealthState(), reading(card(0), xids=old), START)[1]) == {}
    events = (XidEvent("0000:01:00", 79, 10, 5.0),)
    state, now = HealthState(), START
    seen = []
    for _ in range(4):
        state, result = assess(state, reading(card(0), xids=events), now)
        seen.append(blocked(result))
        now += MINUTE
    assert seen == [{"GPU-0": "unready"}, {"GPU-0": "unready"}, {}, {}]


def test_a_reboot_counts_the_kernel_log_anew() -> None:
    def look(
        state: HealthState, boot: str, sequence: int, minutes: int
    ) -> tuple[HealthState, dict[str, str]]:
        told = replace(reading(card(0), xids=(XidEvent("0000:01:00", 79, sequence, 5.0),)), boot=boot)
        state, result = assess(state, told, START + minutes * MINUTE)
        return state, blocked(result)

    state, seen = look(HealthState(), "first", 5000, 0)
    assert seen == {"GPU-0": "unready"}
    for minutes in (1, 2):
        state, seen = look(state, "first", 5000, minutes)
    assert seen == {}
    state, seen = look(state, "second", 300, 3)
    assert seen == {"GPU-0": "unready"}


def test_back_only_after_two_healthy_polls_some_time_apart() -> None:
    bad, good = (
        reading(card(0, health={"ecc_uncorrected": 1})),
        reading(card(0, health={"ecc_uncorrected": 0})),
    )
    steps = [  # (seconds since the start, reading, is it blocked?)
        (0, good, False),
        (10, bad, True),
        (15, good, True),  # too soon to count
        (31, good, True),  # first healthy poll
        (33, good, True),  # too soon to count
        (52, good, False),  # second
        (60, bad, True),
        (90, good, True),
        (120, bad, True),  # a relapse starts over
        (150, good, True),
        (180, good, False),
    ]
    state = HealthState()
    for seconds, now_read, expected in steps:
        state, result = assess(state, now_read, START + timedelta(seconds=seconds))
        assert bool(blocked(result)) is expected, seconds


def test_a_lost_card_keeps_its_name_and_slices() -> None:
    state, _ = assess(HealthState(), reading(card(0), card(1, "MIG-a", "MIG-b")), START)
    state, result = assess(state, reading(card(0), nameless(1)), START + MINUTE)
    assert [(d.uuid, d.parent) for d in result.inventory.devices] == [
        ("GPU-0", None),
        ("MIG-a", "GPU-1"),
        ("MIG-b", "GPU-1"),
    ]
    assert blocked(result) == {"MIG-a": "lost", "MIG-b": "lost"}
    assert [(c.uuid, c.state) for c in result.inventory.cards] == [("GPU-0", "ok"), ("GPU-1", "lost")]
    assert result.former == {}
    state, result = assess(state, reading(card(0), card(1, "MIG-a", "MIG-b")), START + 2 * MINUTE)
    assert blocked(result) == {"MIG-a": "unready", "MIG-b": "unready"}
    assert "answers again" in result.inventory.blocks["MIG-a"].reason
    _, result = assess(state, reading(card(0), card(1, "MIG-a", "MIG-b")), START + 3 * MINUTE)
    assert blocked(result) == {}


def test_a_lost_card_that_still_has_a_handle_keeps_its_slices() -> None:
    state, _ = assess(HealthState(), reading(card(0, "MIG-a")), START)
    _, result = assess(state, reading(card(0, error=15)), START + MINUTE)
    assert blocked(result) == {"MIG-a": "lost"}
    assert result.former == {}


def test_a_card_that_vanished_without_a_trace_is_lost_then_forgotten() -> None:
    state, _ = assess(HealthState(), reading(card(0), card(1)), START)
    state, result = assess(state, reading(card(0)), START + MINUTE)
    assert blocked(result) == {"GPU-1": "lost"}
    state, result = assess(state, reading(card(0)), START + timedelta(days=8))
    assert [d.uuid for d in result.inventory.devices] == ["GPU-0"]


def test_a_nameless_lost_card_without_memory_is_listed() -> None:
    _, result = assess(HealthState(), reading(card(0), nameless(1)), START)
    assert blocked(result) == {"GPU-unknown-1": "lost"}


def test_remade_slices_are_remembered_with_their_card() -> None:
    state, _ = assess(HealthState(), reading(card(0, "MIG-a", "MIG-b"), card(1)), START)
    state, result = assess(state, reading(card(0, "MIG-b", "MIG-c"), card(1)), START + MINUTE)
    assert [d.uuid for d in result.inventory.devices] == ["MIG-b", "MIG-c", "GPU-1"]
    assert result.former == {"MIG-a": "GPU-0"}
    assert blocked(result) == {}
    state, result = assess(state, reading(card(0), card(1)), START + 2 * MINUTE)
    assert result.former == {"MIG-a": "GPU-0", "MIG-b": "GPU-0", "MIG-c": "GPU-0"}
    _, result = assess(state, reading(card(0, "MIG-b"), card(1)), START + 3 * MINUTE)
    assert result.former == {"MIG-a": "GPU-0", "MIG-c": "GPU-0"}


@pytest.mark.parametrize("bad", [failed("no answer"), GpuReading(Inventory(mode="none"))])
def test_a_reading_that_failed_changes_nothing_but_tells_what_was(bad: GpuReading) -> None:
    state, _ = assess(HealthState(), reading(card(0, "MIG-a")), START)
    state, _ = assess(state, reading(card(0, "MIG-b", health={"ecc_uncorrected": 1})), START + MINUTE)
    after, result = assess(state, bad, START + 2 * MINUTE)
    assert after == state
    assert result.inventory == bad.inventory
    assert result.former == {"MIG-a": "GPU-0"}


def test_memory_survives_a_restart(tmp_path: Path) -> None:
    state, _ = assess(HealthState(), reading(card(0, "MIG-a"), card(1, health={"remap_failed": True})), START)
    state, _ = assess(state, reading(card(0, "MIG-b"), nameless(1)), START + MINUTE)
    path = tmp_path / "health.json"
    assert health_file.save(path, state)
    assert health_file.load(path) == state
    assert [p.name for p in tmp_path.iterdir()] == ["health.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 0}', '{"version": 1, "cards": {"a": {}}, "former": {}}']
)
def test_a_broken_memory_is_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "health.json"
    path.write_text(text)
    assert health_file.load(path) == HealthState()


def test_a_memory_that_cannot_be_written(tmp_path: Path) -> None:
    assert health_file.save(tmp_path / "no" / "such" / "folder", HealthState()) is False


@given(
    st.lists(
        st.tuples(
            st.integers(1, 90),
            st.lists(st.sampled_from(["ok", "ecc", "lost", "gone"]), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=25,
    )
)
def test_a_faulty_card_is_never_offered_and_a_well_one_comes_back(steps: list[tuple[int, list[str]]]) -> None:
    state, now = HealthState(), START
    for seconds, conditions in steps:
        now += timedelta(seconds=seconds)
        made = {
            "ok": lambda i: card(i),
            "ecc": lambda i: card(i, health={"ecc_uncorrected": 1}),
            "lost": nameless,
        }
        state, result = assess(
            state, reading(*(made[c](i) for i, c in enumerate(conditions) if c in made)), now
        )
        offered = {d.uuid for d in result.inventory.devices} - set(result.inventory.blocks)
        assert offered <= {f"GPU-{i}" for i, c in enumerate(conditions) if c == "ok"}
        uuids = [d.uuid for d in result.inventory.devices]
        assert len(uuids) == len(set(uuids))
    for _ in range(3):
        now += MINUTE
        state, result = assess(state, reading(*(card(i) for i in range(3))), now)
    assert result.inventory.blocks == {}
    assert [d.uuid for d in result.inventory.devices] == ["GPU-0", "GPU-1", "GPU-2"]


def test_health_of_every_card_is_told() -> None:
    told = reading(card(0, health={"ecc_uncorrected": 2, "remap_pending": True}))
    assert told.health == {
        "GPU-0": CardHealth("GPU-0", 0, "00000000:01:00.0", ecc_uncorrected=2, remap_pending=True)
    }


def test_a_clock_that_was_ahead_keeps_a_card_back_no_longer() -> None:
    bad, good = (reading(card(0, health={"ecc_uncorrected": n})) for n in (1, 0))
    state = HealthState()
    steps = [(0, bad, True), (3600, good, True), (10, good, True), (31, good, False)]
    for seconds, now_read, expected in steps:
        state, result = assess(state, now_read, START + timedelta(seconds=seconds))
        assert bool(blocked(result)) is expected, seconds


@pytest.mark.parametrize("off", [3600, -3600])
def test_a_fault_seen_by_a_wrong_clock_is_over_like_any_other(off: int) -> None:
    bad, good = (reading(card(0, health={"ecc_uncorrected": n})) for n in (1, 0))
    state, _ = assess(HealthState(), bad, START + timedelta(seconds=off))
    for seconds in (5, 30, 60):
        state, result = assess(state, good, START + timedelta(seconds=seconds))
    assert blocked(result) == {}

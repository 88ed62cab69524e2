"""Inventories through NVML: every layout, every fault, and slices re-made under a running reader."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes.nvml import A30, A100, H100, RTX, Machine, card_uuid, four_a100, slice_uuid

from ds01spawner.gpu.nvml import CHILD, read_nvml
from ds01spawner.gpu.reading import GpuProcess, GpuReading


def rows(reading: GpuReading) -> list[tuple[str, str, int, int, str | None]]:
    """(uuid, profile, memory, compute slices, state of its block) of each device."""
    inventory = reading.inventory
    assert inventory.state == "ok", inventory.reason
    found = sorted(inventory.devices, key=lambda d: d.index)
    return [
        (
            d.uuid,
            d.profile,
            d.memory_mib,
            d.compute_slices,
            b.state if (b := inventory.blocks.get(d.uuid)) else None,
        )
        for d in found
    ]


def test_four_a100_split_differently(machine: Machine) -> None:
    four_a100(machine).write()
    assert rows(read_nvml()) == [
        (card_uuid(0), "full", 81251, 7, None),
        (slice_uuid(1, 0), "3g.40gb", 40192, 3, None),
        (slice_uuid(1, 1), "2g.20gb", 19968, 2, None),
        (slice_uuid(1, 2), "1g.10gb", 9728, 1, None),
        (slice_uuid(1, 3), "1g.10gb", 9728, 1, None),
        (slice_uuid(2, 0), "2g.20gb", 19968, 2, None),
        (slice_uuid(2, 1), "2g.20gb", 19968, 2, None),
        (slice_uuid(2, 2), "2g.20gb", 19968, 2, None),
        (slice_uuid(2, 3), "1g.10gb", 9728, 1, None),
        (slice_uuid(3, 0), "4g.40gb", 40192, 4, None),
        (slice_uuid(3, 1), "1g.10gb", 9728, 1, None),
        (slice_uuid(3, 2), "1g.10gb", 9728, 1, None),
        (slice_uuid(3, 3), "1g.10gb", 9728, 1, None),
        (slice_uuid(3, 4), "1g.20gb", 19968, 1, None),
    ]


def test_parents_versions_and_minor(machine: Machine) -> None:
    machine.line("driver 570.1").line("cuda 12080").gpu(0, A100, minor=5).split(1, H100, "1g.10gb").write()
    inventory = read_nvml().inventory
    assert (inventory.mode, inventory.driver, inventory.cuda) == ("nvml", "570.1", "12.8")
    assert [(c.uuid, c.minor, c.mig_enabled, c.state) for c in inventory.cards] == [
        (card_uuid(0), 5, False, "ok"),
        (card_uuid(1), 1, True, "ok"),
    ]
    assert [(d.parent, d.card) for d in inventory.devices] == [
        (None, card_uuid(0)),
        (card_uuid(1), card_uuid(1)),
    ]


def test_h100_with_seven_slices_a30_and_a_card_without_mig(machine: Machine) -> None:
    machine.split(0, H100, *["1g.10gb"] * 7).split(1, A30, "2g.12gb", "1g.6gb", "1g.6gb").gpu(2, RTX).write()
    assert rows(read_nvml()) == [
        *[(slice_uuid(0, i), "1g.10gb", 9728, 1, None) for i in range(7)],
        (slice_uuid(1, 0), "2g.12gb", 11968, 2, None),
        (slice_uuid(1, 1), "1g.6gb", 5952, 1, None),
        (slice_uuid(1, 2), "1g.6gb", 5952, 1, None),
        (card_uuid(2), "full", 49140, 7, None),
    ]


def test_holes_in_mig_indices(machine: Machine) -> None:
    machine.gpu(0, A100, mig=1).slices(0, "2g.20gb", "1g.10gb", "1g.10gb", holes=(0, 2, 3)).write()
    assert [r[0] for r in rows(read_nvml())] == [slice_uuid(0, 1), slice_uuid(0, 4), slice_uuid(0, 5)]


@pytest.mark.parametrize(
    ("line", "profile", "compute"),
    [
        ("profile=1g.10gb mem_mib=9728", "1g.10gb", 1),
        ("profile=1g.20gb mem_mib=19968", "1g.20gb", 1),
        ("profile=2g.20gb mem_mib=19968", "2g.20gb", 2),
        ("profile=3g.40gb mem_mib=40192", "3g.40gb", 3),
        ("profile=1c.3g.40gb mem_mib=40192", "1c.3g.40gb", 1),
        ("profile=7g.80gb mem_mib=80768", "7g.80gb", 7),
    ],
)
def test_profile_from_attributes_where_the_name_has_none(
    machine: Machine, line: str, profile: str, compute: int
) -> None:
    machine.gpu(0, A100, mig=1).line(f'mig 0 0 uuid=MIG-x name="NVIDIA A100" {line}').write()
    assert [(r[1], r[3]) for r in rows(read_nvml())] == [(profile, compute)]


@pytest.mark.parametrize("profile", ["1g.10gb+me", "1c.2g.20gb"])
def test_profile_from_the_name(machine: Machine, profile: str) -> None:
    machine.gpu(0, A100, mig=1).line(f"mig 0 0 uuid=MIG-x profile={profile} mem_mib=9728").write()
    assert [r[1] for r in rows(read_nvml())] == [profile]


def test_mig_on_without_slices_is_unready(machine: Machine) -> None:
    machine.gpu(0, A100, mig=1).gpu(1).write()
    reading = read_nvml()
    assert rows(reading) == [
        (card_uuid(0), "full", 81251, 7, "unready"),
        (card_uuid(1), "full", 81251, 7, None),
    ]
    assert "nvidia-smi mig -i 0 -cgi" in reading.inventory.blocks[card_uuid(0)].reason
    assert reading.inventory.cards[0].state == "unready"


@pytest.mark.parametrize(("mig", "pending", "word"), [(0, 1, "on"), (1, 0, "off")])
def test_pending_mig_mode_blocks_the_card(machine: Machine, mig: int, pending: int, word: str) -> None:
    machine.gpu(0, A100, mig=mig, pending=pending).gpu(1)
    if mig:
        machine.slices(0, "1g.10gb")
    machine.write()
    blocks = read_nvml().inventory.blocks
    assert set(blocks) == {card_uuid(0)} | ({slice_uuid(0, 0)} if mig else set())
    assert {b.reason for b in blocks.values()} == {
        f"MIG is being turned {word} and waits for a reset of the card"
    }


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_card_leaves_the_others(machine: Machine, lost: int) -> None:
    machine.gpu(0).gpu(1, A100, lost=lost).gpu(2).write()
    found = rows(read_nvml())
    assert [r[4] for r in found] == [None, "lost", None]
    assert [r[0] for r in found] == [card_uuid(0), "GPU-unknown-1", card_uuid(2)]


FAULTS = [
    ("nvmlDeviceGetMemoryInfo_v2", 15, "lost"),
    ("nvmlDeviceGetRemappedRows", 15, "lost"),
    ("nvmlDeviceGetComputeRunningProcesses_v3", 15, "lost"),
    ("nvmlDeviceGetMigMode", 999, "unready"),
    ("nvmlDeviceGetHandleByIndex_v2", 4, "unready"),
    ("nvmlDeviceGetTotalEccErrors", 16, "unready"),
    ("nvmlDeviceGetComputeRunningProcesses_v3", 4, "unready"),
    ("nvmlDeviceGetComputeRunningProcesses_v3", 3, None),
    ("nvmlDeviceGetTotalEccErrors", 3, None),
    ("nvmlDeviceGetRemappedRows", 13, None),
    ("nvmlDeviceGetMemoryInfo_v2", 13, None),
    ("nvmlDeviceGetMPSComputeRunningProcesses_v3", 13, None),
    ("nvmlDeviceGetMinorNumber", 3, None),
]


@pytest.mark.parametrize(("function", "code", "state"), FAULTS)
def test_a_fault_of_one_card_stays_on_it(
    machine: Machine, function: str, code: int, state: str | None
) -> None:
    machine.gpu(0).gpu(1).gpu(2).line(f"fail {function} 1 {code}").write()
    assert [r[4] for r in rows(read_nvml())] == [None, state, None]


def test_a_fault_of_one_slice_stays_on_it(machine: Machine) -> None:
    machine.split(0, A100, "1g.10gb", "1g.10gb").gpu(1).line("fail nvmlDeviceGetMemoryInfo_v2 0 15").write()
    assert [(r[1], r[4]) for r in rows(read_nvml())] == [("full", "lost"), ("full", None)]


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("nvmlDeviceGetMigDeviceHandleByIndex", 999, "unknown error"),
        ("nvmlDeviceGetMigDeviceHandleByIndex", 4, "may not open"),
        ("nvmlDeviceGetMaxMigDeviceCount", 999, "unknown error"),
    ],
)
def test_no_slices_are_advised_where_they_could_only_not_be_listed(
    machine: Machine, function: str, code: int, said: str
) -> None:
    machine.split(0, A100, "1g.10gb", "1g.10gb").line(f"fail {function} 0 {code}").write()
    block = read_nvml().inventory.blocks[card_uuid(0)]
    assert block.state == "unready"
    assert said in block.reason
    assert "make some" not in block.reason


def test_a_card_without_slices_is_still_told_to_get_some(machine: Machine) -> None:
    machine.split(0, A100).write()
    assert "make some" in read_nvml().inventory.blocks[card_uuid(0)].reason


@pytest.mark.parametrize(
    ("code", "state", "words"),
    [
        (9, "not-loaded", "kernel module is not loaded"),
        (18, "version-mismatch", "reboot the machine"),
        (4, "error", "may not open"),
        (999, "error", "NVML error 999"),
    ],
)
def test_driver_states(machine: Machine, code: int, state: str, words: str) -> None:
    machine.gpu(0).line(f"init {code}").write()
    inventory = read_nvml().inventory
    assert (inventory.state, inventory.devices) == (state, ())
    assert words in inventory.reason


def test_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("not a library")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    inventory = read_nvml().inventory
    assert (inventory.state, inventory.devices) == ("no-driver", ())
    assert "no NVIDIA driver is installed" in inventory.reason


def test_processes_of_cards_and_slices(machine: Machine) -> None:
    machine.gpu(0).split(1, A100, "3g.40gb", "1g.10gb").gpu(2)
    machine.line(f"proc {card_uuid(0)} 11 500").line(f"proc {card_uuid(0)} 12 0 mps")
    machine.line(f"proc {slice_uuid(1, 1)} 13 200").line(f"proc {card_uuid(1)} 14 0").write()
    assert read_nvml().processes == (
        GpuProcess(11, card_uuid(0), 500),
        GpuProcess(12, card_uuid(0), 0),
        GpuProcess(14, card_uuid(1), 0),
        GpuProcess(13, slice_uuid(1, 1), 200),
    )


def test_slices_remade_under_a_running_reader(machine: Machine) -> None:
    """A reading is one of the layouts that were, never a mixture, whatever the moment."""
    layouts = [("1g.10gb", "2g.20gb"), ("3g.40gb", "3g.40gb"), ("2g.20gb", "1g.10gb", "1g.10gb", "1g.10gb")]
    allowed = set()
    for generation, profiles in enumerate(layouts):
        allowed.add(frozenset((slice_uuid(0, i, generation), p) for i, p in enumerate(profiles)))

    def lay_out(generation: int) -> None:
        machine.clear().gpu(0, A100, mig=1).slices(0, *layouts[generation], generation=generation).write()

    lay_out(0)
    stop = threading.Event()

    def remake() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            lay_out(turn % len(layouts))
            time.sleep(0.004)

    thread = threading.Thread(target=remake)
    thread.start()
    try:
        seen = [read_nvml().inventory for _ in range(12)]
    finally:
        stop.set()
        thread.join()
    good = [i for i in seen if i.state == "ok"]
    assert {frozenset((d.uuid, d.profile) for d in i.devices) for i in good} <= allowed
    assert {i.reason for i in seen if i.state != "ok"} <= {
        "the slices of a GPU are being changed right now; the next reading will tell"
    }
    lay_out(2)
    assert frozenset((d.uuid, d.profile) for d in read_nvml().inventory.devices) in allowed


def test_a_layout_that_never_settles_offers_nothing(machine: Machine) -> None:
    machine.gpu(0).write()
    document = {"code": 0, "stable": False, "cards": []}
    fake = machine.path.with_name("child.py")
    fake.write_text(f"print({json.dumps(json.dumps(document))})")
    inventory = read_nvml(child=fake).inventory
    assert (inventory.state, inventory.devices) == ("error", ())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import sys; sys.exit('no way')", "ended with status 1: no way"),
        ("import os; os.kill(os.getpid(), 11)", "died of signal 11"),
        ("print('{')", "cannot be understood"),
        ('print(\'{"code": 0, "stable": true, "cards": [{}]}\')', "cannot be understood"),
        ("print('[]')", "cannot be understood"),
    ],
)
def test_a_child_that_fails_is_an_error_reading(tmp_path: Path, script: str, words: str) -> None:
    child = tmp_path / "child.py"
    child.write_text(script)
    inventory = read_nvml(child=child).inventory
    assert inventory.state == "error"
    assert words in inventory.reason


def test_a_driver_that_hangs(machine: Machine) -> None:
    machine.gpu(0).line("slow nvmlDeviceGetUUID 5000").write()
    started = time.monotonic()
    inventory = read_nvml(timeout=0.4).inventory
    assert time.monotonic() - started < 2
    assert (inventory.state, inventory.devices) == ("error", ())
    assert "did not answer within 0.4 seconds" in inventory.reason


def test_many_who_wait_for_a_hanging_driver_are_answered_together(machine: Machine) -> None:
    machine.gpu(0).line("slow nvmlDeviceGetUUID 5000").write()
    started = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: read_nvml(timeout=0.4).inventory, range(8)))
    assert time.monotonic() - started < 3
    assert {i.state for i in seen} == {"error"}
    machine.clear().gpu(0).write()
    assert "asked again soon" in read_nvml().inventory.reason
    assert read_nvml(clock=lambda: time.monotonic() + 60).inventory.state == "ok"


def test_nothing_is_started_while_a_child_is_stuck(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process in an uninterruptible call survives SIGKILL; here one that was never killed stands for it."""
    sleeper = subprocess.Popen(["sleep", "30"], text=True)
    monkeypatch.setattr("ds01spawner.gpu.nvml._stuck", [sleeper])
    machine.gpu(0).write()
    try:
        assert f"process {sleeper.pid} has hung" in read_nvml().inventory.reason
    finally:
        sleeper.kill()
        sleeper.wait()
    assert read_nvml().inventory.state == "ok"


def test_the_child_is_light(machine: Machine) -> None:
    """It imports pynvml and the standard library only: no pydantic, no YAML, nothing of the product."""
    code = (
        f"import runpy, sys; runpy.run_path({str(CHILD)!r}, run_name='__main__');"
        "print(); heavy = {'pydantic', 'yaml', 'docker', 'ds01spawner'};"
        "print(sorted(heavy & {m.split('.')[0] for m in sys.modules}))"
    )
    machine.gpu(0).write()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

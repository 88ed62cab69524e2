"""GPU signals through the fake NVML: busy, idle, no counter, no answer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fakes.nvml import A100, H100, Machine, card_uuid, slice_uuid
from idle_rows import ALICE, STUDENT, at, decide, having, memory, replace

from ds01spawner.core.settings import Settings
from ds01spawner.gpu import GpuReading, read_gpu
from ds01spawner.idle import gpusignal

ON_GPU = replace(ALICE, holds_gpu=True)


@pytest.fixture
def look(tmp_path: Path):
    return lambda: read_gpu(Settings(state_dir=tmp_path, devices="nvml"), activity=True)


def decided(reading: GpuReading, uuids, before=None):
    """The decision about a session that would be retired now if its GPU did not speak for it."""
    signals = having(
        gpu=gpusignal.load(reading, uuids, before), gpu_change=gpusignal.change(reading, uuids, before)
    )
    made = decide(at(50), ON_GPU, signals, STUDENT, memory(49, 29, warned=40, visible=40))
    ground = next(g for g in made.why if g.name == "gpu")
    return made.state, ground.verdict, ground.measured


def test_a_busy_whole_card_keeps_the_session(machine: Machine, look) -> None:
    machine.gpu(0, A100, util=93).write()
    assert decided(look(), [card_uuid(0)]) == ("active", "active", "GPU 93 %")


def test_memory_held_by_a_finished_notebook_does_not(machine: Machine, look) -> None:
    machine.gpu(0, A100, util=0, used_mib=30000).line(f"proc {card_uuid(0)} 5 30000").write()
    assert decided(look(), [card_uuid(0)]) == ("retire", "idle", "GPU 0 %")


def test_a_busy_slice_on_hopper_keeps_the_session(machine: Machine, look) -> None:
    machine.gpu(0, H100, mig=1, gpm=1).slices(0, "1g.10gb", util=40, used_mib=70).write()
    assert decided(look(), [slice_uuid(0, 0)]) == ("active", "active", "GPU 40 %")


def test_a_slice_without_counters_is_judged_by_memory_and_processes(machine: Machine, look) -> None:
    slice_ = slice_uuid(0, 0)
    machine.gpu(0, A100, mig=1).slices(0, "1g.10gb", used_mib=500).write()
    first = look()
    assert decided(first, [slice_]) == (
        "active",
        "unknown",
        "its GPU could not be measured (its GPU was looked at once only; the next look tells)",
    )
    before = gpusignal.look(first, [slice_])
    assert decided(look(), [slice_], before) == ("retire", "idle", "GPU memory unchanged")
    machine.clear().gpu(0, A100, mig=1).slices(0, "1g.10gb", used_mib=900).write()
    assert decided(look(), [slice_], before) == ("active", "active", "GPU memory changed by 400 MiB")
    machine.line(f"proc {slice_} 5 10").write()
    assert gpusignal.change(look(), [slice_], before).value == math.inf


def test_the_busiest_of_several_devices_speaks(machine: Machine, look) -> None:
    machine.gpu(0, A100, util=0).gpu(1, A100, util=50).write()
    assert gpusignal.load(look(), [card_uuid(0), card_uuid(1)]).value == 0.5


@pytest.mark.parametrize("line", ["init 9", "init 12", "init 18", "init 999"])
def test_a_driver_that_does_not_answer_keeps_the_session(machine: Machine, look, line: str) -> None:
    machine.gpu(0, A100, util=0).line(line).write()
    state, verdict, measured = decided(look(), [card_uuid(0)])
    assert (state, verdict) == ("active", "unknown")
    assert measured.startswith("its GPU could not be measured (")


def test_a_lost_card_or_a_missing_device_keeps_the_session(machine: Machine, look) -> None:
    machine.gpu(0, A100, lost=1).write()
    assert decided(look(), [card_uuid(0)])[:2] == ("active", "unknown")
    assert decided(look(), [card_uuid(7)])[:2] == ("active", "unknown")


def test_a_load_that_could_be_measured_before_is_a_failure_now(machine: Machine, look) -> None:
    machine.gpu(0, A100, util=0).write()
    before = gpusignal.look(look(), [card_uuid(0)])
    machine.line("fail nvmlDeviceGetUtilizationRates 0 999").write()
    failed = look()
    assert decided(failed, [card_uuid(0)], before)[:2] == ("active", "unknown")
    again = gpusignal.look(failed, [card_uuid(0)], before)
    assert decided(failed, [card_uuid(0)], again)[:2] == ("active", "unknown")


def test_no_device_no_signal(machine: Machine, look) -> None:
    assert gpusignal.load(look(), []).status == "unsupported"
    assert gpusignal.change(look(), [], None).status == "unsupported"

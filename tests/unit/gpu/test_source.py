"""The site's source: modes, health between readings, load of slices, and the reader for event loops."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from fakes.nvml import A100, H100, Machine, card_uuid, slice_uuid

from ds01spawner.core.settings import Settings
from ds01spawner.gpu import Activity, GpuReader, GpuReading, read_gpu, read_inventory
from ds01spawner.gpu import xid as kernel_log
from ds01spawner.gpu.reading import XidEvent
from ds01spawner.placement.devices import Inventory

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def quiet_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel log of the machine that runs the tests says nothing about fake cards."""
    monkeypatch.setattr("ds01spawner.gpu.source.read_xids", lambda: ())


def test_auto_uses_nvml_where_it_answers(machine: Machine, tmp_path: Path) -> None:
    machine.gpu(0).write()
    inventory = read_inventory(Settings(state_dir=tmp_path))
    assert (inventory.mode, [d.uuid for d in inventory.devices]) == ("nvml", [card_uuid(0)])


@pytest.mark.parametrize(
    ("devices", "line", "mode", "state"),
    [
        ("auto", "init 12", "none", "ok"),
        ("nvml", "init 12", "nvml", "no-driver"),
        ("auto", "init 9", "nvml", "not-loaded"),
        ("auto", "init 18", "nvml", "version-mismatch"),
    ],
)
def test_a_driver_that_is_there_but_broken_is_not_no_gpu(
    machine: Machine, tmp_path: Path, devices: str, line: str, mode: str, state: str
) -> None:
    machine.gpu(0).line(line).write()
    inventory = read_inventory(Settings(state_dir=tmp_path, devices=devices))
    assert (inventory.mode, inventory.state, inventory.devices) == (mode, state, ())
    assert inventory.reason


def test_processes_of_one_reading_agree_on_a_faulty_card(machine: Machine, tmp_path: Path) -> None:
    """The state between readings is in a file: what one process saw, the next one knows."""
    settings = Settings(state_dir=tmp_path)

    def look(minutes: int) -> dict[str, str]:
        inventory = read_gpu(settings, now=NOW + timedelta(minutes=minutes)).inventory
        return {u: b.state for u, b in inventory.blocks.items()}

    machine.gpu(0).gpu(1, A100, ecc=1).write()
    assert look(0) == {card_uuid(1): "unready"}
    machine.clear().gpu(0).gpu(1).write()
    assert look(1) == {card_uuid(1): "unready"}
    assert look(2) == {}
    machine.clear().gpu(0).gpu(1, A100, lost=1).write()
    assert look(3) == {card_uuid(1): "lost"}


def test_without_a_place_for_its_memory_it_still_answers(machine: Machine) -> None:
    machine.gpu(0, A100, remap_fail=1).write()
    blocks = read_inventory(Settings(state_dir=Path("/proc/nowhere"))).blocks
    assert [b.state for b in blocks.values()] == ["unready"]


def test_load_of_cards_and_slices(machine: Machine, tmp_path: Path) -> None:
    machine.gpu(0, A100, util=30, used_mib=500)
    machine.gpu(1, H100, mig=1, gpm=1).slices(1, "1g.10gb", util=40, used_mib=70)
    machine.gpu(2, A100, mig=1).slices(2, "1g.10gb", util=90).line(f"proc {slice_uuid(2, 0)} 5 10")
    machine.gpu(3).line("fail nvmlDeviceGetUtilizationRates 3 3").write()
    settings = Settings(state_dir=tmp_path)
    assert read_gpu(settings, activity=True).activity == {
        card_uuid(0): Activity(30.0, 500, 0),
        slice_uuid(1, 0): Activity(40.0, 70, 0),
        slice_uuid(2, 0): Activity(None, 0, 1),
        card_uuid(3): Activity(None, 0, 0),
    }
    assert read_gpu(settings).activity[slice_uuid(1, 0)].utilisation is None


KMSG = """\
6,100,1000000,-;usb 1-1: new device
3,101,5000000,-;NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.
 SUBSYSTEM=pci
4,102,7500000,-,caller=T1;NVRM: Xid (PCI:0000:5e:00): 31, pid=77, name=python
6,103,8000000,-;a user's program says NVRM: Xid (PCI:bad): 79
"""


def test_xids_of_the_kernel_log(tmp_path: Path) -> None:
    log, uptime = tmp_path / "kmsg", tmp_path / "uptime"
    log.write_text(KMSG)
    uptime.write_text("10.0 20.0\n")
    assert kernel_log.read_xids(log, uptime) == (
        XidEvent("0000:3b:00", 79, 101, 5.0),
        XidEvent("0000:5e:00", 31, 102, 2.5),
    )
    assert kernel_log.read_xids(tmp_path / "none", uptime) is None


class Source:
    """Readings that take a moment and count themselves."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls = seconds, 0
        self.go = threading.Event()
        self.go.set()

    def __call__(self, settings: Settings, activity: bool) -> GpuReading:
        self.calls += 1
        self.go.wait(5)
        time.sleep(self.seconds)
        return GpuReading(Inventory(mode="none", reason=f"{self.calls} {activity}"))


async def test_the_reader_caches_and_shares() -> None:
    clock = [0.0]
    source = Source(0.05)
    reader = GpuReader(Settings(), ttl=5, read=source, clock=lambda: clock[0])
    first = await asyncio.gather(*(reader.inventory() for _ in range(20)))
    assert {i.reason for i in first} == {"1 False"}
    clock[0] = 4.9
    assert (await reader.inventory()).reason == "1 False"
    clock[0] = 5.1
    assert (await reader.inventory()).reason == "2 False"
    assert (await reader.inventory(max_age=0)).reason == "3 False"
    assert (await reader.read(activity=True)).inventory.reason == "4 True"
    assert (await reader.inventory()).reason == "3 False"
    reader.close()


async def test_who_needs_a_new_reading_does_not_share_an_older_one() -> None:
    source = Source()
    reader = GpuReader(Settings(), read=source)
    source.go.clear()
    older = asyncio.ensure_future(reader.inventory())
    await asyncio.sleep(0.02)
    newer = asyncio.ensure_future(reader.inventory(max_age=0))
    await asyncio.sleep(0.02)
    source.go.set()
    assert [(await older).reason, (await newer).reason] == ["1 False", "2 False"]
    reader.close()


async def test_a_reading_that_takes_too_long_does_not_block_the_loop() -> None:
    source = Source()
    source.go.clear()
    reader = GpuReader(Settings(), timeout=0.1, read=source)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticker = asyncio.ensure_future(tick())
    inventory = await reader.inventory()
    ticker.cancel()
    assert (inventory.state, inventory.devices) == ("error", ())
    assert "within 0.1 seconds" in inventory.reason
    assert ticks >= 5
    source.go.set()
    reader.close()


async def test_a_source_that_raises_is_an_error_reading() -> None:
    def broken(settings: Settings, activity: bool) -> GpuReading:
        raise RuntimeError("no luck")

    reader = GpuReader(Settings(devices="simulated"), read=broken)
    inventory = await reader.inventory()
    assert (inventory.mode, inventory.state) == ("simulated", "error")
    assert "no luck" in inventory.reason
    reader.close()


async def test_a_caller_that_gives_up_does_not_take_the_reading_with_it() -> None:
    source = Source(0.05)
    reader = GpuReader(Settings(), read=source)
    impatient = asyncio.ensure_future(reader.inventory())
    patient = asyncio.ensure_future(reader.inventory())
    await asyncio.sleep(0.01)
    impatient.cancel()
    assert (await patient).reason == "1 False"
    reader.close()

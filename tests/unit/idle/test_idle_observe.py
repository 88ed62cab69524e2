"""One look at several sessions: every sensor fails for itself, and the sessions still get an answer."""

from __future__ import annotations

import errno
import time
from datetime import datetime

import pytest
from idle_rows import TEN, at, failed, known, unsupported

from ds01spawner.core.hub_client import HubServer
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.engine_reader import Running
from ds01spawner.gpu.reading import Activity, GpuReading
from ds01spawner.idle.model import Kernels, Reading
from ds01spawner.idle.observe import Observer, Sensors
from ds01spawner.idle.sample import Sample
from ds01spawner.placement.devices import Device, Inventory

READING = GpuReading(
    Inventory(mode="nvml", devices=(Device("GPU-1", "H100", "full", 1000),)),
    activity={"GPU-1": Activity(50.0, 10, 1)},
)


class Counters:
    def __init__(self, sample=Sample(1.0, 10, ()), error=None) -> None:  # noqa: B008
        self.given, self.error, self.asked = sample, error, []

    def sample(self, containers):
        self.asked.append(list(containers))
        if self.error:
            raise self.error
        return {} if self.given is None else dict.fromkeys(containers, self.given)


class Lab:
    def __init__(self) -> None:
        self.answer: Reading = known(Kernels(open=1))
        self.typed: Reading = known(None)

    async def kernels(self, addresses, port, path):
        return self.answer

    async def terminals(self, addresses, port, path):
        return self.typed


class Folder:
    def __init__(self, keep: float | None = None, error: OSError | None = None) -> None:
        self.keep, self.error = keep, error

    def keep_alive(self) -> float | None:
        if self.error:
            raise self.error
        return self.keep

    def saved_at(self) -> datetime:
        return TEN


def running(user="alice", gpu=()) -> Running:
    labels = SessionLabels(user=user, server="", project="p", hub="h", session=f"s-{user}", gpu_uuids=gpu)
    return Running(f"c-{user}", labels, ("10.0.0.2",))


def observer(host=None, engine=None, lab=None, gpu=lambda: READING, folder=None, timeout=0.3) -> Observer:
    made = folder or Folder()
    sensors = Sensors(
        host or Counters(), engine, lab or Lab(), gpu, lambda user, project: made, timeout=timeout
    )
    return Observer(sensors, 60)


async def look(made: Observer, r: Running | None = None, twice: bool = True):
    r = r or running()
    servers = {("alice", ""): HubServer("alice", "", "/user/alice/", last_activity=at(1), ready=True)}
    found = await made.look([r], servers)
    if twice:
        time.sleep(0.01)
        found = await made.look([r], servers)
    made.close()
    return found[r.labels.session]


async def test_everything_answers():
    found = await look(observer(folder=Folder(keep=5.0)), running(gpu=("GPU-1",)))
    signals = found.signals
    assert (signals.hub, signals.saved, found.keep_file) == (known(at(1)), known(TEN), 5.0)
    assert (signals.cpu.value, signals.network.value, signals.gpu.value) == (0.0, 0.0, 0.5)
    assert signals.kernels.value == Kernels(open=1)
    assert signals.work.value.running == ()
    assert signals.gpu_change.value == 0.0


async def test_the_first_look_is_no_measurement():
    signals = (await look(observer(), twice=False)).signals
    assert [r.status for r in (signals.cpu, signals.network, signals.work)] == ["failed"] * 3


async def test_counters_that_fail_fail_alone():
    signals = (await look(observer(host=Counters(error=OSError("no /proc"))))).signals
    assert [r.status for r in (signals.cpu, signals.network, signals.work)] == ["failed"] * 3
    assert signals.cpu.reason == "its counters could not be read: no /proc"
    assert signals.kernels.status == "known"


async def test_a_driver_that_hangs_does_not_hang_the_look():
    def hang():
        time.sleep(1)
        return READING

    began = time.monotonic()
    signals = (await look(observer(gpu=hang), running(gpu=("GPU-1",)), twice=False)).signals
    assert time.monotonic() - began < 0.9
    assert (signals.gpu.status, signals.gpu_change.status) == ("failed", "failed")


async def test_no_device_no_question():
    def never():
        raise AssertionError("the driver was asked")

    signals = (await look(observer(gpu=never))).signals
    assert (signals.gpu.status, signals.gpu_change.status) == ("unsupported", "unsupported")


@pytest.mark.parametrize(
    ("number", "work"), [(errno.ENOENT, "known"), (errno.ELOOP, "known"), (errno.EIO, "failed")]
)
async def test_a_storage_that_does_not_answer_keeps_the_session(number, work):
    """Perhaps its owner just touched ``.keep-alive``; a missing or odd folder is no such doubt."""
    found = await look(observer(folder=Folder(error=OSError(number, "x"))))
    assert (found.signals.work.status, found.keep_file) == (work, None)


async def test_what_the_host_does_not_tell_the_engine_does():
    partly = Sample(None, None, (), at(2), missing="unreadable")
    engine = Counters(Sample(2.0, 20, (), sees_typing=False))
    signals = (await look(observer(host=Counters(partly), engine=engine))).signals
    assert signals.cpu.value == 0.0
    assert signals.work.value.typed_at == at(2)
    assert engine.asked[0] == ["c-alice"]


async def test_without_keystrokes_the_terminals_own_time_counts():
    lab = Lab()
    engine = Counters(Sample(2.0, 20, (), sees_typing=False))
    for typed, expected in (
        (known(at(3)), known),
        (unsupported("no terminals"), unsupported),
        (failed("no answer"), failed),
    ):
        lab.typed = typed
        signals = (await look(observer(host=Counters(None), engine=engine, lab=lab))).signals
        if expected is failed:
            assert signals.work.status == "failed"
        else:
            assert signals.work.value.typed_at == (at(3) if expected is known else None)


async def test_a_server_the_hub_does_not_know_is_not_asked():
    found = await observer().look([running()], {})
    signals = found["s-alice"].signals
    assert (signals.kernels.status, signals.hub.status) == ("failed", "failed")

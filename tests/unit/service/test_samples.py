"""Points of a session's course, and the idle service's decisions as read from its file."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.engines.base import Counters
from ds01spawner.engines.docker.counters import counters_of
from ds01spawner.gpu.reading import Activity
from ds01spawner.idle.state import IdleFiles
from ds01spawner.service.decisions import Decisions, parse
from ds01spawner.service.samples import NO_LOAD, Samples

NOW = datetime(2026, 3, 3, 14, 0, tzinfo=timezone.utc)
GIB = 2**30


def test_cpu_is_what_was_used_between_two_looks_and_a_gap_stays_a_gap():
    samples = Samples()
    for at, used in [(0, 10.0), (20, 20.0), (40, None), (60, 25.0), (80, 26.0), (100, 1.0)]:
        samples.add("s", float(at), Counters(used, 1.0 * GIB, 4.0 * GIB), cpus=4)
    cpu, memory = samples.series("s")
    assert (cpu.label, cpu.points, cpu.top, cpu.unit) == ("CPU", (0.5, None, None, 0.05, None), 4, "cores")
    assert (memory.points, memory.top) == ((1.0 * GIB,) * 5, 4.0 * GIB)


@pytest.mark.parametrize(
    ("activity", "load", "why", "held"),
    [
        ([Activity(50.0, 1024, 1)], (50.0,), "", (1024.0 * 2**20,)),
        ([Activity(None, 1024, 1)], (None,), NO_LOAD, (1024.0 * 2**20,)),
        ([Activity(50.0, 1024, 1), Activity(80.0, 1024, 1)], (80.0,), "", (2048.0 * 2**20,)),
        ([Activity(50.0, 1024, 1), Activity()], (None,), NO_LOAD, (None,)),
        ([Activity(0.0, 0, 0)], (0.0,), "", (0.0,)),
    ],
)
def test_a_gpu_that_cannot_be_measured_is_not_an_idle_one(activity, load, why, held):
    samples = Samples()
    for at in (0.0, 20.0):
        samples.add("s", at, Counters(), activity=activity, gpu_memory_mib=9728)
    memory, gpu = samples.series("s")[2:]
    assert (gpu.label, gpu.points, gpu.unavailable) == ("GPU activity", load, why)
    assert (memory.label, memory.points) == ("GPU memory", held)


def test_one_look_draws_nothing_and_the_gone_are_forgotten():
    samples = Samples()
    samples.add("s", 0.0, Counters(1.0))
    assert samples.series("s") == ()
    samples.add("s", 20.0, Counters(1.0))
    assert len(samples.series("s")) == 2, "no GPU, no GPU lines"
    samples.keep_only(["other"])
    assert samples.series("s") == ()


@pytest.mark.parametrize(
    ("stats", "look"),
    [
        ({}, Counters()),
        (
            {
                "cpu_stats": {"cpu_usage": {"total_usage": 2_500_000_000}},
                "memory_stats": {"usage": 500, "limit": 1000, "stats": {"total_inactive_file": 200}},
            },
            Counters(2.5, 300.0, 1000.0),
        ),
        ({"memory_stats": {"usage": 500, "stats": {"inactive_file": 100}}}, Counters(None, 400.0, None)),
        ({"cpu_stats": None, "memory_stats": None}, Counters()),
    ],
    ids=["none", "v1", "v2", "stopped"],
)
def test_statistics_of_both_cgroup_versions(stats, look):
    assert counters_of(stats) == look


ROW = {
    "session": "s1",
    "address": "alice",
    "state": "idle",
    "reason": "Idle for 30 min.",
    "why": [{"name": "cpu", "verdict": "idle", "measured": "0.3 %", "threshold": "5 %"}],
    "cause": "idle",
    "retire_at": "2026-03-03T14:30:00+00:00",
    "idle_seconds": 1800.0,
    "limit": 3600.0,
    "pressed": False,
}


async def test_decisions_are_read_from_the_idle_services_file(tmp_path):
    files = IdleFiles(tmp_path)
    assert (await Decisions(files).get(NOW)).decisions == {}
    files.publish(NOW, 60.0, [ROW, {"session": "broken"}])
    found = (await Decisions(files).get(NOW)).decisions
    assert set(found) == {"s1"}
    assert found["s1"].reason == "Idle for 30 min."
    assert found["s1"].retire_at == NOW + timedelta(minutes=30)
    late = await Decisions(files).get(NOW + timedelta(hours=1))
    assert (late.decisions, late.stale, late.at) == ({}, True, NOW)


def test_a_document_that_is_not_understood_explains_nothing():
    assert parse(None).decisions == {}
    assert parse({"sessions": [None, 1, {"session": "x", "why": 3}], "at": "never"}).decisions == {}

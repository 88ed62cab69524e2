"""Limits in real containers: read from the kernel's files, and tried from inside."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ds01spawner.engines.docker import cgroups, launch, limit_check
from ds01spawner.hub.http_errors import SessionRefused

CEILING = """
version: 1
defaults:
  session: {max: 4, cpus: 1, memory: 32m, shm: 8m, pids: 64, ulimits: {nofile: "512:1024"}}
  aggregate: {cpus: 0.5, memory: 128m, pids: 100}
  storage: {minimum_free: {workspace: 10m, host: 10m, engine: 10m}}
"""
MIB = 2**20


@pytest.fixture
def swept(engine, hub_id):
    """The hub's parent cgroups are removed when its containers are gone."""
    yield
    parents = cgroups.Parents(engine.info(), hub_id)
    for name in parents.listed():
        assert parents.remove(name)
    assert parents.listed() == set()


@pytest.fixture
def ceiling(swept, spawner, tmp_path):
    """Makes spawners under a policy with a ceiling over all sessions of a person."""
    (tmp_path / "policy.yaml").write_text(CEILING)
    return spawner


def in_session(engine, one, command):
    """Run a shell line in a session; its exit code and output."""
    code, output = engine.containers.get(one.object_id).exec_run(["sh", "-c", command])
    return code, output.decode()


def version(engine):
    return 2 if str(engine.info()["CgroupVersion"]) == "2" else 1


def found_limits(engine, one):
    container = engine.api.inspect_container(one.object_id)
    return limit_check.read(container["State"]["Pid"], container["Id"], version(engine))


def count_of(engine, folder):
    """Processes in a cgroup and below."""
    root = Path("/sys/fs/cgroup") / ("pids" if version(engine) == 1 else "")
    return int((root / folder.strip("/") / "pids.current").read_text())


async def test_every_limit_is_in_force_in_the_kernels_files(ceiling, engine):
    one = ceiling("alice")
    await one.start()
    found = found_limits(engine, one)
    assert (found.memory, found.memory_and_swap) == (32 * MIB, 32 * MIB)
    assert (found.cpus, found.pids, found.shm) == (0.5, 64, 8 * MIB)
    assert found.hard["nofile"] == 1024
    assert in_session(engine, one, "ulimit -Sn")[1].strip() == "512"
    assert in_session(engine, one, "df -m /dev/shm | tail -1")[1].split()[1] == "8"


async def test_the_start_says_when_the_session_ends_at_the_latest(spawner, engine, tmp_path):
    (tmp_path / "policy.yaml").write_text("version: 1\ndefaults: {session: {memory: 64m, lifetime: 90m}}\n")
    clock = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
    one = spawner("alice", lifetime=3600)
    one.clock = lambda: clock
    await one.start()
    said = [e["message"] for e in one.progress_log.events if e["step"] == "container"]
    assert said == [
        "Container created; it ends at 2026-03-02 13:00 UTC at the latest, and you are warned before"
    ]
    assert engine.containers.get(one.object_id).labels["ds01.expires_at"] == "2026-03-02T13:00:00+00:00"


async def test_a_session_whose_limits_are_not_in_force_is_removed(ceiling, engine, hub_id, monkeypatch):
    """Somebody lifts the limits between create and start: the kernel's files tell."""
    one = ceiling("alice")
    prepare = launch.prepare

    def lifting(client, container, spec):
        prepare(client, container, spec)
        engine.api.update_container(container, mem_limit="64m", memswap_limit="64m")

    monkeypatch.setattr(launch, "prepare", lifting)
    with pytest.raises(SessionRefused) as refused:
        await one.start()
    assert refused.value.refusal.code == "limits-not-in-force"
    assert "memory is 64 MiB instead of 32 MiB" in str(refused.value)
    assert engine.containers.list(all=True, filters={"label": f"ds01.hub={hub_id}"}) == []


async def test_forks_stop_at_the_limit_and_the_session_goes_on(ceiling, engine):
    one = ceiling("alice")
    await one.start()
    _, said = in_session(engine, one, "i=0; while [ $i -lt 5000 ]; do sleep 60 & i=$((i+1)); done 2>&1")
    assert "can't fork" in said
    pid = engine.api.inspect_container(one.object_id)["State"]["Pid"]
    assert 55 <= count_of(engine, limit_check.cgroup_of(pid, "pids", version(engine))) <= 64
    assert await one.poll() is None


async def test_more_cpus_than_the_machine_has_are_cut_to_what_it_has(spawner, engine, tmp_path):
    (tmp_path / "policy.yaml").write_text("version: 1\ndefaults: {session: {cpus: 4096, memory: 64m}}\n")
    one = spawner("alice")
    await one.start()
    assert found_limits(engine, one).cpus == engine.info()["NCPU"]
    label = engine.containers.get(one.object_id).labels["ds01.limits"]
    assert json.loads(label)["cpus"] == engine.info()["NCPU"]


async def test_four_sessions_together_cannot_pass_the_ceiling(ceiling, engine, hub_id):
    ones = [ceiling("alice", f"s{i}") for i in range(4)]
    for one in ones:
        await one.start()
    parents = cgroups.Parents(engine.info(), hub_id)
    folder = cgroups.folder_of(parents.name("alice"))
    assert parents.read(parents.name("alice")) == cgroups.Ceiling(0.5, 128 * MIB, None, 100)
    assert {found_limits(engine, one).parent for one in ones} == {f"/{folder}"}

    def used():
        looks = [engine.api.stats(o.object_id, stream=False, one_shot=True) for o in ones]
        return sum(look["cpu_stats"]["cpu_usage"]["total_usage"] for look in looks)

    for one in ones:
        engine.containers.get(one.object_id).exec_run(["sh", "-c", "while :; do :; done"], detach=True)
    await asyncio.sleep(0.5)
    loop = asyncio.get_running_loop()
    before, began = used(), loop.time()
    await asyncio.sleep(3)
    cpus = (used() - before) / 1e9 / (loop.time() - began)
    assert 0.2 < cpus < 0.65, "four busy sessions share half a CPU"
    for one in ones:
        in_session(engine, one, "for i in $(seq 60); do sleep 60 & done 2>/dev/null")
    assert 90 <= count_of(engine, folder) <= 100


async def test_a_session_that_would_pass_the_memory_ceiling_is_refused(ceiling, tmp_path):
    (tmp_path / "policy.yaml").write_text(CEILING.replace("memory: 128m", "memory: 48m"))
    await ceiling("alice", "a").start()
    with pytest.raises(SessionRefused) as refused:
        await ceiling("alice", "b").start()
    assert refused.value.refusal.code == "aggregate-memory"
    await ceiling("bob").start()


async def test_a_ceiling_below_what_runs_takes_effect_when_it_ends(ceiling, engine, hub_id, tmp_path):
    """A parent cannot be put below its children; the former ceiling holds until they are gone."""
    first = ceiling("alice", "a")
    await first.start()
    (tmp_path / "policy.yaml").write_text(CEILING.replace("cpus: 0.5", "cpus: 0.25"))
    parents = cgroups.Parents(engine.info(), hub_id)
    second = ceiling("alice", "b")
    await second.start()
    assert parents.read(parents.name("alice")).cpus == 0.5
    await first.stop()
    await second.stop()
    await second.start()
    assert parents.read(parents.name("alice")).cpus == 0.25


async def test_a_machine_that_cannot_hold_a_ceiling_says_so_and_starts(ceiling, engine, monkeypatch, caplog):
    monkeypatch.setattr(cgroups.Parents, "problem", lambda self: "it needs root")
    one = ceiling("alice")
    await one.start()
    assert engine.api.inspect_container(one.object_id)["HostConfig"]["CgroupParent"] == ""
    assert "is not enforced: it needs root" in caplog.text
    assert one.site.engine.capabilities().unenforced() == [
        "The ceiling over all sessions of a person is not enforced: it needs root"
    ]


async def test_a_container_that_dies_of_memory_says_the_limit_and_whose_rule_it_is(ceiling):
    one = ceiling("alice", c_cmd=["sh", "-c", "httpd -p 8888; sleep 1; exec tail -c 200m /dev/zero"])
    await one.start()
    for _ in range(100):
        if await one.poll() is not None:
            break
        await asyncio.sleep(0.1)
    reason = one.site.endings.last("alice", "").reason
    assert "its limit of 32 MiB" in reason
    assert "defaults (policy.yaml:" in reason

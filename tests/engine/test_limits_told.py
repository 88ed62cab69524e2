"""What the service does about limits beside the hub: tells of killed processes, clears cgroups."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.engines.docker import cgroups, launch
from ds01spawner.engines.docker.memory import MemoryWatch
from ds01spawner.service import housekeeping

NOW = datetime(2026, 3, 2, 12, tzinfo=timezone.utc)
EAT = "tail -c 200m /dev/zero > /dev/null"


@pytest.fixture
def version(engine):
    return 2 if str(engine.info()["CgroupVersion"]) == "2" else 1


async def test_a_killed_process_is_told_once_and_the_session_goes_on(spawner, engine, version):
    one = spawner("alice", project="thesis")
    await one.start()
    site, watch = one.site, MemoryWatch(version)
    sessions = site.engine.look().sessions
    assert housekeeping.tell_kills(site, watch, sessions, NOW) == 0
    code, _ = engine.containers.get(one.object_id).exec_run(["sh", "-c", EAT])
    assert code == 137
    assert await one.poll() is None
    assert housekeeping.tell_kills(site, watch, sessions, NOW) == 1
    (notice,) = site.store().notices.of("alice", NOW)
    assert "project 'thesis' was ended by the kernel" in notice.text
    assert "all its memory of 64 MiB" in notice.text
    assert (notice.level, notice.session) == ("warning", one.session_id)
    (event,) = [e for e in site.store().events.find(user="alice") if e.action == "limited"]
    assert event.data["session"] == one.session_id
    assert housekeeping.tell_kills(site, MemoryWatch(version), sessions, NOW) == 0, "told before a restart"
    engine.containers.get(one.object_id).exec_run(["sh", "-c", EAT])
    assert housekeeping.tell_kills(site, watch, sessions, NOW + timedelta(minutes=1)) == 1
    assert len(site.store().notices.of("alice", NOW + timedelta(minutes=1))) == 1, "the newer takes the place"


async def test_without_sight_of_the_files_the_engines_events_tell(spawner, engine, version, tmp_path):
    one = spawner("alice")
    await one.start()
    sessions = [r for r in one.site.engine.look().sessions if r.labels.hub == one.hub_id]
    blind = MemoryWatch(version, proc=tmp_path)
    began = datetime.now(timezone.utc)
    assert blind.look(lambda: engine.api, sessions, began) == []
    engine.containers.get(one.object_id).exec_run(["sh", "-c", EAT])
    (kills,) = blind.look(lambda: engine.api, sessions, datetime.now(timezone.utc) + timedelta(seconds=2))
    assert kills.record.labels.session == one.session_id
    assert kills.new >= 1


async def test_parents_of_people_without_sessions_are_removed(spawner, engine, tmp_path):
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ndefaults: {session: {memory: 32m}, aggregate: {memory: 64m}}\n"
    )
    one, two = spawner("alice"), spawner("bob")
    await one.start()
    await two.start()
    parents = one.site.engine.parents()
    both = {parents.name("alice"), parents.name("bob")}
    assert parents.listed() == both
    assert one.site.engine.tidy(NOW) == []
    await two.stop()
    assert one.site.engine.tidy(NOW) == [parents.name("bob")]
    assert parents.remove(parents.name("alice")) is False, "a session runs in it"
    await one.stop()
    assert one.site.engine.tidy(NOW) == [parents.name("alice")]
    assert parents.listed() == set()


async def test_a_parent_between_claim_and_start_is_kept(spawner, engine, tmp_path, monkeypatch):
    """The kernel's cgroup of a container is made at its start; the sweep must not take the parent before."""
    (tmp_path / "policy.yaml").write_text(
        "version: 1\ndefaults: {session: {memory: 32m}, aggregate: {memory: 64m}}\n"
    )
    one = spawner("alice")
    prepare, swept = launch.prepare, []

    def sweeping(*args):
        swept.append(one.site.engine.tidy(NOW))
        prepare(*args)

    monkeypatch.setattr(launch, "prepare", sweeping)
    await one.start()
    assert swept == [[]]
    parents = one.site.engine.parents()
    assert parents.read(parents.name("alice")) == cgroups.Ceiling(
        float("inf"), 64 * 2**20, None, float("inf")
    )
    await one.stop()
    one.site.engine.tidy(NOW)

"""The idle service over minutes: warnings, retires, and everything that may fail on the way."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from idle_rows import GPU_QUIET, QUIET, STUDENT, TEN, at, failed, having, known, replace
from idle_site import Site
from support.rows import ticket

from ds01spawner.idle.arbiter import Arbiter
from ds01spawner.idle.model import KeepAliveCaps, Kernels

BUSY = having(QUIET, kernels=Kernels(busy=("train.ipynb",), open=1))


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.store.close()


async def test_an_idle_session_is_warned_and_then_retired_at_its_time(site):
    assert await site.passes(1) == {"alice": "idle"}
    assert await site.passes(19) == {"alice": "idle"}
    assert site.notices() == []
    assert await site.passes(1) == {"alice": "warned"}  # idle for 20 of 30 minutes, at 10:21
    assert "retired at 10:31 UTC" in site.notices()[0]
    assert "retired at 10:31 UTC" in site.file()
    assert await site.passes(9) == {"alice": "warned"}
    assert site.log == []
    assert await site.passes(1) == {"alice": "retire"}
    assert site.log == ["reason alice", "stop alice"]
    assert site.clock.now == at(31)


async def test_the_reason_is_on_record_before_the_stop(site):
    await site.passes(31)
    record = site.store.sessions.get("s-alice")
    assert record.kind == "idle"
    assert record.reason.startswith("Retired after 30 min idle (limit: 30 min without use (group students))")
    assert record.data["retire"]["grounds"]["cpu"] == "idle: CPU 0.4 % of a core"
    actions = [e.action for e in site.store.events.find(topic="session", user="alice")]
    assert actions == ["started", "warned", "retiring"]


async def test_a_running_cell_keeps_the_session_for_ever(site):
    site.signals["alice"] = BUSY
    assert await site.passes(90) == {"alice": "active"}
    assert site.notices() == []


async def test_use_after_the_warning_withdraws_it(site):
    await site.passes(25)
    assert len(site.notices()) == 1
    site.signals["alice"] = BUSY
    assert await site.passes(1) == {"alice": "active"}
    assert site.notices() == []
    assert "withdrawn: In use: a cell is running (train.ipynb)." in site.file()
    site.signals["alice"] = QUIET
    assert await site.passes(19) == {"alice": "idle"}
    assert await site.passes(1) == {"alice": "warned"}
    assert len(site.notices()) == 1


async def test_a_dismissed_warning_stays_away_and_a_fresh_one_comes(site):
    await site.passes(21)
    notice = site.store.notices.of("alice", site.clock.now)[0]
    assert site.store.notices.dismiss(notice.id, "alice", site.clock.now)
    await site.passes(5)
    assert site.notices() == []
    site.signals["alice"] = BUSY
    await site.passes(1)
    site.signals["alice"] = QUIET
    await site.passes(20)
    assert len(site.notices()) == 1


@pytest.mark.parametrize("restart", [False, True])
async def test_a_warning_does_not_outlive_its_session(site, restart):
    await site.passes(25)
    assert len(site.notices()) == 1
    site.up.discard("alice")
    if restart:
        site.restart()
    await site.passes(1)
    assert site.notices() == []


async def test_nobody_is_retired_whose_warning_could_not_be_shown(site):
    (site.root / "alice/p").rename(site.root / "alice/away")  # no file either
    add = site.store.notices.add
    site.store.notices.add = None
    assert await site.passes(60) == {"alice": "warned"}
    assert site.log == []
    site.store.notices.add = add
    assert await site.passes(10) == {"alice": "warned"}
    assert await site.passes(1) == {"alice": "retire"}


@pytest.mark.parametrize("what", ["hub", "engine", "store", "gpu", "kernels", "cpu"])
@pytest.mark.parametrize("begin", [5, 29])
async def test_ten_minutes_without_a_sensor_retire_nobody_before_a_fresh_warning(site, what, begin):
    site.uuids["alice"], site.signals["alice"] = ("GPU-1",), GPU_QUIET
    await site.passes(begin)
    warned_before = len(site.notices())

    def fail(down):
        if what == "hub":
            site.hub.down = down
        elif what in ("engine", "store"):
            setattr(site, f"{what}_down", down)
        else:
            broken = replace(GPU_QUIET, **{what: failed("no answer")})
            site.signals["alice"] = broken if down else GPU_QUIET

    fail(True)
    await site.passes(10)
    assert site.log == []
    fail(False)
    recovered = site.clock.now
    warnings = len(site.store.events.find(topic="session", user="alice"))
    while not site.log:
        await site.passes(1)
    events = site.store.events.find(topic="session", user="alice")[warnings:]
    fresh = next(e for e in events if e.action == "warned")
    assert fresh.at > recovered
    assert site.clock.now - fresh.at >= timedelta(seconds=STUDENT.warn_lead)
    assert site.clock.now >= at(31 + 10)  # the ten minutes counted for nobody
    assert warned_before == (1 if begin >= 21 else 0)


async def test_a_restart_of_the_service_changes_nothing(site):
    for _ in range(31):
        await site.passes(1)
        site.restart()
    assert site.log == ["reason alice", "stop alice"]
    assert site.clock.now == at(31)


async def test_a_lost_memory_gives_the_whole_time_again(site, caplog):
    await site.passes(29)
    (site.folder / "idle-memory.json").write_text('{"version": 1, "sessions": [{"session":')
    site.restart()
    assert "every session gets its whole idle time" in caplog.text
    assert (site.folder / "idle-memory.bad").exists()
    assert await site.passes(30) == {"alice": "warned"}
    assert await site.passes(1) == {"alice": "retire"}


async def test_use_found_right_before_the_stop_keeps_the_session(tmp_path):
    site = Site(tmp_path, users=("alice", "bob"))
    site.recheck["alice"] = BUSY
    await site.passes(31)
    assert site.log == ["reason bob", "stop bob"]


async def test_a_session_started_anew_meanwhile_is_not_stopped_in_place_of_the_old_one(site):
    await site.passes(30)
    servers = site.hub.servers

    async def then_restarted():
        found = await servers()
        site.started["alice"] = site.clock.now
        return found

    site.hub.servers = then_restarted
    await site.passes(1)
    assert site.log == []


async def test_a_keep_alive_asked_right_before_the_stop_counts(site):
    site.rules = replace(STUDENT, keep_alive=KeepAliveCaps(3600, 3600, 3600, 3600))
    await site.passes(30)
    look = site.service.parts.observer.look

    async def then_clicks(running, servers):
        if len(site.log) == 0:
            site.store.extensions.grant("s-alice", "alice", site.clock.now, 3600, by="alice", source="button")
        return await look(running, servers)

    site.service.parts.observer.look = then_clicks
    assert await site.passes(1) == {"alice": "retire"}
    assert site.log == []
    assert await site.passes(1) == {"alice": "idle"}


async def test_a_stop_that_fails_is_finished_on_the_engine(site):
    site.hub.answer = "error"
    while "ask alice" not in site.steps:
        await site.passes(1)
    assert [s for s in site.steps if s != "go on"] == ["ask alice", "end alice"]
    assert site.service.counters()["retired"] == {"idle": 1}


async def test_a_server_that_already_stops_is_left_alone(site):
    await site.passes(30)
    site.hub.pending.add("alice")
    assert await site.passes(5) == {}
    assert site.log == []


async def test_a_touched_keep_alive_file_extends_once_and_within_the_cap(site):
    site.rules = replace(STUDENT, keep_alive=KeepAliveCaps(3600, 3600, 3600, 3600))
    await site.passes(25)
    site.touched["alice"] = site.clock.now.timestamp()
    assert await site.passes(1) == {"alice": "idle"}
    assert site.store.extensions.total("s-alice") == 3540  # an hour from the touch, found a minute later
    assert "Kept alive until 11:25 UTC" in site.file()
    assert await site.passes(48) == {"alice": "idle"}
    assert await site.passes(1) == {"alice": "warned"}
    assert site.clock.now == at(75)
    site.touched["alice"] = site.clock.now.timestamp()
    await site.passes(1)
    site.touched["alice"] = site.clock.now.timestamp()
    await site.passes(1)
    assert site.store.extensions.total("s-alice") == 3600
    assert "is used up" in site.file()
    while not site.log:
        await site.passes(1)
    # The minute that was left moved the end, so the warning was given afresh.
    assert site.clock.now <= at(75 + 12)


async def test_keep_alive_switched_off_refuses_the_file(site):
    site.rules = replace(STUDENT, keep_alive=KeepAliveCaps(0, 0, 0, 3600))
    site.touched["alice"] = at(0.5).timestamp()
    await site.passes(1)
    assert site.store.extensions.find(session="s-alice") == []
    assert "switched off" in site.file()


async def test_scarce_devices_shorten_the_timeout_but_not_the_lead(site):
    site.uuids["alice"], site.signals["alice"] = ("GPU-1",), GPU_QUIET
    site.share = 1.0
    site.store.tickets.find = lambda *a, **k: [ticket()]
    while not site.log:
        await site.passes(1)
    assert site.clock.now == at(1 + 15)
    warned = next(e for e in site.store.events.find(topic="session") if e.action == "warned")
    assert site.clock.now - warned.at >= timedelta(seconds=STUDENT.warn_lead)


async def test_maintenance_ends_sessions_in_use_with_its_reason(site):
    site.signals["alice"] = BUSY
    site.store.blocks.add_maintenance(at(60), "new driver", "ops", TEN, until=at(120))
    assert await site.passes(29) == {"alice": "active"}
    assert await site.passes(1) == {"alice": "warned"}
    assert "new driver (ops)" in site.notices()[0]
    assert await site.passes(30) == {"alice": "retire"}
    assert site.store.sessions.get("s-alice").reason.startswith("Retired: new driver (ops)")


async def test_maintenance_of_a_device_concerns_its_holders_only(tmp_path):
    site = Site(tmp_path, users=("alice", "bob"))
    site.signals = {"alice": having(BUSY, gpu=known(0.0)), "bob": BUSY}
    site.uuids["alice"] = ("GPU-1",)
    site.store.blocks.add_maintenance(at(60), "new fan", "ops", TEN, uuid="GPU-1")
    assert await site.passes(60) == {"alice": "retire", "bob": "active"}


async def test_a_dry_run_decides_the_same_and_touches_nothing(tmp_path):
    site = Site(tmp_path, dry_run=True)
    assert await site.passes(31) == {"alice": "retire"}
    assert site.log == []
    assert site.notices() == []
    assert site.file() == ""
    assert not (site.folder / "idle-memory.json").exists()


async def test_stops_are_made_side_by_side_up_to_the_bound(tmp_path):
    users = tuple(f"u{i}" for i in range(12))
    site = Site(tmp_path, users=users, parallel=5)
    now, most = 0, 0
    full = asyncio.Event()
    stop = site.hub.stop

    async def slow(user, server, remove):
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 5:
            await asyncio.sleep(0.05)  # room for a sixth that should not come
            full.set()
        await asyncio.wait_for(full.wait(), 30)
        now -= 1
        return await stop(user, server, remove)

    site.hub.stop = slow
    await site.passes(31)
    assert site.up == set()
    assert most == 5


async def test_decisions_are_published_for_pages_and_commands(site):
    await site.passes(5)
    document = json.loads((site.folder / "idle.json").read_text())
    shown = document["sessions"][0]
    assert (shown["address"], shown["state"], shown["retire_at"]) == (
        "alice",
        "idle",
        at(31).isoformat(),
    )
    names = [g["name"] for g in shown["why"]]
    assert names == ["kernels", "terminals", "saved", "cpu", "network", "gpu", "hub"]
    counters = document["counters"]
    assert (counters["passes"], counters["failures"], counters["retired"]) == (4, 0, {})  # before the fifth
    assert site.service.parts.files.published(site.clock.now)["stale"] is False
    assert site.service.parts.files.published(site.clock.now + timedelta(minutes=10))["stale"] is True


async def test_the_arbiter_says_yes_only_to_what_is_due(site):
    arbiter = Arbiter(site.service)
    ask = {"inactive": timedelta(days=9), "inactive_limit": 1, "server": {"full_name": "alice/"}}
    assert await arbiter(**ask) is False
    await site.passes(29)
    site.clock.now += timedelta(minutes=1)
    assert await Arbiter(site.service)(**ask) is True
    assert site.log == ["reason alice"]
    assert await Arbiter(site.service)(**{**ask, "server": {"full_name": "bob/"}}) is False
    site.hub.down = True
    assert await Arbiter(site.service)(**ask) is False

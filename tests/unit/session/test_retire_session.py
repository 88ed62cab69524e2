"""`DS01Spawner.stop` and its kin: what the hub is told happened, whatever the engine does."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from jupyterhub import orm
from jupyterhub.objects import Hub
from support.played_engine import PlayedEngine, api_error, log_tail
from traitlets.config import Config

from ds01spawner.core.errors import EngineError, Refused
from ds01spawner.core.installation import make as make_installation
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.engine import Docker
from ds01spawner.hub.join import join_running
from ds01spawner.hub.spawner import DS01Spawner
from ds01spawner.hub.start import Start
from ds01spawner.intents.intent import intend
from ds01spawner.messages import end_clauses
from ds01spawner.site import Site

ALICE = SessionLabels(
    "alice", "", "thesis", "hub", "s1", "sha256:1", "lab", ("GPU-1",), 1.0, "2026-11-28T10:00:00+00:00"
)

SERVER = {"proto": "http", "ip": "1.2.3.4", "port": 8888, "base_url": "/user/alice/", "cookie_name": "t"}


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.setattr("ds01spawner.engines.docker.retire.log_tail", log_tail)
    return PlayedEngine(make_installation(tmp_path))


@pytest.fixture
def make(tmp_path, engine, monkeypatch):
    """Makes a spawner of alice's, as after a hub's restart: it knows what its state says."""
    monkeypatch.setattr(Site, "_sites", {})
    (tmp_path / "gpus.yaml").write_text("version: 1\ncards: [{uuid: GPU-1, name: S, memory: 80g}]\n")

    def make(state=None, **traits):
        config = {
            "state_dir": str(tmp_path),
            "workspace_root": str(tmp_path),
            "devices": "simulated",
            "inventory_file": str(tmp_path / "gpus.yaml"),
            "retire_grace": 1,
            "retire_patience": 0,
            **traits,
        }
        user = SimpleNamespace(
            name="alice", url="/user/alice", groups=[], admin=False, settings={}, escaped_name="alice"
        )
        made = DS01Spawner(
            config=Config(DS01Spawner=config),
            user=user,
            orm_spawner=SimpleNamespace(name="", user_options={}, server=orm.Server(**SERVER), state={}),
            hub=Hub(ip="127.0.0.1", port=8081),
        )
        made.site.__dict__["engine"] = Docker(made.site.settings, engine)
        monkeypatch.setattr(made.site.carrier, "kick", lambda: made.site.__dict__.update(kicked=True))
        made.user_options = {"project": "thesis"}
        made.load_state(state or {"object_id": "c-s1", "ds01": {"v": 1, "session": "s1"}})
        return made

    return make


async def test_a_retire_is_over_when_the_container_is_gone(make, engine):
    engine.add(ALICE)
    spawner = make()
    await spawner.stop()
    assert engine.containers == {}
    assert spawner.site.intents.open() == []
    assert spawner.site.endings.last("alice", "").reason == end_clauses.THROUGH_HUB
    assert spawner.get_state() == {}


async def test_a_session_that_ran_when_it_was_stopped_ended_by_that_whatever_the_clocks_say(make, engine):
    engine.add(ALICE)
    engine.ends_at = "2026-01-01T00:00:00.000000000Z"  # long before the decision, by the hub's clock
    spawner = make()
    await spawner.stop()
    spawner.site.endings.flush()
    assert spawner.site.store().ends.of("s1").reason == end_clauses.THROUGH_HUB


async def test_the_intent_is_on_the_disk_before_the_engine_is_asked_for_anything(make, engine):
    engine.add(ALICE)
    spawner, seen = make(), []
    engine.fails["stop"] = lambda: seen.append(spawner.site.intents.get("s1"))
    await spawner.stop()
    assert [i.kind for i in seen] == ["stopped"]


@pytest.mark.parametrize(
    "failure",
    [
        {"down": True},
        {"stays": True},
        {"fails": {"remove_container": api_error(500)}},
        {"fails": {"remove_container": api_error(409)}},
    ],
)
async def test_a_retire_that_failed_is_not_told_as_done_and_goes_on(make, engine, failure, monkeypatch):
    engine.add(ALICE)
    spawner = make()
    sleep = asyncio.sleep
    monkeypatch.setattr("ds01spawner.hub.retire.asyncio.sleep", lambda s: sleep(0))
    monkeypatch.setattr("ds01spawner.engines.docker.retire.VERIFY_S", 0.05)
    for name, value in failure.items():
        setattr(engine, name, value)
    with pytest.raises(EngineError):
        await spawner.stop()
    (intent,) = spawner.site.intents.open()
    assert (intent.session, intent.container, intent.user, intent.project) == (
        "s1",
        "c-s1",
        "alice",
        "thesis",
    )
    assert intent.problem
    assert spawner.site.endings.last("alice", "") is None
    assert spawner.site.__dict__["kicked"]
    assert engine.containers


async def test_while_the_engine_is_away_the_hub_keeps_stopping(make, engine, monkeypatch):
    engine.add(ALICE)
    spawner, pauses = make(retire_patience=60), []
    engine.down = True

    async def sleep(seconds):
        pauses.append(seconds)
        engine.down = len(pauses) < 3

    monkeypatch.setattr("ds01spawner.hub.retire.asyncio.sleep", sleep)
    await spawner.stop()
    assert pauses == [0.5, 1.0, 2.0]
    assert engine.containers == {}
    assert spawner.site.intents.open() == []


async def test_a_full_disk_does_not_keep_a_session_alive(make, engine, monkeypatch):
    engine.add(ALICE)
    spawner = make()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ds01spawner.intents.files.os.open", full)
    await spawner.stop()
    assert engine.containers == {}


async def test_the_reason_of_whoever_asked_first_is_told(make, engine):
    engine.add(ALICE)
    spawner = make()
    spawner.site.intents.ask(
        intend(ALICE, spawner.clock(), reason="idle for an hour", kind="idle", by="x", container="c-s1")
    )
    await spawner.stop()
    ending = spawner.site.endings.last("alice", "")
    assert (ending.reason, ending.kind) == ("idle for an hour", "idle")


async def test_a_hub_that_lost_the_sessions_id_reads_it_from_the_labels(make, engine):
    engine.add(ALICE)
    spawner = make({"object_id": "c-s1"})
    engine.stays = True
    with pytest.raises(EngineError):
        await spawner.stop()
    assert [i.session for i in spawner.site.intents.open()] == ["s1"]


# --- looking ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("due", "kicked"), [(True, True), (False, False)])
async def test_a_hub_goes_on_with_a_retirement_of_before_its_restart(make, engine, due, kicked):
    engine.add(ALICE, name="ds01--alice")
    spawner = make()
    now = spawner.clock()
    when = None if due else now + timedelta(days=1)
    spawner.site.intents.ask(
        intend(ALICE, now, reason="r", kind="orphan", by="x", container="c-s1", due=when)
    )
    assert await spawner.poll() is None
    assert spawner.site.__dict__.get("kicked", False) is kicked


# --- a start that finds the former session --------------------------------------------------------


@pytest.fixture
def found(make, engine, monkeypatch):
    """A spawner whose container runs, though it knows nothing of it."""
    engine.add(ALICE, name="ds01--alice")
    spawner = make()
    spawner.object_id, spawner.session_id = "", "new"
    monkeypatch.setattr(spawner, "get_ip_and_port", lambda: asyncio.sleep(0, ("1.2.3.4", 8888)))
    return spawner


async def test_it_is_joined_and_described_as_what_it_is(found, engine):
    assert await join_running(found, found.retirement) == ("1.2.3.4", 8888)
    assert found.session_id == "s1"
    assert found.user_options["gpu"] == "full"
    assert found.user_options["profile"] == "thesis · lab · full"
    assert engine.containers


async def test_an_orphan_is_given_back(found, engine):
    now = found.clock()
    found.site.intents.ask(
        intend(
            ALICE,
            now,
            reason="lost",
            kind="orphan",
            by="x",
            container="c-s1",
            due=now.replace(year=now.year + 1),
        )
    )
    assert await join_running(found, found.retirement) == ("1.2.3.4", 8888)
    assert found.site.intents.open() == []


async def test_one_that_is_being_retired_is_finished_first(found, engine):
    found.site.intents.ask(intend(ALICE, found.clock(), reason="idle", kind="idle", by="x", container="c-s1"))
    assert await join_running(found, found.retirement) is None
    assert engine.containers == {}
    assert found.site.intents.open() == []


async def test_one_that_cannot_be_retired_now_refuses_the_start(found, engine, monkeypatch):
    monkeypatch.setattr("ds01spawner.engines.docker.retire.VERIFY_S", 0.05)
    found.site.intents.ask(intend(ALICE, found.clock(), reason="idle", kind="idle", by="x", container="c-s1"))
    engine.stays = True
    with pytest.raises(Refused, match="the container engine does not answer yet"):
        await join_running(found, found.retirement)


async def test_a_start_that_could_not_be_cleared_is_cleared_later(make, engine):
    spawner = make()
    spawner.object_id = ""
    engine.down = True
    start = Start(spawner, spawner.retirement)
    await start.discard()
    (intent,) = spawner.site.intents.open()
    assert (intent.session, intent.kind, intent.name) == (start.session, "failed", spawner.object_name)
    assert spawner.site.__dict__["kicked"]


async def test_what_ended_by_itself_is_removed_only_when_its_record_is_kept(make, engine, monkeypatch):
    engine.add(ALICE, "exited", name="ds01--alice")
    engine.containers["c-s1"]["State"]["FinishedAt"] = "2026-11-28T10:30:00.000000000Z"
    spawner, there = make(), []
    write = spawner.site.endings.write

    def slow(report):
        time.sleep(0.3)  # a store that another process has locked
        there.append(list(engine.containers))
        return write(report)

    monkeypatch.setattr(spawner.site.endings, "write", slow)
    await spawner.poll()
    assert there == [["c-s1"]]
    assert engine.containers == {}


@pytest.mark.parametrize("how", ["it fails", "it takes long"])
async def test_a_record_that_cannot_be_kept_keeps_no_device(make, engine, monkeypatch, how):
    monkeypatch.setattr("ds01spawner.hub.retire.WRITTEN_S", 0.1)
    engine.add(ALICE, "exited", name="ds01--alice")
    spawner, over = make(), threading.Event()
    fails = {"it fails": lambda report: 1 / 0, "it takes long": lambda report: over.wait(30)}
    monkeypatch.setattr(spawner.site.endings, "write", fails[how])
    try:
        assert await spawner.poll() == "ExitCode=0"
        assert engine.containers == {}
    finally:
        over.set()


async def test_what_ended_and_cannot_be_removed_is_removed_later(make, engine):
    engine.add(ALICE, "exited", name="ds01--alice")
    spawner = make()
    engine.fails["remove_container"] = api_error(500)
    assert await spawner.poll() == "ExitCode=0"
    assert [i.kind for i in spawner.site.intents.open()] == ["ended"]


async def test_an_engine_that_hangs_does_not_keep_the_decision_off_the_disk(make, engine, monkeypatch):
    engine.add(ALICE, name="ds01--alice")
    spawner = make(retire_patience=3600)
    hangs = threading.Event()
    monkeypatch.setattr("ds01spawner.hub.retire.LOOK_S", 0.05)
    for method in ("inspect_container", "stop", "logs", "remove_container", "ping"):
        engine.fails[method] = hangs.wait
    try:
        assert await spawner.poll() is None  # as the hub does before it stops a server
        stopping = asyncio.ensure_future(spawner.stop())
        while not spawner.site.intents.open():
            assert not stopping.done()
            await asyncio.sleep(0.01)
    finally:
        hangs.set()
    engine.fails = {}
    await stopping
    assert engine.containers == {}

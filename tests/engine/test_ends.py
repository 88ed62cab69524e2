"""How sessions end, on a real engine: history has the engine's own time and the true reason."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.core.ending import Clock
from ds01spawner.engines.docker import endings as engine_endings
from ds01spawner.engines.docker.retire import end
from ds01spawner.service import ends as service_ends
from ds01spawner.service.housekeeping import tidy
from ds01spawner.store.ending_log import Endings

SERVE = "httpd -p 8888; "
GPU = {"gpu": "1g.10gb"}


def now():
    return datetime.now(timezone.utc)


def engines_end(engine, session, since):
    """The end of a session's container by the engine's events, as (time, exit code)."""
    filters = {"label": f"ds01.session={session}", "event": "die"}
    since, until = since.timestamp() - 1, now().timestamp()
    (last,) = list(engine.api.events(since=since, until=until, filters=filters, decode=True))[-1:]
    at = datetime.fromtimestamp(last["timeNano"] / 1e9, timezone.utc)
    return at, int(last["Actor"]["Attributes"]["exitCode"])


async def ends_by(how, one, engine):
    """End the session of ``one`` in some way that is not ours; returns when the engine says that it ended."""
    container = engine.containers.get(one.object_id)
    if how == "killed":
        container.kill()
    elif how == "stopped outside":
        container.stop(timeout=1)
    elif how == "removed":
        container.remove(force=True)
        return
    await asyncio.to_thread(container.wait, timeout=60)


COMMANDS = {
    "crash": SERVE + "sleep 1; echo bye; exit 7",
    "shutdown": SERVE + "sleep 1; exit 0",
    "oom": SERVE + "sleep 1; x=$(tr '\\0' a < /dev/zero | head -c 200m)",
}
WAYS = [
    ("crash", "crashed", 7, "exit code 7"),
    ("shutdown", "shutdown", 0, "shut down, from inside or by a request to its container"),
    ("oom", "oom", 137, "its limit of 64 MiB"),
    ("killed", "killed", 137, "SIGKILL"),
    ("stopped outside", "killed", None, "SIGTERM"),
    ("removed", "removed", 137, "removed from outside"),
]


@pytest.mark.parametrize(("how", "kind", "code", "said"), WAYS)
@pytest.mark.parametrize("seen_by", ["poll", "events", "reconciler", "poll of a restarted hub"])
async def test_an_end_that_is_not_ours_is_told_as_it_was(spawner, engine, how, kind, code, said, seen_by):
    one = spawner("alice", c_cmd=["sh", "-c", COMMANDS.get(how, SERVE + "sleep 60")], **GPU)
    began = now()
    events = service_ends.Events(began, one.site.engine.session_in_event)
    await one.start()
    session, site = one.session_id, one.site
    await ends_by(how, one, engine)
    at, exit_code = engines_end(engine, session, began)
    if seen_by == "poll":
        assert await one.poll() is not None
    elif seen_by == "poll of a restarted hub":
        again = spawner("alice", c_cmd=one.cmd)
        await again.poll()
        again.site.endings.flush()
        if how == "removed":  # it never saw that session: the reconciler finds out
            await asyncio.to_thread(tidy, site, now() + timedelta(minutes=1))
    elif seen_by == "events":
        over = threading.Event()
        thread = threading.Thread(target=service_ends.follow, args=(site, events, over), daemon=True)
        thread.start()
        while not await asyncio.to_thread(
            service_ends.report_settled, site, events, now() + timedelta(seconds=5)
        ):
            await asyncio.sleep(0.1)
        over.set()
    else:
        await asyncio.to_thread(tidy, site, now() + timedelta(minutes=1))
    await asyncio.to_thread(site.endings.flush)
    ended = site.store().ends.of(session)
    assert ended.kind == kind, ended
    assert said in ended.reason
    assert ended.exit_code == exit_code
    assert code in (None, exit_code)
    assert ended.clock is Clock.engine
    assert abs((ended.at - at).total_seconds()) < 1
    if how == "crash" and seen_by.startswith("poll"):
        assert "bye" in ended.log_tail
    fresh = Endings(site.store, site.settings.state_dir).recall("alice", "")
    assert (fresh.kind, fresh.reason) == (ended.kind, ended.reason)
    # Whoever looks later changes nothing.
    await one.poll()
    await asyncio.to_thread(tidy, site, now() + timedelta(minutes=2))
    await asyncio.to_thread(site.endings.flush)
    assert site.store().ends.of(session).reason == ended.reason
    assert [e.action for e in site.store().events.find(topic="session")] == ["started", "ended"]


async def test_accounting_agrees_with_the_engine(spawner, engine):
    one = spawner("alice", **GPU)
    began = now()
    await one.start()
    await asyncio.sleep(2)
    await one.stop()
    one.site.endings.flush()
    row, ended = one.site.store().sessions.get(one.session_id), one.site.store().ends.of(one.session_id)
    raw = engine.api.events(
        since=began.timestamp() - 1,
        until=now().timestamp(),
        filters={"label": f"ds01.session={one.session_id}"},
        decode=True,
    )
    times = {e["Action"]: e["timeNano"] / 1e9 for e in raw}
    held = times["die"] - times["create"]
    told = (ended.at - row.started_at).total_seconds()
    assert ended.clock is Clock.engine
    assert abs(told - held) < 0.3
    assert (row.profile, row.project) == (
        "1g.10gb",
        "default" if not row.project else row.project,
    )


async def test_a_stop_by_the_hub_is_not_put_on_its_owner(spawner):
    one = spawner("alice")
    await one.start()
    await one.stop()
    one.site.endings.flush()
    ended = one.site.store().ends.of(one.session_id)
    assert ended.kind == "stopped"
    assert "owner" not in ended.reason
    assert "does not record who asked" in ended.reason


async def test_a_reason_noted_while_the_store_is_down_is_the_one_that_is_told(spawner, monkeypatch):
    one = spawner("alice")
    await one.start()
    one.site.endings.flush()
    from ds01spawner.core.errors import StoreError
    from ds01spawner.site import Site

    def down(self):
        raise StoreError("down")

    with monkeypatch.context() as patch:
        patch.setattr(Site, "store", down)
        endings = Endings(lambda: down(one.site), one.site.settings.state_dir)
        endings.note(one.session_id, now(), "Retired at the end of its lifetime", "lifetime", "idle service")
        one.site.endings._store = lambda: down(one.site)
        await one.stop()
        one.site.endings.flush()
    one.site.endings._store = one.site.store
    one.site.endings.take_in()
    ended = one.site.store().ends.of(one.session_id)
    assert (ended.kind, ended.reason) == ("lifetime", "Retired at the end of its lifetime")


async def test_a_start_that_fails_is_in_history_with_the_device_it_held(spawner):
    broken = spawner("alice", c_cmd=["sh", "-c", "exit 3"], **GPU)
    with pytest.raises(Exception, match="exit code 3"):
        await broken.start()
    broken.site.endings.flush()
    (row,) = broken.site.store().sessions.find(user="alice")
    assert (row.kind, row.profile) in {("failed", "1g.10gb"), ("refused", "1g.10gb")}
    assert "exit code 3" in row.reason


async def test_a_removal_under_way_is_not_lost(spawner, engine):
    """The container has ended and its removal takes longer than the reconciler's next look."""
    one = spawner("alice", **GPU)
    await one.start()
    one.site.endings.flush()
    engine.containers.get(one.object_id).stop(timeout=1)
    report = one.site.store()
    await asyncio.to_thread(tidy, one.site, now() + timedelta(minutes=1))
    assert report.ends.of(one.session_id).kind == "killed"


async def test_a_session_retired_on_the_engine_keeps_the_engines_time(spawner, engine):
    one = spawner("alice")
    await one.start()
    (record,) = [r for r in one.site.engine.look().sessions if r.labels.session == one.session_id]
    done = await asyncio.to_thread(
        end, one.site.engine.client, record.container, record.labels.session, one.site.engine.session_in, 1
    )
    at, _ = engines_end(engine, one.session_id, now() - timedelta(minutes=1))
    assert abs((done.ended.at - at).total_seconds()) < 1


async def test_a_row_the_reconciler_adds_knows_groups_course_and_profile(spawner):
    from jupyterhub import orm

    one = spawner("alice", **GPU)
    one.user.groups = [orm.Group(name="nlp"), orm.Group(name="staff, a")]
    await one.start()
    one.site.endings.flush()
    store = one.site.store()
    from ds01spawner.store import models as t

    with store.db.write() as c:
        c.execute(t.sessions.delete())
    await asyncio.to_thread(tidy, one.site, now())
    row = store.sessions.get(one.session_id)
    assert (row.groups, row.profile) == (("nlp", "staff, a"), "1g.10gb")
    assert row.ended_at is None


def test_the_engine_tells_when_it_started(engine):
    at = engine_endings.engine_started(engine.api)
    assert at is None or at < now()

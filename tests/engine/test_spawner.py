"""The spawner on a real engine, without a hub: exclusive claims, and nothing left however a start ends."""

from __future__ import annotations

import asyncio
import contextlib

import docker.errors
import pytest
import requests

from ds01spawner.hub.http_errors import SessionRefused
from ds01spawner.hub.start import DISCARD_MARGIN_S


def ours(engine, hub_id, state=None):
    filters = {"label": f"ds01.hub={hub_id}", **({"status": state} if state else {})}
    return engine.containers.list(all=True, filters=filters, ignore_removed=True)


def held(engine, hub_id):
    return [c.labels["ds01.gpu.uuids"] for c in ours(engine, hub_id)]


async def test_three_starts_together_never_share_a_device(spawner, engine, hub_id):
    spawners = [spawner(name, gpu="1g.10gb") for name in ("alice", "bob", "carol")]
    await asyncio.gather(*(s.start() for s in spawners))
    devices = held(engine, hub_id)
    assert len(devices) == len(set(devices)) == 3
    late = spawner("dave", gpu="1g.10gb")
    with pytest.raises(SessionRefused) as refused:
        await late.start()
    assert refused.value.status_code == 503
    assert "none is free" in str(refused.value)
    assert len(ours(engine, hub_id)) == 3
    await asyncio.gather(*(s.stop() for s in spawners))
    assert ours(engine, hub_id) == []
    await late.start()
    assert len(held(engine, hub_id)) == 1


async def test_one_users_quota_holds_for_starts_at_once(spawner, engine, hub_id):
    """0.5 GPU allow one 3g.40gb (0.43), not two devices more: two starts race for it."""
    racers = [spawner("alice", "s1", gpu="3g.40gb"), spawner("alice", "s2", gpu="1g.10gb")]
    results = await asyncio.gather(*(s.start() for s in racers), return_exceptions=True)
    refused = [r for r in results if isinstance(r, SessionRefused)]
    assert len(refused) == 1
    assert "may use 0.50 GPU" in str(refused[0])
    assert len(ours(engine, hub_id)) == 1


async def test_a_start_that_takes_too_long_is_removed_and_explained(spawner, engine, hub_id):
    slow = spawner(
        "alice", c_start_timeout=DISCARD_MARGIN_S + 1, c_cmd=["sh", "-c", "echo loading; sleep 60"]
    )
    with pytest.raises(SessionRefused) as refused:
        await slow.start()
    assert refused.value.status_code == 504, str(refused.value)
    assert "did not answer within" in str(refused.value)
    assert "loading" in refused.value.log_tail
    assert ours(engine, hub_id) == []


async def test_a_cancelled_start_is_removed_behind_the_cancel(spawner, engine, hub_id):
    slow = spawner("alice", gpu="1g.10gb", c_cmd=["sleep", "60"])
    task = asyncio.ensure_future(slow.start())
    while not ours(engine, hub_id):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), 1)
    assert slow.starting.discarding is not None
    await slow.starting.discarding
    assert ours(engine, hub_id) == []
    again = spawner("bob", gpu="1g.10gb")
    await again.start()


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2])
async def test_a_cancel_at_any_moment_leaves_nothing(spawner, engine, hub_id, delay):
    task = asyncio.ensure_future((one := spawner("alice", gpu="1g.10gb", c_cmd=["sleep", "60"])).start())
    await asyncio.sleep(delay)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    if one.starting.discarding:
        await one.starting.discarding
    assert ours(engine, hub_id) == []


async def test_a_crash_at_start_shows_the_last_lines_of_its_log(spawner, engine, hub_id):
    broken = spawner("alice", c_cmd=["sh", "-c", "echo 'ModuleNotFoundError: torch'; exit 3"])
    with pytest.raises(SessionRefused) as refused:
        await broken.start()
    assert "exit code 3" in str(refused.value)
    assert "ModuleNotFoundError: torch" in refused.value.log_tail
    assert "torch" not in str(refused.value)
    assert ours(engine, hub_id) == []
    ending = broken.site.endings.last("alice", "")
    assert "torch" in ending.log_tail


async def test_a_container_that_docker_cannot_start_is_removed(spawner, engine, hub_id):
    broken = spawner("alice", c_extra_host_config={"sysctls": {"net.ipv4.no_such_key": "1"}})
    with pytest.raises(SessionRefused) as refused:
        await broken.start()
    assert refused.value.status_code == 500
    assert "no_such_key" in str(refused.value)
    assert ours(engine, hub_id) == []


NO_NODE = 'error gathering device information while adding custom device "/dev/nvidia9": no such file'
NO_KEY = {"sysctls": {"net.ipv4.none": "1"}}


async def test_what_fails_on_every_device_for_another_reason_blames_none(spawner, engine, hub_id):
    """A setting of the site's put three devices of a machine in quarantine, as a full disk would have."""
    for _ in (1, 2):
        broken = spawner("alice", gpu="1g.10gb", c_extra_host_config=NO_KEY)
        with pytest.raises(SessionRefused) as refused:
            await broken.start()
        assert len(broken.starting.avoid) == 3, str(refused.value)
        assert ours(engine, hub_id) == []
        assert broken.site.store().blocks.at(broken.clock()) == {}


def starts_fail(monkeypatch, words, times):
    """The engine refuses to start the next containers, in these words."""
    start, failed = docker.APIClient.start, []

    def fails(self, container, *args, **kwargs):
        if len(failed) >= times:
            return start(self, container, *args, **kwargs)
        failed.append(container)
        answer = requests.Response()
        answer.status_code = 500
        raise docker.errors.APIError("no", answer, words)

    monkeypatch.setattr(docker.APIClient, "start", fails)


async def test_where_another_device_does_it_was_the_first(spawner, engine, hub_id, monkeypatch):
    """In whatever words: a start that works on the next device shows what the reason was."""
    one, counted = spawner("alice", gpu="1g.10gb"), []
    starts_fail(monkeypatch, "something odd happened", 1)
    monkeypatch.setattr(one.site, "device_failed", lambda uuids, *_: counted.append(tuple(uuids)))
    await one.start()
    assert counted == [tuple(one.starting.avoid)]


@pytest.mark.parametrize("words", ["no space left on device", "transport is closing", "network x not found"])
async def test_an_engine_that_fails_for_its_own_reasons_blames_no_device_and_tries_none(
    spawner, engine, hub_id, monkeypatch, words
):
    one, counted = spawner("alice", gpu="1g.10gb"), []
    starts_fail(monkeypatch, f"mkdir /var/lib/docker/x: {words}", 9)
    monkeypatch.setattr(one.site, "device_failed", lambda uuids, *_: counted.append(uuids))
    with pytest.raises(SessionRefused) as refused:
        await one.start()
    assert words in str(refused.value)
    assert (counted, len(one.starting.avoid)) == ([], 0)
    assert ours(engine, hub_id) == []


async def test_a_device_that_cannot_be_started_on_is_left_for_the_next_one(
    spawner, engine, hub_id, monkeypatch
):
    """Every device fails here, so three are tried; a second such start puts them in quarantine."""
    starts_fail(monkeypatch, NO_NODE, 99)
    for attempt in (1, 2):
        broken = spawner("alice", gpu="1g.10gb")
        with pytest.raises(SessionRefused) as refused:
            await broken.start()
        assert len(broken.starting.avoid) == 3, str(refused.value)
        assert ours(engine, hub_id) == []
        blocks = broken.site.store().blocks.at(broken.clock())
        assert len(blocks) == (3 if attempt == 2 else 0)
    later = spawner("bob", gpu="1g.10gb")
    with pytest.raises(SessionRefused) as refused:
        await later.start()
    assert refused.value.status_code == 503
    assert ours(engine, hub_id) == []


async def test_a_strangers_container_with_the_name_is_never_touched(spawner, engine, busybox_image, hub_id):
    one = spawner("alice")
    stranger = engine.containers.run(
        busybox_image,
        ["sleep", "60"],
        name=one.object_name,
        detach=True,
        labels={"ds01.hub": f"{hub_id}-other"},
    )
    try:
        with pytest.raises(SessionRefused) as refused:
            await one.start()
        assert one.object_name in str(refused.value)
        assert await one.poll() == 0
        await one.stop()
        stranger.reload()
        assert stranger.status == "running"
    finally:
        stranger.remove(force=True)


async def test_a_session_the_hub_lost_is_joined_not_destroyed(spawner, engine, hub_id):
    first = spawner("alice", project="thesis")
    address = await first.start()
    lost = spawner("alice", project="other")
    lost.api_token = "another"
    assert await lost.start() == address
    assert lost.object_id == first.object_id
    assert lost.api_token == "token"
    assert len(ours(engine, hub_id)) == 1


async def test_our_own_leftover_gives_way_to_a_new_start(spawner, engine, hub_id):
    first = spawner("alice", gpu="1g.10gb")
    await first.start()
    engine.containers.get(first.object_id).kill()
    second = spawner("alice", gpu="1g.10gb")
    await second.start()
    assert [c.status for c in ours(engine, hub_id)] == ["running"]


async def test_poll_says_gone_only_when_the_engine_says_so(spawner, engine, hub_id, monkeypatch):
    one = spawner("alice")
    await one.start()
    assert await one.poll() is None

    def broken(*args, **kwargs):
        raise docker.errors.APIError(
            "boom", response=type("R", (), {"status_code": 500, "reason": "x", "url": "u"})()
        )

    with monkeypatch.context() as patch:
        patch.setattr(docker.APIClient, "inspect_container", broken)
        assert await one.poll() is None
    assert await one.poll() is None
    engine.containers.get(one.object_id).remove(force=True)
    assert await one.poll() == 0


async def test_a_session_that_ends_by_itself_is_explained_and_removed(spawner, engine, hub_id):
    one = spawner("alice", gpu="1g.10gb", c_cmd=["sh", "-c", "httpd -p 8888; sleep 1; echo bye; exit 7"])
    await one.start()
    await asyncio.sleep(1.5)
    assert await one.poll() == "ExitCode=7"
    assert ours(engine, hub_id) == []
    ending = one.site.endings.last("alice", "")
    assert "exit code 7" in ending.reason
    assert "bye" in ending.log_tail


async def test_history_knows_when_a_session_ran(spawner, hub_id):
    one = spawner("alice", gpu="1g.10gb", project="thesis")
    await one.start()
    await one.stop()
    one.site.endings.flush()
    (record,) = one.site.store().sessions.find(user="alice")
    assert (record.project, record.kind, record.profile) == ("thesis", "stopped", "1g.10gb")
    assert record.ended_at >= record.started_at


async def test_a_dead_engine_is_a_clear_refusal(spawner, tmp_path):
    one = spawner("alice", c_extra_settings={"docker_host": f"unix://{tmp_path}/none.sock"})
    with pytest.raises(SessionRefused) as refused:
        await one.start()
    assert refused.value.status_code == 503
    assert "engine" in str(refused.value)


async def test_without_the_lock_no_gpu_is_given(spawner, engine, hub_id, tmp_path):
    import fcntl

    one = spawner("alice", gpu="1g.10gb", c_lock_timeout=1)
    with (tmp_path / "state" / "claim.lock").open("w") as held_by_another:
        fcntl.flock(held_by_another, fcntl.LOCK_EX)
        with pytest.raises(SessionRefused) as refused:
            await one.start()
    assert refused.value.status_code == 503
    assert ours(engine, hub_id) == []

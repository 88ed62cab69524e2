"""Many requests of one person at once: the rest is refused in words, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest
from support.service_world import NOW, SECRET, World, make_world, serving
from tornado.httpclient import AsyncHTTPClient

from ds01spawner.environments.rights import Reader
from ds01spawner.pages import keys
from ds01spawner.service import teaching
from ds01spawner.service.places import Kind, use_threads

PATIENCE = 30.0


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    AsyncHTTPClient.configure(None, max_clients=100)  # tornado's own client sends ten at once
    yield make_world(tmp_path, monkeypatch)
    AsyncHTTPClient.configure(None)


class Slow:
    """A store in which one person's notices come when the test lets them."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
        self.gate, self.inside = threading.Event(), threading.Semaphore(0)
        plain = world.store.notices.of

        def notices(asked, *args, **kwargs):
            if asked == user:
                self.inside.release()
                assert self.gate.wait(PATIENCE)
            return plain(asked, *args, **kwargs)

        monkeypatch.setattr(world.store.notices, "of", notices)


def asks(client, by: str, who: str):
    if by == "token":
        return client("api/notices", who)
    return client("fragments/notices", headers={keys.HEADER: keys.sign(SECRET, who, NOW)})


@pytest.mark.parametrize(("by", "kind"), [("token", Kind.READ), ("key", Kind.FRAGMENT)])
async def test_forty_slow_calls_of_one_leave_others_alone(world, monkeypatch, by, kind):
    use_threads(asyncio.get_running_loop())
    slow = Slow(world, monkeypatch, "alice")
    async with serving(world) as client:
        calls = [asyncio.create_task(asks(client, by, "alice")) for _ in range(40)]
        try:
            for _ in range(kind.working):
                assert await asyncio.to_thread(slow.inside.acquire, True, PATIENCE)
            done: set[asyncio.Task[object]] = set()
            while len(done) < 40 - kind.there:
                more, _ = await asyncio.wait(calls, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                assert more - done, "the rest is answered while the first are not"
                done, calls = done | more, [c for c in calls if c not in more]
            for task in done:
                answer = task.result()
                assert answer.code == 429
                assert answer.headers["Retry-After"]
                assert "any of yours are still being answered" in answer.text
            begun = time.monotonic()
            assert (await asks(client, by, "bob")).code == 200
            assert time.monotonic() - begun < 5
            other = "key" if by == "token" else "token"
            assert not slow.gate.is_set()
            assert (await asks(client, other, "bob")).code == 200
        finally:
            slow.gate.set()
        assert {(await call).code for call in calls} == {200}
        assert (await asks(client, by, "alice")).code == 200, "they are counted down again"
        assert len(world.context.places) == 0


async def test_what_is_refused_or_fails_is_counted_down_too(world, monkeypatch):
    async with serving(world) as client:
        for path, status in (("api/builds/none", 404), ("admin", 403), ("api/sessions?all=1", 403)):
            for _ in range(Kind.READ.there + 1):
                assert (await client(path, "bob")).code == status
        world.hub.down = True
        for _ in range(Kind.READ.there + 1):
            assert (await client("api/notices", "bob")).code != 429
    assert len(world.context.places) == 0


async def test_whoever_leaves_while_it_waits_is_counted_until_the_work_ends(world, monkeypatch):
    slow = Slow(world, monkeypatch, "alice")
    async with serving(world) as client:
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(b"GET /x/services/ds01/api/notices HTTP/1.1\r\nHost: x\r\n")
        writer.write(b"Authorization: token alice\r\n\r\n")
        assert await asyncio.to_thread(slow.inside.acquire, True, PATIENCE)
        writer.close()
        await writer.wait_closed()
        assert len(world.context.places) == 1
        slow.gate.set()
        deadline = time.monotonic() + PATIENCE
        while len(world.context.places):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_image_fetches_hold_no_thread_that_pages_wait_for(world, monkeypatch):
    """Six of them filled the threads of a machine with two cores."""
    gate, inside = threading.Event(), []

    def fetch(reference, reader, tell):
        inside.append(threading.current_thread().name)
        assert gate.wait(PATIENCE)
        raise teaching.EngineError("the registry did not answer")

    monkeypatch.setattr(world.site.environments.resolver, "fetch", fetch, raising=False)
    pulls = [{"state": "pulling"} for _ in range(40)]
    tasks = [
        asyncio.create_task(teaching._pull(world.context, pull, f"example.org/{i}", Reader("prof")))
        for i, pull in enumerate(pulls)
    ]
    try:
        async with serving(world) as client:
            assert (await client("api/notices", "alice")).code == 200
        assert len(inside) <= teaching.PULLS
        assert all(name.startswith("ds01-course-pull") for name in inside)
    finally:
        gate.set()
    await asyncio.gather(*tasks)
    assert {pull["state"] for pull in pulls} == {"failed"}

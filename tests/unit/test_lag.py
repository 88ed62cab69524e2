"""Our own lag is nobody else's failure: with the loop a second behind, what answers is seen to answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tornado.simple_httpclient import HTTPTimeoutError

from ds01spawner.core.lag import Lag, unhurried, watch, within
from ds01spawner.hub import probing
from ds01spawner.idle.lab import LabClient

BLOCKED_S = 1.3


class Answers(BaseHTTPRequestHandler):
    status, wait = 200, 0.0

    def do_GET(self):
        time.sleep(self.wait)
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = []

    def make(**attributes):
        handler = type("Handler", (Answers,), attributes)
        made.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=made[-1].serve_forever, args=(0.02,), daemon=True).start()
        return made[-1].server_address[1]

    yield make
    for each in made:
        each.shutdown()
        each.server_close()


@asynccontextmanager
async def late(seconds=BLOCKED_S):
    """The loop is blocked again and again for so long."""

    async def block():
        while True:
            time.sleep(seconds)
            await asyncio.sleep(0)

    task = asyncio.ensure_future(block())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize(
    ("status", "said"),
    [(200, True), (404, True), (403, True), (503, True), (501, True), (502, False), (500, False)],
)
def test_what_counts_as_an_answer(server, status, said):
    assert probing.answers("127.0.0.1", server(status=status), "/api") is said


def test_no_answer_is_no_answer(monkeypatch, server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert probing.answers("127.0.0.1", closed.getsockname()[1], "/") is False
    monkeypatch.setattr(probing, "ANSWER_S", 0.1)
    assert probing.answers("127.0.0.1", server(wait=1.0), "/") is False
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        assert probing.answers("127.0.0.1", mute.getsockname()[1], "/") is False


async def test_a_session_is_seen_to_answer_with_a_late_loop(server):
    port, loop = server(), asyncio.get_running_loop()
    async with late():
        seen = [
            await loop.run_in_executor(probing.threads(), probing.answers, "127.0.0.1", port, "/api")
            for _ in range(3)
        ]
    assert seen == [True] * 3


async def test_the_way_it_was_asked_before_fails_with_a_late_loop(server):
    """The test bites: the same port does not count as open when the loop itself keeps the time."""
    port = server()
    async with late():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1)


async def test_a_wait_does_not_count_what_the_loop_was_late(server):
    watch()
    await asyncio.sleep(0.3)
    loop = asyncio.get_running_loop()
    async with late():
        assert await within(loop.run_in_executor(None, lambda: time.sleep(0.8) or "done"), 1) == "done"


async def test_a_wait_ends_in_time_while_the_loop_is_not_late():
    began = time.monotonic()
    never = asyncio.get_running_loop().create_future()
    with pytest.raises(asyncio.TimeoutError):
        await within(never, 0.3)
    assert never.cancelled()
    assert time.monotonic() - began >= 0.3


async def test_a_wait_that_is_cancelled_cancels_its_work():
    work = asyncio.get_running_loop().create_future()
    waits = asyncio.ensure_future(within(work, 60))
    await asyncio.sleep(0.01)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert work.cancelled()


async def test_a_question_is_asked_again_only_where_we_were_late():
    tries = []

    async def ask(timeout):
        tries.append(timeout)
        if len(tries) == 1:
            time.sleep(0.7)
        raise HTTPTimeoutError("timeout")

    watch()
    await asyncio.sleep(0.3)
    with pytest.raises(HTTPTimeoutError):
        await unhurried(ask, 1.0, HTTPTimeoutError)
    assert len(tries) == 2
    assert tries[1] > 1.2


async def test_the_idle_service_reads_a_lab_with_a_late_loop(server):
    client = LabClient("token", timeout=0.8)
    watch()
    await asyncio.sleep(0.3)
    async with late(0.35):
        reading = await client.kernels(["127.0.0.1"], server(), "/user/alice/")
    client.close()
    assert reading.status == "known", reading


async def test_lag_is_measured():
    lag = Lag(interval=0.05)
    lag.measure(asyncio.get_running_loop())
    await asyncio.sleep(0.2)
    quiet = lag.behind
    time.sleep(0.5)
    assert lag.behind - quiet >= 0.3
    await asyncio.sleep(0.1)
    assert lag.behind - quiet >= 0.3


async def test_a_start_is_not_let_be_for_what_the_hub_was_late(monkeypatch):
    """Its minute is over by the clock, but the hub hardly looked meanwhile: one more would not help."""
    from ds01spawner.queue import turns as module
    from ds01spawner.queue.pace import Pace

    monkeypatch.setattr(module, "HOLDS_S", 0.2)
    lag = Lag()
    turns = module.Turns(Pace(1, least=1, most=1), lag=lambda: lag)
    first, second = turns.draw(), turns.draw()
    await first.come()
    waits = asyncio.ensure_future(second.come())
    lag._behind = 1.5
    await asyncio.sleep(0.5)
    assert not waits.done()
    first.end(answered=True)
    await asyncio.wait_for(waits, 60)
    second.end()

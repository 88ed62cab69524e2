"""The hub's own process: its database writes ahead, and nobody's work is lost while a start waits."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import time
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import Engine
from tornado.ioloop import IOLoop, PeriodicCallback

from ds01spawner.hub import process_setup
from ds01spawner.hub.spawner import DS01Spawner


@pytest.fixture
def tuned(tmp_path):
    before = gc.get_threshold()
    for _ in range(2):  # a configuration may be read twice
        process_setup.tune_hub_process(tmp_path / "hub.sqlite")
    yield
    event.remove(Engine, "connect", process_setup._write_ahead)
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_file_writes_ahead_and_memory_stays_as_it_is(tuned, tmp_path):
    with create_engine(f"sqlite:///{tmp_path / 'hub.sqlite'}").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1
    with create_engine("sqlite://").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "memory"


def test_a_file_that_another_process_writes_keeps_its_journal(tuned, tmp_path):
    path = tmp_path / "hub.sqlite"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN IMMEDIATE")
    with create_engine(f"sqlite:///{path}", connect_args={"timeout": 0}).connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "delete"


def test_a_file_that_is_not_the_hubs_is_left_alone(tuned, tmp_path):
    with create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}").connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "delete"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_other_databases_are_left_alone(tuned):
    process_setup._write_ahead(SimpleNamespace(), None)


async def test_what_the_hub_wrote_is_kept_before_a_start_waits():
    # The hub awaits the answer in a task of its own: a commit in there would come after others' rollbacks.
    spawner, did = DS01Spawner(), []

    class Line:
        async def arrive(self):
            did.append("arrived")

    spawner.user = SimpleNamespace(db=SimpleNamespace(commit=lambda: did.append("committed")))
    spawner._site = SimpleNamespace(turns=lambda fixed: Line())
    waiting = spawner.server_token_scopes(spawner)
    assert did == ["committed"]
    assert await waiting == []
    assert did == ["committed", "arrived"]


def test_a_start_that_is_followed_early_goes_on_in_the_same_list():
    spawner = DS01Spawner()
    early = spawner.progress_log
    spawner.expect_progress()
    assert spawner.progress_log is early
    early.done = True
    spawner.expect_progress()
    assert spawner.progress_log is not early


@pytest.mark.parametrize("jump", [-3600, 3600])
async def test_periodic_work_goes_on_when_the_clock_is_set(monkeypatch, jump):
    plain = PeriodicCallback._update_next
    monkeypatch.setattr(PeriodicCallback, "_update_next", plain)  # put back what the product changes
    process_setup.keep_periods()
    process_setup.keep_periods()
    ahead, ran = [0.0], asyncio.Queue()
    monkeypatch.setattr(IOLoop, "time", lambda self: time.time() + ahead[0])
    work = PeriodicCallback(lambda: ran.put_nowait(1), 20)
    work.start()
    try:
        await asyncio.wait_for(ran.get(), 20)
        ahead[0] = jump
        for _ in range(4):
            await asyncio.wait_for(ran.get(), 20)
        ahead[0] = 0.0
        while not ran.empty():
            ran.get_nowait()
        for _ in range(4):
            await asyncio.wait_for(ran.get(), 20)
    finally:
        work.stop()

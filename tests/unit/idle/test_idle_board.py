"""Notices on pages that are being rendered: fresh, and never at the price of the hub's event loop."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from idle_rows import at
from support.rows import notice

from ds01spawner.core.errors import StoreError
from ds01spawner.notify.board import NoticeBoard
from ds01spawner.store import Store


def clock():
    return at(5)


def test_it_shows_what_is_due_and_marks_it_as_seen(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.notices.add("alice", "the machine is restarted", at(0), kind="info")
    number = store.notices.add("alice", "retired at 10:31", at(1), kind="idle", level="warning")
    store.notices.add("bob", "for bob", at(0))
    board = NoticeBoard(lambda: store, clock, wait=5)
    assert [n.text for n in board.of("alice")] == ["retired at 10:31", "the machine is restarted"]
    assert store.notices.of("alice", at(5))[0].seen_at == at(5)
    store.notices.dismiss(number, "alice", at(5))
    assert [n.text for n in board.of("alice")] == ["the machine is restarted"]
    store.close()


def test_a_slow_store_costs_a_page_a_moment_and_the_next_ones_nothing():
    answer = threading.Event()

    class Slow:
        def of(self, user, now):
            answer.wait(20)
            return [notice(text="late", seen_at=now)]

    board = NoticeBoard(lambda: SimpleNamespace(notices=Slow()), clock, wait=0.05)
    began = time.monotonic()
    assert [board.of("alice") for _ in range(20)] == [[]] * 20
    assert time.monotonic() - began < 1
    answer.set()
    for _ in range(100):
        if board.of("alice"):
            break
        time.sleep(0.02)
    assert [n.text for n in board.of("alice")] == ["late"]


def test_a_store_that_is_down_leaves_what_was_known(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.notices.add("alice", "known", at(0))
    down = []

    def give():
        if down:
            raise StoreError("down")
        return store

    board = NoticeBoard(give, clock, wait=5)
    assert [n.text for n in board.of("alice")] == ["known"]
    down.append(True)
    assert [n.text for n in board.of("alice")] == ["known"]
    assert board.of("bob") == []
    store.close()

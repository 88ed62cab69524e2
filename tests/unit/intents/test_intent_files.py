"""Intents on the disk: whole or not at all, the first reason stands, and nothing strange is acted on."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.core.labels import SessionLabels
from ds01spawner.intents import files
from ds01spawner.intents.files import Intents
from ds01spawner.intents.intent import Intent, IntentError, dump, intend, load

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
LABELS = SessionLabels("alice", "two", "thesis", "hub", "s1")
HOUR = timedelta(hours=1)


def wanted(reason="r", kind="admin", now=NOW, **more) -> Intent:
    return intend(LABELS, now, reason=reason, kind=kind, by="root", container="c1", **more)


@pytest.fixture
def intents(tmp_path):
    return Intents(tmp_path / "intents")


def test_what_is_written_is_read_by_another_process(intents, tmp_path):
    assert intents.ask(wanted()) == wanted()
    (found,) = Intents(tmp_path / "intents").open()
    assert found == wanted()
    assert oct((tmp_path / "intents").stat().st_mode & 0o777) == "0o700"


def test_the_first_reason_stands(intents):
    intents.ask(wanted("idle for an hour", "idle"))
    assert intents.ask(wanted("it was retired by its owner", "stopped")).reason == "idle for an hour"
    assert [i.reason for i in intents.open()] == ["idle for an hour"]


def test_one_that_waits_gives_way_to_one_that_does_not(intents):
    intents.ask(wanted("lost", "orphan", due=NOW + HOUR))
    assert intents.ask(wanted("enough", "stopped")).reason == "enough"
    assert not intents.get("s1").waits(NOW)


def test_only_one_that_waits_can_be_taken_back(intents):
    intents.ask(wanted("lost", "orphan", due=NOW + HOUR))
    assert intents.withdraw("s1", NOW)
    assert not intents.withdraw("s1", NOW)
    intents.ask(wanted())
    assert not intents.withdraw("s1", NOW)
    assert intents.get("s1") is not None


def test_what_stood_in_the_way_is_noted_and_does_not_bring_an_intent_back(intents):
    intents.ask(wanted())
    intents.failed(wanted(), "the engine\ndoes not answer")
    assert intents.get("s1").problem == "the engine does not answer"
    intents.done("s1")
    intents.failed(wanted(), "again")
    intents.done("s1")
    assert intents.open() == []


@pytest.mark.parametrize("fails", ["open", "write", "fsync", "link"])
def test_a_full_disk_leaves_nothing_half_written(intents, monkeypatch, fails):
    intents.ask(replace(wanted(), session="s0"))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fails == "write":
        monkeypatch.setattr(files, "dump", full)
    else:
        monkeypatch.setattr(files.os, fails, full)
    with pytest.raises(IntentError, match="No space left"):
        intents.ask(wanted())
    monkeypatch.undo()
    assert [i.session for i in intents.open()] == ["s0"]
    assert os.listdir(intents.folder) == ["s0.json"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 1}',
        "[" * 100_000,
        dump(wanted()).replace('"version": 1', '"version": 2'),
        dump(wanted()).replace('"s1"', '"../s1"'),
        dump(wanted()).replace('"grace": 30', '"grace": "long"'),
        dump(wanted()).replace("+00:00", ""),
        dump(wanted()).replace('"c1"', '""'),
        dump(wanted()).replace('"s1"', '"s2"'),
        dump(wanted(reason="x" * 20)) + " " * 20_000,
    ],
)
def test_what_is_no_intent_is_left_alone_and_said(intents, text, caplog):
    intents.ask(replace(wanted(), session="s0"))
    path = intents.folder / "s1.json"
    path.write_text(text)
    assert [i.session for i in intents.open()] == ["s0"]
    assert [u.path for u in intents.unreadable()] == [path]
    assert intents.get("s1") is None
    assert path.read_text() == text
    assert str(path) in caplog.text
    with pytest.raises(IntentError, match="in the way"):
        intents.ask(wanted())
    assert sorted(os.listdir(intents.folder)) == ["s0.json", "s1.json"]


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_plain_file_holds_nobody_up(intents, tmp_path, kind):
    intents.ask(replace(wanted(), session="s0"))
    path = intents.folder / "s1.json"
    if kind == "link":
        (tmp_path / "real").write_text(dump(wanted()))
        path.symlink_to(tmp_path / "real")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert [i.session for i in intents.open()] == ["s0"]
    assert len(intents.unreadable()) == 1


def test_their_number_is_bounded(intents, monkeypatch):
    monkeypatch.setattr(files, "MAX_OPEN", 2)
    for name in ("a", "b"):
        intents.ask(replace(wanted(), session=name))
    with pytest.raises(IntentError, match="2 intents"):
        intents.ask(wanted())


@pytest.mark.parametrize("session", ["", "../x", "a/b", "x" * 65, "a b", "."])
def test_ids_that_are_no_file_names_are_refused(intents, session):
    with pytest.raises(IntentError):
        intents.ask(replace(wanted(), session=session))
    assert intents.get(session) is None


def test_unfinished_files_of_dead_processes_go_in_time(intents):
    intents.ask(wanted())
    old, new = intents.folder / ".old.tmp", intents.folder / ".new.tmp"
    for path in (old, new):
        path.write_text("x")
    os.utime(old, (0, 0))
    assert len(intents.open()) == 1
    assert not old.exists()
    assert new.exists()


def test_of_many_who_ask_at_once_one_wins_and_all_agree(intents):
    barrier, found = threading.Barrier(16), []

    def ask(number: int) -> None:
        barrier.wait()
        found.append(intents.ask(wanted(f"reason {number}")).reason)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert intents.get("s1").reason == found[0]
    assert os.listdir(intents.folder) == ["s1.json"]


def test_a_stopped_process_that_holds_the_lock_does_not_hold_up_the_others(intents, monkeypatch):
    monkeypatch.setattr(files, "LOCK_S", 0.05)
    intents.ask(wanted())
    with intents._alone():
        assert Intents(intents.folder).ask(replace(wanted(), session="s2")).session == "s2"


@pytest.mark.parametrize(
    ("moment", "waits", "for_others"),
    [
        (NOW, False, False),
        (NOW + timedelta(seconds=39), False, False),
        (NOW + timedelta(seconds=40), False, True),
        (NOW - HOUR, False, True),  # asked for while the clock was ahead
    ],
)
def test_whoever_asked_has_the_first_turn(moment, waits, for_others):
    intent = wanted(grace=30)
    assert intent.waits(moment) is waits
    assert intent.for_others(moment) is for_others


def test_it_comes_back_as_it_went():
    intent = wanted("ein Grund: é\n'\"", name="ds01--alice")
    assert load(dump(intent)) == intent
    assert json.loads(dump(intent))["version"] == 1

"""The store's file under running processes: removed, put back, read-only, locked, damaged, full."""

from __future__ import annotations

import os
import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from ds01spawner.core.ending import Clock, Ended
from ds01spawner.core.errors import (
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreReplaced,
)
from ds01spawner.core.labels import SessionLabels
from ds01spawner.core.settings import Settings
from ds01spawner.doctor.basic_checks import check_store
from ds01spawner.messages import end_clauses
from ds01spawner.store import SessionRecord, Store
from ds01spawner.store import db as database
from ds01spawner.store.db import REPLACED, _kind
from ds01spawner.store.ending_log import Endings

LABELS = SessionLabels("alice", "", "thesis", "hub", "s1", created_at="2026-03-02T11:00:00+00:00")


@pytest.fixture
def settings(tmp_path):
    return Settings(state_dir=tmp_path)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "ds01.sqlite"


@pytest.fixture
def open_store(settings):
    made = []

    def make():
        made.append(Store.open(settings.store))
        return made[-1]

    yield make
    for each in made:
        each.close()


def remove(file):
    for path in file.parent.glob(f"{file.name}*"):
        if not path.name.endswith(".migrate"):
            path.unlink()


def test_a_file_that_was_removed_is_made_anew_by_whoever_writes_next(open_store, file, now, caplog):
    first, second = open_store(), open_store()
    first.sessions.started(SessionRecord("s0", "alice", now))
    assert second.sessions.get("s0") is not None
    remove(file)
    first.sessions.started(SessionRecord("s1", "alice", now))
    assert file.exists()
    assert "was removed" in caplog.text
    second.db._looked = 0.0  # a second has passed
    assert second.sessions.get("s1") is not None, "the other process reads what this one wrote"
    assert second.sessions.get("s0") is None
    assert open_store().sessions.get("s1") is not None, "and so does one that begins now"
    assert [f.level for f in check_store(Settings(state_dir=file.parent))] == ["ok", "warning"]


def test_a_reader_notices_within_a_second(open_store, file, now):
    store = open_store()
    store.sessions.started(SessionRecord("s1", "alice", now))
    assert store.sessions.get("s1") is not None
    remove(file)
    store.db._looked -= database.LOOK_SECONDS  # it has passed
    assert store.sessions.get("s1") is None


def test_whoever_notices_later_leaves_the_moment_alone(open_store, file, now):
    """A process that was stopped meanwhile: what ended since the file is new is written in it."""
    first, second = open_store(), open_store()
    first.sessions.started(SessionRecord("s0", "alice", now))
    assert second.sessions.get("s0") is not None
    remove(file)
    first.sessions.started(SessionRecord("s1", "alice", now))
    noticed = first.facts.moment(REPLACED)
    second.sessions.started(SessionRecord("s2", "alice", now))
    assert first.facts.moment(REPLACED) == noticed
    remove(file)
    second.sessions.started(SessionRecord("s3", "alice", now))
    assert second.facts.moment(REPLACED) > noticed, "another file, another moment"


def test_a_backup_put_back_is_read(open_store, file, now, tmp_path):
    store = open_store()
    store.sessions.started(SessionRecord("s1", "alice", now))
    backup = sqlite3.connect(tmp_path / "copy")
    with sqlite3.connect(file) as source:
        source.backup(backup)
    backup.close()
    store.sessions.started(SessionRecord("s2", "alice", now))
    remove(file)
    os.replace(tmp_path / "copy", file)
    store.sessions.started(SessionRecord("s3", "alice", now))
    assert [r.session for r in store.sessions.find()] == ["s1", "s3"]
    assert store.facts.get(REPLACED).startswith("replaced")


def test_what_is_written_while_the_file_goes_is_not_taken_for_written(open_store, file, now):
    store = open_store()
    with pytest.raises(StoreReplaced), store.db.write():
        remove(file)
    store.sessions.started(SessionRecord("s1", "alice", now))
    assert store.sessions.get("s1") is not None


def test_a_retire_keeps_its_reason_when_the_file_goes_in_between(open_store, file, now, tmp_path):
    """Idle noted why, the file was removed, the hub stopped the session: the page is told the true reason."""
    hub_store, idle_store = open_store(), open_store()
    hub, idle = Endings(lambda: hub_store, tmp_path), Endings(lambda: idle_store, tmp_path)
    hub.started(SessionRecord.from_labels(LABELS, now))
    hub.flush()
    remove(file)
    idle.note("s1", now, "Retired at the end of its lifetime", "lifetime", "idle service")
    hub.ended(
        Ended("s1", now + timedelta(seconds=2), "stopped", "through the hub", since=now), LABELS
    ).result()
    shown = Endings(lambda: open_store(), tmp_path).recall("alice", "")
    assert (shown.kind, shown.reason) == ("lifetime", "Retired at the end of its lifetime")


def test_threads_that_notice_together_open_it_once(open_store, file, now):
    store = open_store()
    store.sessions.started(SessionRecord("s0", "alice", now))
    remove(file)
    problems = []

    def write(number):
        try:
            store.sessions.started(SessionRecord(f"s{number}", "alice", now))
        except StoreError as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert {r.session for r in store.sessions.find()} == {f"s{n}" for n in range(1, 9)}


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("attempt to write a readonly database", StoreReadOnly),
        ("unable to open database file", StoreReadOnly),
        ("[Errno 30] Read-only file system: 'x'", StoreReadOnly),
        ("[Errno 13] Permission denied: '/x'", StoreReadOnly),
        ("database is locked", StoreLocked),
        ("database or disk is full", StoreFull),
        ("[Errno 28] No space left on device", StoreFull),
        ("database disk image is malformed", StoreCorrupt),
        ("file is not a database", StoreCorrupt),
        ("no such table: sessions", StoreError),
        ("connection refused", StoreError),
    ],
)
def test_each_failure_has_its_own_type(said, kind):
    assert _kind(said) is kind


def fails(settings, file, now, tmp_path, kind):
    """A session ends while the store fails: a typed error, kept for later, told, and a row of the doctor."""
    with pytest.raises(kind):
        Store.open(settings.store).sessions.started(SessionRecord("s0", "bob", now))
    endings = Endings(lambda: Store.open(settings.store), tmp_path)
    endings.ended(Ended("s1", now, "crashed", "exit code 7"), LABELS).result()
    assert endings.shown("alice", "", wait=30).reason == "exit code 7"
    found = list(check_store(settings))
    assert [f.level for f in found] == ["warning", "error"]
    assert found[1].mend != "see what it says"
    return endings


def test_a_damaged_store_loses_nothing_that_comes_after(open_store, settings, file, now, tmp_path):
    open_store().close()
    file.write_bytes(b"this is no database" * 1000)
    endings = fails(settings, file, now, tmp_path, StoreCorrupt)
    remove(file)
    assert endings.take_in() == 1
    assert Store.open(settings.store).ends.of("s1").reason == "exit code 7"


def test_a_locked_store_loses_nothing(open_store, settings, file, now, tmp_path, monkeypatch):
    open_store().close()
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked):
        Store.open(settings.store).sessions.started(SessionRecord("s0", "bob", now))
    endings = Endings(lambda: Store.open(settings.store), tmp_path)
    endings.ended(Ended("s1", now, "crashed", "exit code 7"), LABELS).result()
    blocker.execute("ROLLBACK")
    blocker.close()
    assert endings.take_in() == 1
    assert Store.open(settings.store).ends.of("s1").kind == "crashed"


def test_old_events_and_builds_go_and_the_rest_stays(open_store, now):
    store, day = open_store(), timedelta(days=1)
    store.events.add(now - 9 * day, "site", "announced")
    store.events.add(now, "site", "announced")
    for build, state, age in (("b1", "ready", 9), ("b2", "building", 9), ("b3", "failed", 1)):
        store.builds.put(build, "alice", "e", state, {}, now - age * day)
        store.builds.append_log(build, ["line"])
    assert store.events.prune(now - 5 * day) == 1
    assert store.builds.prune(now - 5 * day, ("ready", "failed")) == 1
    assert sorted(b.id for b in store.builds.find()) == ["b2", "b3"]
    assert store.builds.log("b1") == []
    store.ends.retiring("ghost", now - 2 * day, "x", "idle")
    store.ends.retiring("fresh", now, "x", "idle")
    assert store.ends.prune_notes(now - day) == 1


def test_the_reconciler_prunes_once_a_day(open_store, settings, now):
    from types import SimpleNamespace

    from ds01spawner.service.housekeeping import prune

    store = open_store()
    site = SimpleNamespace(store=lambda: store, settings=settings, installation=None)
    store.events.add(now - timedelta(days=settings.keep_events + 1), "site", "announced")
    prune(site, now)
    assert store.events.find() == []
    store.events.add(now - timedelta(days=settings.keep_events + 1), "site", "announced")
    prune(site, now + timedelta(hours=1))
    assert len(store.events.find()) == 1
    prune(site, now + timedelta(days=1))
    assert store.events.find() == []


@pytest.mark.parametrize(
    ("kind", "seconds", "told"),
    [
        ("removed", -22, "unknown"),
        ("shutdown", -1, "unknown"),
        ("killed", 5, "unknown"),
        ("engine", -1, "unknown"),
        ("crashed", -22, "crashed"),  # the engine's own record of it, whatever was decided
        ("oom", -22, "oom"),
        ("idle", -22, "idle"),  # a decision that came another way
        ("removed", 60, "removed"),
    ],
)
def test_the_silence_of_a_new_store_proves_nothing_of_what_was_before(open_store, file, kind, seconds, told):
    """The owner had retired it; that stood in the store that is gone, and "from outside" would be false."""
    store = open_store()
    remove(file)
    store.ends.by_kind()
    store.db._looked = 0.0
    store.ends.by_kind()
    replaced = store.facts.moment(REPLACED)
    ended = Ended("s1", replaced + timedelta(seconds=seconds), kind, f"it was {kind}")
    record = SessionRecord.from_labels(LABELS, replaced - timedelta(minutes=5))
    after = store.ends.record(ended, record)
    assert (after.kind, after.at) == (told, ended.at)
    assert after.reason == (end_clauses.WITH_FORMER_STORE if told == "unknown" else f"it was {kind}")
    again = replace(ended, kind="removed", reason="it was removed", clock=Clock.engine)
    assert store.ends.record(again, record).kind == told, "whoever sees the same end later proves no more"
    decided = Ended("s1", ended.at, "retired", "you retired it", since=ended.at - timedelta(seconds=2))
    if told == "unknown":
        assert store.ends.record(decided).kind == "retired", "whoever knows better is still believed"


def test_what_history_knew_as_running_is_explained_as_ever(open_store, file):
    store = open_store()
    remove(file)
    store.db._looked = 0.0
    store.ends.by_kind()
    at = store.facts.moment(REPLACED)
    store.sessions.started(SessionRecord.from_labels(LABELS, at))
    assert store.ends.record(Ended("s1", at, "removed", "it was removed")).kind == "removed"

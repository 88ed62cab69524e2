"""One session, one ending record: which report is believed, and that none is lost while the store is down."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.ending import (
    NOTE_COUNTS,
    RANKS,
    Clock,
    Ended,
    carried_out,
    decided,
    knows_better,
    merged,
)
from ds01spawner.core.errors import StoreError
from ds01spawner.core.labels import SessionLabels
from ds01spawner.messages import end_clauses
from ds01spawner.store import SessionRecord
from ds01spawner.store.ending_log import Endings
from ds01spawner.store.spool import Finished, Spool, Started

S = timedelta(seconds=1)
KINDS = [kind for kinds in RANKS for kind in kinds]


def end(now, kind, seconds=0, **more):
    return Ended("s1", now + seconds * S, kind, f"it was {kind}", **more)


@pytest.mark.parametrize(
    ("known", "new", "kind"),
    [
        ("lost", "crashed", "crashed"),
        ("lost", "oom", "oom"),
        ("lost", "killed", "killed"),
        ("lost", "stopped", "stopped"),
        ("lost", "unknown", "unknown"),
        ("unknown", "shutdown", "shutdown"),
        ("unknown", "idle", "idle"),
        ("stopped", "idle", "idle"),
        ("stopped", "admin", "admin"),
        ("stopped", "preempted", "preempted"),
        ("stopped", "crashed", "stopped"),
        ("killed", "stopped", "stopped"),
        ("removed", "lifetime", "lifetime"),
        ("crashed", "retired", "retired"),
        ("idle", "admin", "idle"),
        ("admin", "idle", "admin"),
        ("idle", "stopped", "idle"),
        ("idle", "crashed", "idle"),
        ("oom", "killed", "oom"),
        ("crashed", "lost", "crashed"),
        ("idle", "lost", "idle"),
        ("failed", "crashed", "failed"),
        ("killed", "leftover", "leftover"),
        ("of another version", "crashed", "crashed"),
        ("crashed", "of another version", "crashed"),
    ],
)
def test_which_of_two_reports_is_believed(now, known, new, kind):
    one = merged(end(now, known), end(now, new))
    assert (one.kind, one.reason) == (kind, f"it was {kind}")


@given(st.permutations(KINDS))
def test_the_best_report_stays_whatever_the_order(order):
    from datetime import datetime, timezone

    now, one = datetime(2026, 3, 2, tzinfo=timezone.utc), None
    for kind in order:
        one = merged(one, end(now, kind))
    assert one.kind in RANKS[-1]
    assert one.kind == next(k for k in order if k in RANKS[-1])


@pytest.mark.parametrize(
    ("asked", "kind"), [(-5, "idle"), (0, "idle"), (0.9, "idle"), (1.1, "crashed"), (30, "crashed")]
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_was_decided_after_the_end_did_not_cause_it(now, asked, kind, turned):
    crash = end(now, "crashed", clock=Clock.engine, exit_code=7)
    retire = end(now, "idle", max(asked, 0) + 1, since=now + asked * S)
    one = merged(crash, retire) if turned else merged(retire, crash)
    assert (one.kind, one.at, one.exit_code) == (kind, now, 7)


def test_a_decision_whose_session_was_seen_to_run_afterwards_caused_its_end_whatever_the_clocks_say(now):
    ended = end(now, "shutdown", clock=Clock.engine, exit_code=0)
    retire = end(now, "admin", 3600, since=now + 3600 * S)  # by a clock that is an hour ahead
    assert merged(ended, retire).kind == "shutdown"
    one = merged(ended, carried_out(retire, ended))
    assert (one.kind, one.at, one.exit_code) == ("admin", now, 0)
    before = end(now, "admin", -5, since=now - 5 * S)
    assert carried_out(before, ended) == before
    assert carried_out(retire, None) == retire


def test_the_best_clock_wins_whoever_knows_the_cause(now):
    for a, b in itertools.permutations(Clock, 2):
        one = merged(end(now, "idle", 0, clock=a), end(now, "crashed", 9, clock=b))
        assert one.kind == "idle"
        assert one.at == (now if a > b else now + 9 * S)


def test_a_report_of_oneself_is_no_better(now):
    for kind in KINDS:
        assert not knows_better(end(now, kind), end(now, kind))


@pytest.mark.parametrize(
    ("noted", "clock", "kind", "at"),
    [
        (-60, Clock.engine, "idle", 0),
        (-601, Clock.engine, "killed", 0),
        (5, Clock.engine, "killed", 0),
        (5, Clock.last_seen, "idle", 5),
        (-601, Clock.last_seen, "lost", 0),
    ],
)
def test_a_decision_explains_the_end_that_follows_soon(now, noted, clock, kind, at):
    found = end(now, "lost" if clock is Clock.last_seen else "killed", clock=clock)
    note = end(now, "idle", noted, since=now + noted * S)
    assert timedelta(seconds=600) == NOTE_COUNTS
    one = decided(found, note)
    assert (one.kind, one.at) == (kind, now + at * S)


# --- in the store -------------------------------------------------------------------------------


def begun(store, now, session="s1", **more):
    store.sessions.started(SessionRecord(session, "alice", now - 60 * S, **{"equivalents": 0.5, **more}))


def test_a_better_report_replaces_lost_and_says_so_once(store, now):
    begun(store, now)
    store.ends.record(end(now, "lost", clock=Clock.last_seen))
    store.ends.record(end(now, "crashed", 14, clock=Clock.engine, exit_code=7))
    store.ends.record(end(now, "lost", 60, clock=Clock.last_seen))
    row, ended = store.sessions.get("s1"), store.ends.of("s1")
    assert (row.kind, row.ended_at, ended.exit_code) == ("crashed", now + 14 * S, 7)
    assert [e.action for e in store.events.find()] == ["started", "ended", "corrected"]
    assert store.usage.gpu_hours("alice", now - 600 * S, now + 600 * S) == pytest.approx(74 / 3600 * 0.5)


def test_a_more_exact_time_is_no_news(store, now):
    begun(store, now)
    store.ends.record(end(now, "idle", 3))
    store.ends.record(end(now, "killed", 1, clock=Clock.engine, exit_code=143))
    ended = store.ends.of("s1")
    assert (ended.kind, ended.at, ended.clock, ended.exit_code) == ("idle", now + S, Clock.engine, 143)
    assert [e.action for e in store.events.find()] == ["started", "ended"]


def test_a_note_that_comes_after_the_end_it_explains_counts(store, now):
    begun(store, now)
    store.ends.record(end(now, "killed", clock=Clock.engine))
    store.ends.retiring("s1", now - 20 * S, "idle for 60 min", "idle")
    assert store.ends.of("s1").reason == "idle for 60 min"
    store.ends.retiring("s1", now + 20 * S, "late", "admin")
    assert store.ends.of("s1").reason == "idle for 60 min"


def test_the_hubs_stop_does_not_cover_the_decision_behind_it(store, now):
    begun(store, now)
    store.ends.retiring("s1", now - 5 * S, "end of its lifetime", "lifetime")
    store.ends.retiring("s1", now - 4 * S, end_clauses.THROUGH_HUB, "stopped")
    store.ends.record(end(now, "stopped", since=now - 4 * S))
    assert store.ends.of("s1").reason == "end of its lifetime"


def test_a_decision_about_a_session_history_does_not_know_waits_for_it(store, now):
    """The store was made anew under a running session."""
    store.ends.retiring("s1", now - 5 * S, "end of its lifetime", "lifetime", by="idle service")
    store.ends.record(end(now, "killed"), SessionRecord("s1", "alice", now - 60 * S))
    ended = store.ends.of("s1")
    assert (ended.reason, ended.by) == ("end of its lifetime", "idle service")
    assert store.facts.get("note:s1") is None


def test_a_second_device_of_the_same_start_is_the_one_that_counts(store, now):
    begun(store, now, gpu_uuids=("MIG-1",), profile="1g.10gb")
    begun(store, now, gpu_uuids=("MIG-2",), profile="3g.40gb", equivalents=3 / 7)
    row = store.sessions.get("s1")
    assert (row.gpu_uuids, row.profile, row.equivalents) == (("MIG-2",), "3g.40gb", 3 / 7)


# --- while the store is down --------------------------------------------------------------------

LABELS = SessionLabels("alice", "", "thesis", "hub", "s1", gpu_equivalents=0.5, groups=("g",))


class Switch:
    """A store that can be off."""

    def __init__(self, store):
        self.store, self.on = store, False

    def __call__(self):
        if not self.on:
            raise StoreError("it is off")
        return self.store


def labels(now):
    return replace(LABELS, created_at=(now - 60 * S).isoformat())


def test_nothing_is_lost_while_the_store_is_down(store, now, tmp_path):
    switch = Switch(store)
    hub, idle = Endings(switch, tmp_path), Endings(switch, tmp_path)
    hub.started(SessionRecord.from_labels(labels(now), now))
    hub.flush()
    idle.note("s1", now - 5 * S, "idle for 60 min", "idle", "idle service")
    hub.ended(end(now, "stopped", since=now - 4 * S, log_tail="bye"), labels(now))
    hub.flush()
    assert hub.shown("alice", "").kind == "stopped"
    switch.on = True
    third = Endings(switch, tmp_path)
    assert third.take_in() == 3
    assert not third.spool.waiting()
    shown = third.recall("alice", "")
    assert (shown.reason, shown.kind, shown.log_tail, shown.project) == (
        "idle for 60 min",
        "idle",
        "bye",
        "thesis",
    )
    assert store.sessions.get("s1").groups == ("g",)
    assert hub.shown("alice", "", wait=10).reason == "idle for 60 min"


def test_the_next_report_brings_what_waited(store, now, tmp_path):
    switch = Switch(store)
    endings = Endings(switch, tmp_path)
    endings.write_end(end(now, "crashed"), labels(now))
    switch.on = True
    endings.note("other", now, "x", "admin")
    assert store.ends.of("s1").kind == "crashed"


def test_a_state_folder_that_cannot_be_written_keeps_it_in_memory(store, now, tmp_path):
    switch = Switch(store)
    endings = Endings(switch, tmp_path / "missing")
    endings.write_end(end(now, "crashed"), labels(now))
    switch.on = True
    assert endings.take_in() == 1
    assert store.ends.of("s1").kind == "crashed"


def test_the_spool_is_bounded_and_keeps_the_newest(store, now, tmp_path):
    spool = Spool(tmp_path / "spool", most_bytes=20_000)
    for number in range(200):
        spool.add(
            Finished(Ended(f"s{number}", now, "crashed", "x"), SessionRecord(f"s{number}", "alice", now))
        )
    assert spool.path.stat().st_size <= 20_000
    assert spool.path.stat().st_mode & 0o077 == 0
    spool.take_in(store)
    assert store.sessions.get("s199") is not None
    assert store.sessions.get("s0") is None


def test_half_a_line_of_a_killed_process_stops_nothing(store, now, tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.path.write_bytes(b'{"what": "finished", "end\n{"what": "of another version"}\n')
    spool.add(Finished(Ended("s1", now, "crashed", "x"), SessionRecord("s1", "alice", now)))
    spool.take_in(store)
    assert store.ends.of("s1").kind == "crashed"


def test_a_line_goes_only_after_the_store_has_it(store, now, tmp_path, monkeypatch):
    spool = Spool(tmp_path / "spool")
    for name in ("s1", "s2"):
        spool.add(Finished(Ended(name, now, "crashed", "x"), SessionRecord(name, "alice", now)))
    real = store.ends.record

    def fails_second(ended, record=None):
        if ended.session == "s2":
            raise StoreError("full")
        return real(ended, record)

    with monkeypatch.context() as patch:
        patch.setattr(store.ends, "record", fails_second)
        with pytest.raises(StoreError):
            spool.take_in(store)
    assert store.sessions.get("s1") is not None
    assert spool.take_in(store) == 1
    assert store.sessions.get("s2") is not None


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("stopped", ("unknown", end_clauses.UNRECORDED)),
        ("lost", ("lost", end_clauses.LOST)),
        ("idle", ("unknown", end_clauses.UNRECORDED)),
    ],
)
def test_no_default_sentence_stands_in_for_a_reason_that_is_missing(store, now, tmp_path, kind, said):
    endings = Endings(lambda: store, tmp_path)
    endings.ended(Ended("s1", now, kind), labels(now)).result()
    shown = endings.recall("alice", "")
    assert (shown.kind, shown.reason) == said


def test_a_better_report_of_another_process_reaches_the_page(store, now, tmp_path):
    hub, service = Endings(lambda: store, tmp_path), Endings(lambda: store, tmp_path)
    hub.ended(end(now, "killed", log_tail="bye"), labels(now)).result()
    service.write_end(end(now, "admin"), labels(now))
    shown = hub.shown("alice", "", wait=10)
    assert (shown.kind, shown.log_tail) == ("admin", "bye")


def test_a_start_that_was_cancelled_is_no_news(store, now, tmp_path):
    endings = Endings(lambda: store, tmp_path)
    endings.ended(end(now, "cancelled"), labels(now)).result()
    assert Endings(lambda: store, tmp_path).recall("alice", "") is None


def test_what_waits_for_the_store_goes_before_what_comes_now(store, now, tmp_path):
    """The begin waited while the store was locked; without it the end is of a session that none knows."""
    endings = Endings(lambda: store, tmp_path)
    endings.spool.add(Started(SessionRecord("s1", "alice", now - 60 * S)))
    said = endings.write_end(end(now, "crashed", clock=Clock.engine))
    assert said is not None
    assert said.kind == "crashed"
    assert store.sessions.get("s1").ended_at == now

"""Sessions as they began and ended, and the hours they add up to."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.ending import Clock, Ended
from ds01spawner.core.labels import SessionLabels
from ds01spawner.store import SessionRecord
from ds01spawner.store.accounting import decayed_hours, overlap_hours
from ds01spawner.store.usage import UsageRow

H = timedelta(hours=1)


@pytest.mark.parametrize(
    ("start", "end", "since", "hours"),
    [
        (0, 2, 0, 2),
        (0, 2, 1, 1),
        (0, None, 0, 10),
        (-5, None, 0, 10),
        (-5, -1, 0, 0),
        (3, 3, 0, 0),
        (11, None, 0, 0),
        (8, 12, 0, 2),
        (5, 4, 0, 0),
    ],
)
def test_overlap(now, start, end, since, hours):
    interval = (now + start * H, None if end is None else now + end * H)
    assert overlap_hours(interval, now + since * H, now + 10 * H) == hours


@pytest.mark.parametrize(
    ("ago_start", "ago_end", "expected"),
    [(0, 0, 0.0), (10, 0, 7.2135), (20, 10, 3.6067), (1000, 0, 14.4270), (5, 6, 0.0)],
)
def test_an_hour_used_one_half_life_ago_counts_half(now, ago_start, ago_end, expected):
    interval = (now - ago_start * H, now - ago_end * H)
    assert decayed_hours(interval, now, 10 * H) == pytest.approx(expected, abs=1e-4)


@given(st.floats(0, 500), st.floats(0, 500), st.floats(0, 1))
def test_cutting_a_session_in_two_changes_no_share(a, b, cut):
    from datetime import datetime, timezone

    now = datetime(2026, 3, 2, tzinfo=timezone.utc)
    old, young = max(a, b), min(a, b)
    middle = old - (old - young) * cut
    at = [now - x * H for x in (old, middle, young)]
    whole = decayed_hours((at[0], at[2]), now, 24 * H)
    parts = decayed_hours((at[0], at[1]), now, 24 * H) + decayed_hours((at[1], at[2]), now, 24 * H)
    assert parts == pytest.approx(whole, abs=1e-6)


def record(session, user, start, **kw):
    return SessionRecord(session, user, start, **{"equivalents": 0.5, **kw})


def test_begin_and_end_may_be_told_twice(store, now):
    assert store.sessions.started(record("s1", "alice", now)) is True
    assert store.sessions.started(record("s1", "alice", now + H)) is False
    done = Ended("s1", now + H, "retired", "done")
    assert store.ends.record(done) == done
    assert store.ends.record(Ended("s1", now + 5 * H, "retired", "again")) == done
    assert store.ends.record(Ended("unknown", now, "retired", "done")) is None
    ended = store.ends.last("alice")
    assert (ended.ended_at, ended.reason, ended.kind) == (now + H, "done", "retired")
    assert [e.action for e in store.events.find()] == ["started", "ended"]


def test_a_noted_reason_explains_the_end_that_follows(store, now):
    store.sessions.started(record("s1", "alice", now, server="x"))
    store.ends.retiring("s1", now + H, "idle for 60 min", "idle", {"cpu": 0.2})
    store.ends.record(Ended("s1", now + H + timedelta(seconds=5), "stopped", "through the hub"))
    ended = store.ends.last("alice", "x")
    assert (ended.reason, ended.kind) == ("idle for 60 min", "idle")
    assert ended.data["retire"] == {"cpu": 0.2}
    assert store.ends.last("alice", "") is None


def test_a_retire_that_did_not_happen_explains_nothing_later(store, now):
    store.sessions.started(record("s1", "alice", now))
    store.ends.retiring("s1", now + H, "idle for 60 min", "idle")
    store.ends.record(Ended("s1", now + 2 * H, "stopped", "stopped by alice"))
    assert store.ends.last("alice").reason == "stopped by alice"


def test_gpu_hours_count_running_sessions_and_only_the_window(store, now):
    store.sessions.started(record("s1", "alice", now))
    store.ends.record(Ended("s1", now + 2 * H, "stopped"))
    store.sessions.started(record("s2", "alice", now + 3 * H, equivalents=1.0))
    store.sessions.started(record("s3", "bob", now))
    assert store.usage.gpu_hours("alice", now, now + 5 * H) == 1.0 + 2.0
    assert store.usage.gpu_hours("alice", now + H, now + 3 * H) == 0.5
    assert store.usage.gpu_hours("carol", now, now + 5 * H) == 0


def test_usage_by_each_subject(store, now):
    store.sessions.started(record("s1", "alice", now, groups=("a", "b"), course="nlp", project="p", cpus=4))
    store.sessions.started(record("s2", "bob", now, groups=("b",), equivalents=0.0, cpus=2))
    store.ends.record(Ended("s1", now + H, "stopped"))
    end = now + 2 * H

    def keyed(by):
        return {r.key: (r.sessions, r.gpu_hours) for r in store.usage.by(by, now, end)}

    assert keyed("user") == {"alice": (1, 0.5), "bob": (1, 0)}
    assert keyed("group") == {"a": (1, 0.5), "b": (2, 0.5)}
    assert keyed("course") == {"nlp": (1, 0.5), "(no course)": (1, 0)}
    assert keyed("project") == {"alice/p": (1, 0.5), "bob/": (1, 0)}
    bob = UsageRow("bob", sessions=1, running=1, session_hours=2.0, cpu_hours=4.0, gpu_hours=0.0)
    assert store.usage.by("user", now, end)[1] == bob


def test_decayed_usage_by_user_and_group(store, now):
    store.sessions.started(record("s1", "alice", now - 10 * H, groups=("g",)))
    store.ends.record(Ended("s1", now, "stopped"))
    users, groups = store.usage.decayed(now, 10 * H)
    assert users == {"alice": pytest.approx(3.6067, abs=1e-4)}
    assert groups == {"g": pytest.approx(3.6067, abs=1e-4)}


def test_decayed_usage_of_a_course(store, now):
    store.sessions.started(record("s1", "alice", now - 10 * H, groups=("g",), course="nlp"))
    store.ends.record(Ended("s1", now, "stopped"))
    groups = store.usage.decayed(now, 10 * H)[1]
    assert groups == dict.fromkeys(("g", "course:nlp"), pytest.approx(3.6067, abs=1e-4))


class TestReconcile:
    def test_a_session_that_is_gone_is_missing_until_somebody_knows_how_it_ended(self, store, now):
        store.sessions.started(record("s1", "alice", now))
        known = store.ends.still_open()
        assert known == ["s1"]
        assert store.ends.reconcile([record("s1", "alice", now)], now + H, known)["missing"] == []
        assert store.ends.reconcile([], now + 9 * H, known, leave=["s1"])["missing"] == []
        report = store.ends.reconcile([], now + 9 * H, known)
        assert report == {"added": [], "reopened": [], "missing": ["s1"]}
        row = store.sessions.get("s1")
        assert (row.ended_at, row.seen_at) == (None, now + H)

    @pytest.mark.parametrize("begun", [timedelta(0), -H, H])
    def test_a_session_younger_than_the_list_is_left_alone(self, store, now, begun):
        known = store.ends.still_open()
        store.sessions.started(record("s1", "alice", now + begun))
        assert store.ends.reconcile([], now + timedelta(seconds=10), known)["missing"] == []

    def test_a_start_that_goes_on_with_another_device_is_left_alone(self, store, now):
        store.sessions.started(record("s1", "alice", now))
        assert store.ends.reconcile([], now + timedelta(seconds=10), ["s1"])["missing"] == []

    def test_a_session_that_began_by_a_clock_that_was_ahead_is_missing_like_any_other(self, store, now):
        store.sessions.started(record("s1", "alice", now + H))
        assert store.ends.reconcile([], now, ["s1"])["missing"] == ["s1"]

    @pytest.mark.parametrize(("off", "told"), [(H, 0), (-H, 0), (timedelta(minutes=9), 9)])
    def test_a_begin_by_a_wrong_clock_gives_way_to_the_engines(self, store, now, off, told):
        store.sessions.started(record("s1", "alice", now + off))
        store.ends.reconcile([record("s1", "alice", now)], now, ["s1"])
        assert store.sessions.get("s1").started_at == now + timedelta(minutes=told)

    def test_the_engines_end_stays_exact_where_the_begin_was_told_by_a_wrong_clock(self, store, now):
        store.sessions.started(record("s1", "alice", now + H))
        ended = store.ends.record(Ended("s1", now, "crashed", "it crashed", clock=Clock.engine))
        assert ended.at == now
        assert store.sessions.get("s1").started_at <= now

    def test_a_lost_store_learns_of_running_sessions(self, store, now):
        report = store.ends.reconcile([record("s9", "zoe", now - H)], now, [])
        assert report["added"] == ["s9"]
        assert store.usage.gpu_hours("zoe", now - H, now) == 0.5

    def test_a_session_that_comes_back_is_open_again(self, store, now):
        store.sessions.started(record("s1", "alice", now))
        store.ends.record(Ended("s1", now, "lost", "gone", clock=Clock.last_seen))
        report = store.ends.reconcile([record("s1", "alice", now)], now + 2 * H, [])
        assert report["reopened"] == ["s1"]
        assert store.sessions.get("s1").ended_at is None

    def test_a_session_that_was_stopped_stays_ended(self, store, now):
        store.sessions.started(record("s1", "alice", now))
        store.ends.record(Ended("s1", now + H, "stopped"))
        assert store.ends.reconcile([record("s1", "alice", now)], now + 2 * H, [])["reopened"] == []
        assert store.sessions.get("s1").ended_at == now + H


def test_a_record_from_labels(now):
    labels = SessionLabels(
        user="alice",
        server="x",
        project="p",
        hub="hub",
        session="s1",
        gpu_uuids=("MIG-1",),
        gpu_equivalents=0.1429,
        created_at="2026-03-02T11:00:00Z",
        expires_at="nonsense",
        limits='{"cpus": 4, "memory": 1024}',
        course="nlp",
        profile="1g.10gb",
        groups=("a", "b,c"),
    )
    assert SessionLabels.from_labels(labels.to_labels()) == labels
    made = SessionRecord.from_labels(labels, now)
    assert (made.course, made.profile, made.groups) == ("nlp", "1g.10gb", ("a", "b,c"))
    assert SessionRecord.from_labels(labels, now, groups=["g"]).groups == ("g",)
    assert (made.started_at, made.expires_at, made.cpus, made.memory) == (now - H, None, 4.0, 1024)
    broken = SessionRecord.from_labels(SessionLabels("a", "", "", "", "s", created_at="", limits="{"), now)
    assert (broken.started_at, broken.cpus) == (now, 0.0)

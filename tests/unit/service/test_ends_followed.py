"""Ends that the engine's events tell to a service whose store is new."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.endings import Evidence
from ds01spawner.messages import ends as words
from ds01spawner.service import ends
from ds01spawner.store import SessionRecord, Store

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
LABELS = SessionLabels("alice", "", "thesis", "hub", "s1", created_at=NOW.isoformat())


@pytest.fixture
def site(tmp_path):
    store, told = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}"), []
    endings = SimpleNamespace(write_end=lambda ended, labels: told.append(ended))
    yield SimpleNamespace(
        store=lambda: store,
        engine=SimpleNamespace(session_in_event=lambda event: None),
        endings=endings,
        told=told,
    )
    store.close()


def report(site, seconds, **evidence):
    at = NOW + timedelta(seconds=seconds)
    ends._report(site, LABELS, Evidence(at, **evidence), ends.begin(site, NOW).blind_until)
    return site.told[-1]


def test_a_new_store_does_not_make_a_retire_of_the_hour_before_one_from_outside(site):
    """The whole site was started again on an empty store: the engine still tells of what it removed."""
    ended = report(site, -60, exit_code=137, signals=(9,), removed=True)
    assert (ended.kind, ended.reason) == ("unknown", words.WITH_FORMER_STORE)
    assert report(site, -60, exit_code=0).kind == "unknown"


def test_what_the_engine_itself_knows_is_told_all_the_same(site):
    assert report(site, -60, exit_code=3).kind == "crashed"
    assert report(site, -60, exit_code=137, oom=True).kind == "oom"


def test_what_ends_from_then_on_is_told_as_ever(site):
    assert report(site, 1, exit_code=137, signals=(9,), removed=True).kind == "removed"


def test_a_store_with_a_history_is_believed_though_no_events_were_read_yet(site):
    site.store().sessions.started(SessionRecord("s0", "bob", NOW))
    assert ends.begin(site, NOW).blind_until is None
    assert report(site, -60, exit_code=137, signals=(9,), removed=True).kind == "removed"

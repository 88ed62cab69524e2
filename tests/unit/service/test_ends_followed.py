"""Ends that the engine's events tell, to a service whose store may be new."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from ds01spawner.core.ending import Clock, Ended
from ds01spawner.core.labels import SessionLabels
from ds01spawner.core.settings import Settings
from ds01spawner.engines.docker.endings import of_events
from ds01spawner.engines.docker.engine import Docker
from ds01spawner.engines.ends import EndEvidence, explain
from ds01spawner.messages import end_clauses as words
from ds01spawner.service import ends
from ds01spawner.store import SessionRecord, Store
from ds01spawner.store.db import MADE
from ds01spawner.store.ending_log import Endings

S = timedelta(seconds=1)


@pytest.fixture
def site(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    yield SimpleNamespace(
        store=lambda: store,
        engine=Docker(Settings(state_dir=tmp_path)),
        endings=Endings(lambda: store, tmp_path),
    )
    store.close()


def report(site, seconds, **evidence):
    """What history says of an end so long after its store was made."""
    made = site.store().facts.moment(MADE)
    labels = SessionLabels(
        "alice", "", "thesis", "hub", f"s{seconds}", created_at=(made - 60 * S).isoformat()
    )
    ends._report(site, labels, EndEvidence(made + seconds * S, **evidence))
    return site.store().ends.of(labels.session)


def test_a_new_store_does_not_make_a_retire_of_the_hour_before_one_from_outside(site):
    """The whole site was started again on an empty store: the engine still tells of what it removed."""
    ended = report(site, -50, exit_code=137, signals=(9,), removed=True)
    assert (ended.kind, ended.reason) == ("unknown", words.WITH_FORMER_STORE)
    assert report(site, -49, exit_code=0).kind == "unknown"


def test_nor_where_the_hub_has_written_in_it_before_the_service_began(site):
    site.store().sessions.started(SessionRecord("s0", "bob", site.store().facts.moment(MADE)))
    assert report(site, -50, exit_code=137, signals=(9,), removed=True).kind == "unknown"


def test_what_the_engine_itself_knows_is_told_all_the_same(site):
    assert report(site, -50, exit_code=3).kind == "crashed"
    assert report(site, -49, exit_code=137, oom=True).kind == "oom"


def test_what_ends_from_then_on_is_told_as_ever(site):
    assert report(site, 60, exit_code=137, signals=(9,), removed=True).kind == "removed"


def event(action, seconds, **attributes):
    at = int(datetime(2026, 3, 2, tzinfo=timezone.utc).timestamp() + seconds)
    return {"Action": action, "timeNano": at * 10**9, "Actor": {"Attributes": attributes}}


KILL, DIE = event("kill", 0, signal="9"), event("die", 0, exitCode="137")


@pytest.mark.parametrize(
    ("events", "kind", "at", "clock"),
    [
        ([KILL, DIE, event("destroy", 1)], "removed", 0, Clock.engine),
        ([KILL, DIE, event("destroy", 8)], "killed", 0, Clock.engine),  # whoever found it ended removed it
        ([event("kill", 0, signal="15"), DIE, event("destroy", 1)], "killed", 0, Clock.engine),  # a stop
        ([KILL, DIE], "killed", 0, Clock.engine),
        ([event("die", 0, exitCode="2"), event("destroy", 8)], "crashed", 0, Clock.engine),
        ([event("destroy", 8)], "unknown", 8, Clock.noticed),  # an engine that was started again forgets
    ],
)
def test_what_a_removal_says_of_an_end(events, kind, at, clock):
    ended = explain("s1", of_events(events))
    assert (ended.kind, ended.clock) == (kind, clock)
    assert ended.at.timestamp() == event("die", at)["timeNano"] / 1e9


def test_of_a_session_that_history_never_heard_of_a_removal_alone_tells_nothing(site):
    assert report(site, -20, removed=True, exact=False) is None
    assert site.store().sessions.get("s-20") is None


def test_of_one_that_runs_in_history_it_tells_that_it_ended(site):
    store = site.store()
    store.sessions.started(SessionRecord("s-20", "alice", store.facts.moment(MADE) - 60 * S))
    assert report(site, -20, removed=True, exact=False).clock is Clock.noticed


def test_whoever_found_the_container_ended_knows_better_than_its_removal(site):
    at = site.store().facts.moment(MADE) + 60 * S
    site.store().sessions.started(SessionRecord("s1", "alice", at - 60 * S))
    for kind in ("removed", "killed", "removed"):
        site.endings.write_end(Ended("s1", at, kind, f"it was {kind}", clock=Clock.engine))
    assert site.store().ends.of("s1").kind == "killed"

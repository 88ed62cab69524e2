"""Carrying intents out: over only when the engine says that the container is gone, by whoever is alive."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
import requests
from support.ours import OTHER
from support.played_engine import api_error

from ds01spawner.core.errors import EngineError
from ds01spawner.core.installation import Standing
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import EngineSession
from ds01spawner.engines.docker import launch, retire
from ds01spawner.intents.carry import Carrier, carry, carry_open
from ds01spawner.intents.intent import intend

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
LATER = NOW + timedelta(minutes=2)
ALICE = SessionLabels("alice", "", "thesis", "hub", "s1", created_at=NOW.isoformat())
FAILURES = {
    "the engine is away": ("down", True),
    "it hangs": ("inspect_container", requests.ReadTimeout("read timed out")),
    "stop hangs": ("stop", requests.ReadTimeout("read timed out")),
    "removal hangs": ("remove_container", requests.ReadTimeout("read timed out")),
    "removal fails": ("remove_container", api_error(500, "device or resource busy")),
    "removal is refused": ("remove_container", api_error(403)),
    "removal is said and does not happen": ("stays", True),
    "a removal that hangs is under way": ("remove_container", api_error(409)),
}


def wanted(site, labels=ALICE, kind="admin", **more):
    intent = intend(
        labels, NOW, reason="the room closes", kind=kind, by="root", container=f"c-{labels.session}", **more
    )
    return site.intents.ask(intent)


def break_it(engine, how) -> None:
    what, value = FAILURES[how]
    if what in ("down", "stays"):
        setattr(engine, what, value)
    else:
        engine.fails[what] = value


def mend_it(engine) -> None:
    engine.down, engine.stays, engine.fails = False, False, {}


@pytest.mark.parametrize("how", FAILURES)
def test_a_retire_that_failed_is_not_done_and_is_done_later(site, engine, how):
    engine.add(ALICE)
    intent = wanted(site)
    break_it(engine, how)
    done = carry(site, intent, NOW)
    assert not done.gone
    assert ("busy" if how == "removal fails" else "") in done.problem
    assert done.problem
    assert site.intents.get("s1").problem
    assert site.endings.last("alice", "") is None
    mend_it(engine)
    (done,) = carry_open(site, LATER)
    assert done.gone
    assert engine.containers == {}
    assert site.intents.open() == []
    assert site.endings.last("alice", "").reason == "the room closes"


@pytest.mark.parametrize("how", FAILURES)
def test_the_engine_adapter_says_gone_only_when_it_is_gone(site, engine, how):
    engine.add(ALICE)
    break_it(engine, how)
    with pytest.raises(EngineError):
        retire.end(engine, "c-s1", "s1", site.engine.session_in)
    mend_it(engine)
    assert engine.containers


@pytest.mark.parametrize(
    ("other", "by", "over"),
    [
        (replace(ALICE, session="s2"), None, True),  # an id is never given twice, so this session is gone
        (ALICE, OTHER, False),  # nobody knows whose it is, so it stays an open question
        (replace(ALICE, session="s2"), OTHER, True),
    ],
)
def test_what_is_another_session_is_never_touched(site, engine, other, by, over):
    container = engine.add(other, by=by)
    with pytest.raises(EngineError, match="nothing was done"):
        retire.end(engine, container, "s1", site.engine.session_in)
    asked = intend(ALICE, NOW, reason="r", kind="admin", by="root", container=container)
    assert carry(site, site.intents.ask(asked), NOW).gone is over
    assert engine.containers[container]["State"]["Running"]
    assert "stop" not in engine.calls
    assert "remove_container" not in engine.calls


def test_a_container_without_labels_of_ours_is_never_touched(site, engine):
    engine.add(ALICE)
    engine.containers["c-s1"]["Config"]["Labels"] = None
    with pytest.raises(EngineError, match="nothing was done"):
        retire.end(engine, "c-s1", "s1", site.engine.session_in)
    assert "remove_container" not in engine.calls


def test_what_is_gone_already_is_over(site, engine):
    assert carry(site, wanted(site), NOW).gone
    assert site.intents.open() == []
    assert site.endings.last("alice", "").reason == "the room closes"


@pytest.mark.parametrize(
    ("kind", "told"), [("failed", False), ("ended", False), ("leftover", True), ("orphan", True)]
)
def test_history_hears_only_of_ends_that_it_does_not_know(site, engine, kind, told):
    engine.add(ALICE, "created")
    assert carry(site, wanted(site, kind=kind), NOW).gone
    assert (site.endings.last("alice", "") is not None) is told


def test_a_stop_that_fails_ends_by_force(site, engine):
    engine.add(ALICE)
    engine.fails["stop"] = api_error(500, "tried to kill container, but did not receive an exit event")
    assert carry(site, wanted(site), NOW).gone


def test_a_dead_engine_is_asked_once_for_all(site, engine):
    for number in range(5):
        labels = replace(ALICE, session=f"s{number}")
        engine.add(labels)
        wanted(site, labels)
    engine.down, engine.calls = True, []
    done = carry_open(site, LATER)
    assert [d.gone for d in done] == [False] * 5
    assert engine.calls == ["ping"]
    assert all(i.problem for i in site.intents.open())


def test_one_that_cannot_be_removed_holds_up_no_other(site, engine):
    for number in range(3):
        labels = replace(ALICE, session=f"s{number}")
        engine.add(labels)
        wanted(site, labels)
    engine.fails["remove_container"] = lambda: None
    first = engine.containers["c-s0"]
    remove = engine.remove_container

    def wedged(name, **more):
        if name == "c-s0":
            raise requests.ReadTimeout("read timed out")
        remove(name, **more)

    engine.remove_container = wedged
    assert sorted(d.gone for d in carry_open(site, LATER)) == [False, True, True]
    assert list(engine.containers.values()) == [first]


def test_what_waits_or_is_left_to_its_asker_is_not_touched(site, engine):
    engine.add(ALICE)
    wanted(site, kind="orphan", due=LATER + timedelta(hours=1), alone=True)
    assert carry_open(site, LATER) == []
    site.intents.done("s1")
    wanted(site)
    assert carry_open(site, NOW + timedelta(seconds=5)) == []
    assert engine.calls == []


def test_many_who_carry_at_once_all_succeed(site, engine):
    engine.add(ALICE)
    intent, barrier, found = wanted(site), threading.Barrier(8), []

    def go() -> None:
        barrier.wait()
        found.append(carry(site, intent, NOW).gone)

    threads = [threading.Thread(target=go) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert engine.containers == {}
    assert site.intents.open() == []


def test_a_process_without_a_loop_goes_on_until_all_is_done(site, engine):
    engine.add(ALICE)
    wanted(site)
    engine.down = True
    tried = threading.Event()
    answers = engine.answers

    def watched():
        tried.set()
        return answers()

    engine.answers = watched
    carrier = Carrier(site, lambda: LATER, pause=0.01)
    carrier.kick()
    carrier.kick()
    assert tried.wait(20)
    engine.down = False
    deadline = threading.Event()
    for _ in range(2000):
        if not site.intents.open() and not carrier._running:
            break
        deadline.wait(0.01)
    assert engine.containers == {}
    assert not carrier._running


# --- what a failed start leaves -----------------------------------------------------------------


def test_a_removal_that_is_under_way_is_no_failure_of_a_discard(site, engine):
    engine.add(ALICE, "created", name="ds01--alice")

    def under_way():
        engine.containers.clear()
        raise api_error(409, "removal of container is already in progress")

    engine.fails["remove_container"] = under_way
    assert launch.discard(site.engine, "ds01--alice", "s1")


@pytest.mark.parametrize("how", ["removal fails", "removal is said and does not happen"])
def test_a_discard_says_gone_only_when_it_is_gone(site, engine, how):
    engine.add(ALICE, "created", name="ds01--alice")
    break_it(engine, how)
    with pytest.raises((EngineError, Exception), match=r"busy|still there"):
        launch.discard(site.engine, "ds01--alice", "s1")


def test_a_discard_touches_nothing_of_another_start(site, engine):
    engine.add(replace(ALICE, session="s2"), name="ds01--alice")
    assert not launch.discard(site.engine, "ds01--alice", "s1")
    assert "remove_container" not in engine.calls


# --- leftovers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "age", "standing", "left"),
    [
        ("created", 20, Standing.OURS, True),
        ("exited", 20, Standing.OURS, True),
        ("dead", 20, Standing.OURS, True),
        ("running", 20, Standing.OURS, False),
        ("running", 60 * 24 * 30, Standing.OURS, False),
        ("paused", 20, Standing.OURS, False),
        ("restarting", 20, Standing.OURS, False),
        ("removing", 20, Standing.OURS, False),
        ("created", 14, Standing.OURS, False),
        ("exited", 20, Standing.FOREIGN, False),
        ("exited", 20, Standing.FORGED, False),
    ],
)
def test_a_running_container_is_never_a_leftover(state, age, standing, left):
    labels = replace(ALICE, created_at=(NOW - timedelta(minutes=age)).isoformat())
    record = EngineSession(labels, "c1", "n", state, "", standing=standing)
    assert bool(retire.leftovers([record], NOW, timedelta(minutes=15))) is left


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(seconds=2), -timedelta(hours=1)])
def test_a_session_that_ran_when_it_was_retired_ended_by_that_whatever_the_clocks_say(site, engine, ahead):
    engine.add(ALICE)
    engine.ends_at = f"{NOW - ahead:%Y-%m-%dT%H:%M:%S}.000000000Z"
    assert carry(site, wanted(site), NOW).gone
    ended = site.store().ends.of("s1")
    assert (ended.kind, ended.at) == ("admin", NOW - ahead)


def test_one_that_had_ended_before_was_not_retired(site, engine):
    container = engine.add(ALICE, state="exited")
    engine.containers[container]["State"]["FinishedAt"] = "2026-11-28T09:50:00.000000000Z"
    assert carry(site, wanted(site), NOW).gone
    assert site.store().ends.of("s1").kind != "admin"

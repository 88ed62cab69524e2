"""Retiring straight on the engine, call by call: what is asked of it, in which order, what is then said."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import docker.errors
import pytest
import requests

from ds01spawner.core.errors import EngineError
from ds01spawner.core.installation import Standing
from ds01spawner.core.labels import SESSION, SessionLabels
from ds01spawner.engines.base import EngineSession
from ds01spawner.engines.docker import endings, retire
from ds01spawner.engines.ends import EndEvidence

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
MINE = SessionLabels("alice", "", "thesis", "hub", "s1", created_at=NOW.isoformat())


def refused(status, explanation="no"):
    return docker.errors.APIError("x", SimpleNamespace(status_code=status, reason="r"), explanation)


class Engine:
    """Plays the engine's five calls; ``fails`` maps a call to what it raises."""

    def __init__(self, running=True, fails=None, stays=0, labels=None):
        self.calls, self.running, self.fails, self.stays = [], running, fails or {}, stays
        self.labels = {SESSION: "s1"} if labels is None else labels
        self.there = True

    def _do(self, name, *what):
        self.calls.append((name, *what))
        if name in self.fails:
            raise self.fails[name]

    def inspect_container(self, container):
        self._do("inspect", container)
        if not self.there:
            if not self.stays:
                raise docker.errors.NotFound("gone")
            self.stays -= 1
        return {"Id": "c" * 64, "Config": {"Labels": self.labels}, "State": {"Running": self.running}}

    def stop(self, container, timeout):
        self._do("stop", container, timeout)

    def remove_container(self, container, force, v):
        self._do("remove", container, force, v)
        self.there = False


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No log, no events, and no patience with what stays."""
    monkeypatch.setattr(retire, "log_tail", lambda client, container, most, tail: b"the last words\n")
    evidence = EndEvidence(NOW, 0)
    monkeypatch.setattr(endings, "read", lambda client, container, since, until: evidence)
    monkeypatch.setattr(retire, "VERIFY_S", 0.3)
    monkeypatch.setattr(retire.time, "sleep", lambda seconds: None)


def mine(found):
    """Of this installation when its labels say so, as `Site.session_in` answers."""
    return MINE if found["Config"]["Labels"].get(SESSION) == "s1" else None


def test_a_running_session_is_stopped_with_its_grace_removed_with_its_volumes_and_looked_for():
    engine = Engine(stays=2)
    done = retire.end(engine, "ds01-alice", "s1", mine, grace=17)
    assert engine.calls == [
        ("inspect", "ds01-alice"),
        ("stop", "c" * 64, 17),
        ("remove", "c" * 64, True, True),
        ("inspect", "c" * 64),
        ("inspect", "c" * 64),
        ("inspect", "c" * 64),
    ]
    assert (done.labels, done.log_tail) == (MINE, "the last words\n")
    assert (done.ended.session, done.ended.at, done.ended.kind) == ("s1", NOW, "shutdown")
    assert done.ended.log_tail == "the last words\n"


def test_the_usual_grace_is_half_a_minute():
    engine = Engine()
    retire.end(engine, "ds01-alice", "s1", mine)
    assert ("stop", "c" * 64, 30) in engine.calls


def test_what_has_ended_is_not_stopped_again():
    engine = Engine(running=False)
    retire.end(engine, "ds01-alice", "s1", mine)
    assert [c[0] for c in engine.calls] == ["inspect", "remove", "inspect"]


def test_what_is_gone_already_is_retired():
    gone = Engine(fails={"inspect": docker.errors.NotFound("gone")})
    assert retire.end(gone, "ds01-alice", "s1", mine) == retire.Retired(None)
    under_way = Engine(fails={"stop": docker.errors.NotFound("gone")})
    assert retire.end(under_way, "ds01-alice", "s1", mine) == retire.Retired(None)


@pytest.mark.parametrize(
    ("labels", "kind", "sentence"),
    [
        (
            {SESSION: "s2"},
            retire.NotThatSession,
            "the container ds01-alice is not that session's; nothing was done",
        ),
        ({}, retire.NotThatSession, "the container ds01-alice is not that session's; nothing was done"),
        (None, retire.NotThatSession, "the container ds01-alice is not that session's; nothing was done"),
    ],
)
def test_another_container_under_the_name_is_not_touched(labels, kind, sentence):
    engine = Engine(labels=labels or {})
    with pytest.raises(kind) as said:
        retire.end(engine, "ds01-alice", "s1", lambda found: None)
    assert str(said.value) == sentence
    assert engine.calls == [("inspect", "ds01-alice")]


def test_a_forged_session_is_not_touched_and_another_of_ours_neither():
    forged = Engine()
    with pytest.raises(
        EngineError, match="the labels of ds01-alice are not of this installation, so nothing"
    ):
        retire.end(forged, "ds01-alice", "s1", lambda found: None)
    other = Engine()
    with pytest.raises(EngineError, match="nothing was done to it"):
        retire.end(other, "ds01-alice", "s1", lambda found: replace(MINE, session="s9"))
    assert forged.calls == other.calls == [("inspect", "ds01-alice")]
    long = Engine(labels={})
    with pytest.raises(retire.NotThatSession, match=f"^the container {'x' * 63} is not"):
        retire.end(long, "x" * 90, "s1", mine)


def test_what_does_not_stop_is_removed_by_force(caplog):
    engine = Engine(fails={"stop": refused(500, "it hangs")})
    retire.end(engine, "ds01-alice", "s1", mine)
    assert [c[0] for c in engine.calls] == ["inspect", "stop", "remove", "inspect"]
    assert caplog.messages == ["cccccccccccc did not stop, so it is removed by force: it hangs"]


def test_a_removal_that_is_under_way_is_waited_for():
    engine = Engine(fails={"remove": refused(409)})
    engine.there = True

    def inspect(container):
        engine.calls.append(("inspect", container))
        if len([c for c in engine.calls if c[0] == "inspect"]) > 1:
            raise docker.errors.NotFound("gone")
        return {"Id": "c" * 64, "Config": {"Labels": engine.labels}, "State": {"Running": False}}

    engine.inspect_container = inspect
    assert retire.end(engine, "ds01-alice", "s1", mine).labels == MINE


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [
        ({"inspect": refused(500, "broken")}, "the engine could not retire ds01-alice: broken"),
        ({"remove": refused(500, "busy")}, "the engine could not retire ds01-alice: busy"),
        (
            {"inspect": requests.ConnectionError("no socket")},
            "the engine did not answer while retiring: no socket",
        ),
        ({"stop": OSError("pipe")}, "the engine did not answer while retiring: pipe"),
        ({"stop": docker.errors.DockerException("odd")}, "the engine did not answer while retiring: odd"),
    ],
)
def test_a_failure_is_never_told_as_done(fails, sentence):
    with pytest.raises(EngineError) as said:
        retire.end(Engine(fails=fails), "ds01-alice", "s1", mine)
    assert str(said.value) == sentence


def test_what_stays_after_its_removal_is_told():
    with pytest.raises(EngineError, match=r"^the container cccccccccccc is still there after its removal$"):
        retire.end(Engine(stays=10**9), "ds01-alice", "s1", mine)


def test_an_engine_that_does_not_say_whether_it_is_gone_is_told():
    engine = Engine(fails={"inspect": requests.ConnectionError("no socket")})
    with pytest.raises(EngineError, match=r"^the engine does not say whether it is gone: no socket$"):
        retire.verify_gone(engine, "c1")


def test_a_log_that_cannot_be_read_keeps_nobody_from_ending(monkeypatch):
    def broken(client, container, most, tail):
        raise requests.ReadTimeout("slow")

    monkeypatch.setattr(retire, "log_tail", broken)
    done = retire.end(Engine(), "ds01-alice", "s1", mine)
    assert (done.labels, done.log_tail) == (MINE, "")


def test_the_log_is_read_within_its_bounds_and_the_events_of_the_last_hour(monkeypatch):
    asked = {}

    def log(client, container, most, tail):
        asked["log"] = (container, most, tail)
        return b"x\xff"

    def read(client, container, since, until):
        asked["events"] = (container, until - since, until.tzinfo)
        return EndEvidence()

    monkeypatch.setattr(retire, "log_tail", log)
    monkeypatch.setattr(endings, "read", read)
    done = retire.end(Engine(), "ds01-alice", "s1", mine)
    assert asked["log"] == ("c" * 64, 512 * 1024, 2000)
    assert asked["events"] == ("c" * 64, timedelta(hours=1), timezone.utc)
    assert (done.log_tail, done.ended) == ("x\N{REPLACEMENT CHARACTER}", None)


@pytest.mark.parametrize(
    ("state", "standing", "age", "left"),
    [
        ("exited", Standing.OURS, 901, True),
        ("created", Standing.OURS, 901, True),
        ("dead", Standing.OURS, 901, True),
        ("running", Standing.OURS, 10**6, False),
        ("paused", Standing.OURS, 10**6, False),
        ("restarting", Standing.OURS, 10**6, False),
        ("exited", Standing.FOREIGN, 10**6, False),
        ("exited", Standing.FORGED, 10**6, False),
        ("exited", Standing.OURS, 900, False),
        ("exited", Standing.OURS, 1, False),
    ],
)
def test_what_no_session_can_come_of(state, standing, age, left):
    made = replace(MINE, created_at=(NOW - timedelta(seconds=age)).isoformat())
    record = EngineSession(made, "c1", "ds01-alice", state, "", standing=standing)
    unreadable = replace(record, labels=replace(MINE, created_at="yesterday"))
    found = retire.leftovers([unreadable, record], NOW, timedelta(seconds=900))
    assert found == ([record] if left else [])

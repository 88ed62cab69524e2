"""What every engine must do, whatever it is made of. See `ds01spawner.engines.base`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from bench import EATS, Bench

from ds01spawner.core.errors import EngineError, Refused
from ds01spawner.core.hub_client import read_user
from ds01spawner.engines.base import NotThatSession, leftovers
from ds01spawner.engines.claiming import claim
from ds01spawner.engines.ends import of_session
from ds01spawner.intents.carry import carry, carry_open
from ds01spawner.intents.intent import intend
from ds01spawner.policy.options import parse_options
from ds01spawner.queue.joining import instead_of
from ds01spawner.service.reconciler import Reconciler

SLICE = "1g.10gb"


def refused(bench: Bench, user: str, **more) -> str:
    """The code with which a claim is refused; nothing may have come of it."""
    before = bench.ours()
    with pytest.raises(Refused) as caught:
        bench.claim(user, **more)
    assert bench.ours() == before
    return caught.value.refusal.code


def outcome(request) -> str:
    """The session that was claimed, or the code of the refusal."""
    try:
        return claim(request).labels.session
    except Refused as error:
        return error.refusal.code


# --- starts -----------------------------------------------------------------------------------------


def test_a_session_that_is_launched_runs_and_holds_what_it_was_given(bench):
    one = bench.launch("alice", gpu=SLICE)
    record, found = bench.record(one), bench.found(one)
    assert (record.state, record.labels.user, record.name) == ("running", "alice", one.name)
    assert record.labels.gpu_uuids == tuple(d.uuid for d in one.claimed.claim.devices)
    assert bench.held() == [one.session]
    assert (found.container, found.running, found.labels) == (one.box, True, record.labels)
    assert found.end.ended_at is None


def test_a_claim_holds_its_device_before_it_runs(bench):
    one = bench.claim("alice", gpu=SLICE)
    assert bench.ours() == {one.session: "created"}
    assert bench.held() == [one.session]
    assert not bench.found(one).running


def test_a_session_without_devices_holds_none(bench):
    one = bench.launch("alice")
    assert bench.held() == []
    assert bench.ours() == {one.session: "running"}


def test_more_than_the_policy_allows_is_refused_and_leaves_nothing(bench):
    bench.launch("alice", server="1")
    bench.claim("alice", server="2")
    assert refused(bench, "alice", server="3") == "sessions-max"


def test_when_all_devices_are_held_the_next_is_refused(bench):
    bench.launch("alice", gpu=SLICE)
    bench.claim("bob", gpu=SLICE)
    assert refused(bench, "carol", gpu=SLICE) == "gpus-full"


def test_whoever_waits_gets_the_device_when_it_is_free(bench):
    one = bench.launch("alice", gpu=SLICE)
    bench.launch("bob", gpu=SLICE)
    request = bench.request("carol", gpu=SLICE)
    with pytest.raises(Refused) as full:
        claim(request)
    options = parse_options({"project": "p", "gpu": SLICE, "wait": True})
    answer = instead_of(
        bench.site, request.person, options, "", full.value.refusal, bench.now, "http://hub/queue"
    )
    assert answer.ticket
    bench.engine.retire(one.box, one.session, 1)
    assert claim(request).labels.user == "carol"


def test_many_at_once_for_the_last_device_get_it_once(bench):
    bench.launch("zoe", gpu=SLICE)
    requests = [bench.request(f"user{n}", gpu=SLICE) for n in range(6)]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(outcome, requests))
    got = [a for a in answers if not a.startswith("gpus-")]
    assert len(got) == 1
    assert sorted(bench.held())[0] != sorted(bench.held())[1]
    assert got[0] in bench.held()


def test_many_at_once_of_one_person_get_no_more_than_the_quota(bench):
    requests = [bench.request("alice", server=str(n)) for n in range(5)]

    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(outcome, requests))
    assert answers.count("sessions-max") == 3
    assert len(bench.ours()) == 2


def test_an_image_that_is_not_there_is_said_to_be_missing(bench):
    assert refused(bench, "alice", image="sha256:" + "f" * 64, gpu=SLICE) == "image-missing"
    assert bench.held() == []


def test_another_ones_name_is_refused_and_the_other_is_left_alone(bench):
    request = bench.request("alice")
    name = request.create_kwargs["name"]
    theirs = bench.behind.stranger(name)
    with pytest.raises(Refused) as caught:
        claim(request)
    assert caught.value.refusal.code == "name-taken"
    found = bench.engine.find(name)
    assert (found.container, found.labels) == (theirs, None)
    assert bench.engine.discard(name, "theirs") is False
    with pytest.raises(EngineError):
        bench.engine.retire(theirs, "theirs", 1)
    assert bench.engine.find(name) is not None
    assert theirs not in {s.container for s in bench.engine.look().sessions}


def test_a_session_is_told_when_its_time_is_over(bench):
    one = bench.launch("alice", gpu=SLICE)
    until = (bench.now + timedelta(hours=1)).isoformat(timespec="seconds")
    assert bench.record(one).labels.expires_at == until
    (holding,) = [h for h in bench.engine.look().holdings if h.session == one.session]
    assert holding.until == until
    assert bench.engine.capabilities().deadline is False, "the idle service ends it; see its own tests"


# --- ends that are ours -----------------------------------------------------------------------------


def test_a_retire_frees_the_device_and_may_be_repeated(bench):
    one = bench.launch("alice", gpu=SLICE)
    done = bench.engine.retire(one.box, one.session, 1)
    assert done.labels.session == one.session
    assert bench.engine.find(one.name) is None
    assert (bench.ours(), bench.held()) == ({}, [])
    assert bench.engine.retire(one.box, one.session, 1).labels is None
    bench.launch("bob", gpu=SLICE)


def test_a_retire_by_name_touches_no_later_session(bench):
    first = bench.launch("alice")
    bench.engine.retire(first.name, first.session, 1)
    second = bench.launch("alice")
    with pytest.raises(NotThatSession):
        bench.engine.retire(second.name, first.session, 1)
    assert bench.ours() == {second.session: "running"}


def test_a_discard_removes_what_its_own_start_made_and_nothing_else(bench):
    one = bench.claim("alice", gpu=SLICE)
    assert bench.engine.discard(one.name, "another") is False
    assert bench.held() == [one.session]
    assert bench.engine.discard(one.name, one.session) is True
    assert bench.engine.discard(one.name, one.session) is False
    assert bench.held() == []


def test_what_is_decided_while_the_engine_is_away_is_carried_out_afterwards(bench):
    one = bench.launch("alice", gpu=SLICE)
    labels = bench.record(one).labels
    wanted = intend(labels, bench.now, reason="test", kind="admin", by="root", container=one.box, grace=1)
    intent = bench.site.intents.ask(wanted)
    with bench.behind.away():
        for ask in (bench.engine.answers, bench.engine.look, lambda: bench.engine.find(one.name)):
            with pytest.raises(EngineError):
                ask()
        with pytest.raises(EngineError):
            bench.engine.retire(one.box, one.session, 1)
        assert bench.engine.log_tail(one.box) == ""
        assert not carry(bench.site, intent, bench.now).gone
        with pytest.raises(EngineError):
            bench.claim("bob")
    assert bench.held() == [one.session], "it ran on, and held its device"
    assert [c.gone for c in carry_open(bench.site, bench.now + timedelta(minutes=5))] == [True]
    assert bench.held() == []


async def test_a_session_without_an_owner_is_ended(bench):
    one = bench.launch("alice", gpu=SLICE)
    now = [bench.now]

    class Hub:
        async def users(self, state="active"):
            yield read_user({"name": "bob", "servers": {}})

    limit = timedelta(seconds=bench.settings.orphan_limit)
    reconciler = Reconciler(bench.site, Hub(), lambda: now[0])
    for _ in range(12):
        now[0] += timedelta(seconds=20)
        await reconciler.look()
    assert [i.session for i in bench.site.intents.open()] == [one.session]
    assert bench.held() == [one.session], "its owner may come back to it"
    now[0] += limit
    carry_open(bench.site, now[0])
    assert bench.held() == []


# --- the hub comes up again -------------------------------------------------------------------------


def test_a_hub_that_comes_up_again_finds_a_session_that_runs(bench):
    one = bench.launch("alice", gpu=SLICE)
    bench.restart()
    found = bench.found(one)
    assert (found.running, found.labels.session) == (True, one.session)
    assert found.env["JUPYTERHUB_API_TOKEN"] == "secret"
    assert bench.held() == [one.session]
    bench.engine.retire(one.box, one.session, 1)
    assert bench.held() == []


def test_a_hub_that_comes_up_again_knows_a_start_that_was_cut_off(bench):
    one = bench.claim("alice", gpu=SLICE)
    bench.engine.let_go(one.claimed)
    bench.restart()
    sessions, older = bench.engine.look().sessions, timedelta(minutes=15)
    assert bench.held() == [one.session]
    assert leftovers(sessions, bench.now, older) == []
    (left,) = leftovers(sessions, bench.now + timedelta(hours=1), older)
    assert bench.engine.retire(left.container, left.labels.session, 1).labels is not None
    assert bench.held() == []


def test_a_session_of_another_installation_is_none_of_ours(bench, tmp_path):
    one = bench.launch("alice", gpu=SLICE)
    (bench.settings.state_dir / "installation.json").rename(tmp_path / "away.json")
    bench.restart()
    state = bench.engine.look()
    assert state.sessions == ()
    assert one.box in {s.container for s in state.others}
    assert bench.found(one).labels is None
    with pytest.raises(EngineError):
        bench.engine.retire(one.box, one.session, 1)


# --- ends that are not ours -------------------------------------------------------------------------


def test_a_session_that_was_deleted_is_gone_and_its_device_free(bench):
    one = bench.launch("alice", gpu=SLICE)
    before = bench.now - timedelta(minutes=5)
    bench.behind.delete(one.box)
    assert bench.engine.find(one.name) is None
    assert bench.held() == []
    end = bench.engine.how_vanished(one.session, before, bench.now + timedelta(minutes=5))
    assert of_session(one.claimed.labels, end).kind == "removed"
    assert bench.engine.how_vanished("never", before, bench.now).ended_at is None


def test_a_session_that_was_killed_says_so_and_still_holds_its_device(bench):
    one = bench.launch("alice", gpu=SLICE)
    bench.behind.kill(one.box)
    found = bench.found(one)
    assert (found.running, found.labels.session) == (False, one.session)
    assert of_session(found.labels, bench.engine.how_ended(one.box)).kind == "killed"
    assert bench.held() == [one.session], "until it is removed"


def test_a_session_that_used_up_its_memory_says_so(bench):
    one = bench.launch("alice", command=EATS)
    bench.behind.exhaust(one)
    found = bench.found(one)
    assert not found.running
    assert of_session(found.labels, found.end).kind == "oom"
    assert of_session(found.labels, bench.engine.how_ended(one.box)).kind == "oom"


def test_counters_are_given_for_every_session_also_while_the_engine_is_away(bench):
    one = bench.launch("alice")
    sessions = bench.engine.look().sessions
    assert set(bench.engine.counters(sessions)) == {one.box}
    with bench.behind.away():
        assert bench.engine.counters(sessions)[one.box].cpu_seconds is None


# --- order ------------------------------------------------------------------------------------------


async def test_a_discard_behind_a_claim_finds_what_it_made_though_none_waits_for_it(bench):
    request = bench.request("alice", gpu=SLICE)
    name = request.create_kwargs["name"]
    asked = bench.engine.in_order("claim", name, lambda: claim(request))
    asked.cancel()
    done = await bench.engine.in_order("stop", name, lambda: bench.engine.discard(name, request.session))
    assert done in (True, False), "cancelled before it began, or made and removed"
    assert bench.ours() == {}

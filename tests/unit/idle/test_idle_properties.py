"""What holds for every history of looks at a session, whatever the signals say."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from idle_rows import ALICE, QUIET, SCARCE, STUDENT, TEN, at, failed, having, replace

from ds01spawner.idle.decide import decide, mark_visible
from ds01spawner.idle.model import Memory

KINDS = {
    "idle": having(QUIET, gpu=QUIET.gpu),
    "active": having(QUIET, cpu=1.0),
    "unknown": having(QUIET, cpu=failed("no answer")),
}
SESSION = replace(ALICE, holds_gpu=True)

looks = st.lists(
    st.fixed_dictionaries(
        {
            "after": st.sampled_from([0, 1, 20, 60, 60, 60, 120, 180, 181, 600, 3600]),
            "kind": st.sampled_from(["idle", "idle", "idle", "idle", "active", "unknown"]),
            "pressed": st.booleans(),
            "delivered": st.sampled_from([True, True, False]),
            "keep": st.sampled_from([None, None, None, 300, 2400]),
        }
    ),
    min_size=1,
    max_size=90,
)


def play(history, lose_at=None, session=SESSION, rules=STUDENT):
    """Live through ``history``; yields what a look saw, decided and knew before. Ends at a retire."""
    now, memory, until = TEN, None, None
    for number, look in enumerate(history):
        now += timedelta(seconds=look["after"])
        if number == lose_at:
            memory = None
        if look["keep"]:
            until = max(until or now, now + timedelta(seconds=look["keep"]))
        scene = replace(session, extension_until=until)
        before = memory
        decision = decide(now, scene, KINDS[look["kind"]], rules, memory, SCARCE if look["pressed"] else None)
        memory = decision.memory
        if decision.warn and look["delivered"]:
            memory = mark_visible(memory, now)
        yield now, look, decision, before, until
        if decision.state == "retire":
            return


@given(looks)
@settings(max_examples=120, deadline=None)
def test_no_retire_without_a_warning_visible_for_its_lead(history):
    visible, seen = None, None
    for now, look, decision, _, _ in play(history):
        if seen is not None and (now - seen).total_seconds() > STUDENT.max_gap:
            visible = None
        if decision.state == "retire":
            assert visible is not None
            assert (now - visible).total_seconds() >= STUDENT.warn_lead
        if decision.state in ("idle",) or look["kind"] == "active":
            visible = None
        if decision.warn and look["delivered"]:
            visible = now
        seen = now


@given(looks)
@settings(max_examples=120, deadline=None)
def test_no_retire_because_of_what_is_unknown_or_in_use(history):
    for _, look, decision, _, _ in play(history):
        if look["kind"] != "idle":
            assert decision.state == "active"
            assert not decision.warn


@given(looks)
@settings(max_examples=120, deadline=None)
def test_only_observed_idle_time_counts(history):
    observed, seen = 0.0, None
    for now, look, decision, _, _ in play(history):
        gap = (now - seen).total_seconds() if seen else 0.0
        if look["kind"] == "active":
            observed = 0.0
        elif look["kind"] == "idle" and gap <= STUDENT.max_gap:
            observed += gap
        assert decision.idle_seconds <= observed + 1e-6
        if decision.state == "retire":
            assert observed >= (STUDENT.timeout / 2 if look["pressed"] else STUDENT.timeout) - 1e-6
        seen = now


@given(looks)
@settings(max_examples=120, deadline=None)
def test_no_retire_before_a_granted_extension_is_over(history):
    for now, _, decision, _, until in play(history):
        if decision.state == "retire" and until is not None:
            assert now >= until


@given(looks, st.integers(0, 90))
@settings(max_examples=120, deadline=None)
def test_a_restart_that_loses_all_memory_never_ends_a_session_earlier(history, lose_at):
    whole, lost = list(play(history)), list(play(history, lose_at))
    assert len(lost) >= len(whole)
    if lost[-1][2].state == "retire":
        assert lost[-1][0] >= whole[-1][0]


@given(looks)
@settings(max_examples=80, deadline=None)
def test_the_same_pass_never_warns_and_retires(history):
    for _, _, decision, before, _ in play(history):
        assert not (decision.warn and decision.state == "retire")
        if decision.state == "retire":
            assert before.warning("idle").visible_at is not None


@given(looks)
@settings(max_examples=80, deadline=None)
def test_memory_survives_its_file(history):
    for _, _, decision, _, _ in play(history):
        assert Memory.from_dict(decision.memory.as_dict()) == decision.memory


@given(looks, st.sampled_from([60, 600, 3600]))
@settings(max_examples=80, deadline=None)
def test_the_time_told_is_kept(history, grace):
    """What a page shows as ``retire_at`` is never later than the retire that then happens."""
    session = replace(SESSION, started_at=at(-grace / 60))
    told = None
    for now, look, decision, _, _ in play(history, session=session):
        if decision.state == "retire":
            assert told is not None
            assert now >= told
        told = decision.retire_at if look["delivered"] or not decision.warn else None
        if look["pressed"]:
            told = min(told, now) if told else None


def test_a_second_session_of_the_same_person_owes_nothing_to_the_first():
    last = list(play([{"after": 60, "kind": "idle", "pressed": False, "delivered": True, "keep": None}] * 25))
    memory = last[-1][2].memory
    assert memory.idle_seconds == 24 * 60
    again = decide(last[-1][0], replace(SESSION, id="s2"), KINDS["idle"], STUDENT, memory)
    assert (again.state, again.idle_seconds) == ("idle", 0.0)


def test_plain_idleness_is_warned_after_twenty_and_retired_after_thirty_minutes():
    look = {"after": 60, "kind": "idle", "pressed": False, "delivered": True, "keep": None}
    states = [(now, d.state) for now, _, d, _, _ in play([look] * 60)]
    first = next(now for now, s in states if s == "warned")
    assert (first - states[0][0]).total_seconds() == 20 * 60
    assert states[-1][1] == "retire"
    assert (states[-1][0] - states[0][0]).total_seconds() == 30 * 60

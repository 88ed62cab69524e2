"""Which sessions nobody owns: the whole decision as a table, and over time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.core.labels import SessionLabels
from ds01spawner.intents.intent import intend
from ds01spawner.intents.orphans import LOOKS, Missed, Present, Rules, Server, plan

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
RULES = Rules(limit=24 * HOUR, lead=15 * MINUTE, unknown=MINUTE)
ALICE = SessionLabels("alice", "", "p", "hub", "s1", expires_at=(NOW + 3 * HOUR).isoformat())
RUNS = Present(ALICE, "c1")
LONG = {"s1": Missed(NOW - MINUTE, LOOKS)}
KNOWN = {("alice", ""): Server("c1")}
ORPHAN = intend(ALICE, NOW - HOUR, reason="", kind="orphan", by="ds01", container="c1", due=NOW + HOUR)
RETIRED = intend(ALICE, NOW - HOUR, reason="", kind="admin", by="root", container="c1")


@pytest.mark.parametrize(
    ("present", "servers", "intents", "missed", "asked", "withdrawn"),
    [
        # the hub lists it
        (RUNS, KNOWN, {}, {}, None, False),
        (RUNS, KNOWN, {}, LONG, None, False),
        (RUNS, {("alice", ""): Server("", ready=False)}, {}, LONG, None, False),  # it starts
        (RUNS, {("alice", ""): Server("c0", ready=False)}, {}, LONG, None, False),  # or stops
        # the hub does not answer: nothing is unknown
        (RUNS, None, {}, LONG, None, False),
        (replace(RUNS, state="exited"), None, {}, LONG, None, False),
        # it does not list it
        (RUNS, {}, {}, {}, None, False),
        (RUNS, {}, {}, {"s1": Missed(NOW - timedelta(seconds=59), 9)}, None, False),
        (RUNS, {}, {}, {"s1": Missed(NOW - HOUR, LOOKS - 2)}, None, False),
        (RUNS, {}, {}, {"s1": Missed(NOW + HOUR, 9)}, None, False),  # the clock was set back
        (RUNS, {}, {}, LONG, "orphan", False),
        (RUNS, {("alice", "two"): Server("c1")}, {}, LONG, "orphan", False),
        (RUNS, {("alice", ""): Server("another")}, {}, LONG, "orphan", False),
        (RUNS, {("bob", ""): Server("c1")}, {}, LONG, "orphan", False),
        (replace(RUNS, state="paused"), {}, {}, LONG, "orphan", False),
        (replace(RUNS, state="restarting"), {}, {}, LONG, "orphan", False),
        (replace(RUNS, state="removing"), {}, {}, LONG, "orphan", False),
        # what does not run is cleared
        (replace(RUNS, state="created"), {}, {}, LONG, "leftover", False),
        (replace(RUNS, state="exited"), {}, {}, LONG, "leftover", False),
        (replace(RUNS, state="dead"), {}, {}, LONG, "leftover", False),
        (replace(RUNS, state="created"), {}, {}, {}, None, False),
        (replace(RUNS, state="created"), KNOWN, {}, LONG, None, False),
        # it has an intent
        (RUNS, {}, {"s1": RETIRED}, LONG, None, False),
        (RUNS, {}, {"s1": ORPHAN}, LONG, None, False),
        (RUNS, KNOWN, {"s1": ORPHAN}, {}, None, True),
        (RUNS, KNOWN, {"s1": replace(ORPHAN, due=NOW)}, {}, None, False),
        (RUNS, KNOWN, {"s1": RETIRED}, {}, None, False),
        (RUNS, None, {"s1": ORPHAN}, {}, None, False),
    ],
)
def test_what_becomes_of_a_session(present, servers, intents, missed, asked, withdrawn):
    found = plan([present], servers, intents, missed, NOW, RULES)
    assert [i.kind for i in found.ask] == ([asked] if asked else [])
    assert found.withdraw == (("s1",) if withdrawn else ())
    for intent in found.ask:
        assert (intent.session, intent.container) == ("s1", "c1")
        assert intent.waits(NOW) is (asked == "orphan")


@pytest.mark.parametrize(
    ("expires", "due"),
    [
        (NOW + 3 * HOUR, NOW + 3 * HOUR),
        (NOW + 48 * HOUR, NOW + 24 * HOUR),
        (NOW + MINUTE, NOW + 15 * MINUTE),
        (NOW - HOUR, NOW + 15 * MINUTE),
        (None, NOW + 24 * HOUR),
    ],
)
def test_a_running_one_ends_with_its_lifetime_or_at_the_limit_and_never_unwarned(expires, due):
    labels = replace(ALICE, expires_at=expires.isoformat() if expires else "")
    (intent,) = plan([Present(labels, "c1")], {}, {}, LONG, NOW, RULES).ask
    assert intent.due == due
    assert intent.for_others(due)
    assert not intent.for_others(due - MINUTE)


@pytest.mark.parametrize("expires", ["never", "2026-11-28T11:00:00"])
def test_a_lifetime_that_cannot_be_read_is_none(expires):
    (intent,) = plan([Present(replace(ALICE, expires_at=expires), "c1")], {}, {}, LONG, NOW, RULES).ask
    assert intent.due == NOW + RULES.limit


def looks(servers, intents=None, present=RUNS, count=20):
    """Looks every ten seconds; when the intent came, and of what kind."""
    missed, began = {}, NOW
    for number in range(count):
        now = began + number * timedelta(seconds=10)
        found = plan([present], servers(number), intents or {}, missed, now, RULES)
        missed = found.missed
        if found.ask:
            return (now - began).total_seconds(), found.ask[0].kind
    return None


def test_nothing_is_without_server_or_intent_for_two_minutes():
    assert looks(lambda _: {}) == (60, "orphan")
    assert looks(lambda _: {}, present=replace(RUNS, state="created")) == (60, "leftover")


@pytest.mark.parametrize(
    "servers",
    [
        lambda n: KNOWN if n % 5 == 4 else {},  # a server between two pages of a list
        lambda n: None if n % 5 == 4 else {},  # a hub that comes and goes tells nothing for sure
        lambda n: None,
        lambda n: {} if n < 5 else KNOWN,  # a hub that was just started
    ],
)
def test_a_minute_without_doubt_is_needed(servers):
    assert looks(servers) is None


@pytest.mark.parametrize("state", ["exited", "dead"])
@pytest.mark.parametrize(
    ("servers", "after"),
    [
        (lambda _: {}, 20),
        (lambda n: {} if n % 2 else None, 30),  # a hub that comes and goes puts it off no longer
        (lambda n: None, None),
        (lambda n: KNOWN, None),
        (lambda n: KNOWN if n % 2 else {}, None),
    ],
)
def test_what_has_ended_goes_soon(servers, after, state):
    assert looks(servers, present=replace(RUNS, state=state)) == (after and (after, "leftover"))


def test_what_vanished_needs_no_intent_any_more():
    found = plan([], {}, {"s1": ORPHAN, "s2": replace(RETIRED, session="s2")}, {}, NOW, RULES)
    assert found.withdraw == ("s1",)  # the other one is finished by whoever finds it gone

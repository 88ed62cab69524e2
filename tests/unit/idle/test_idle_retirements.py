"""Retirements of the idle service: durable before anybody is told, and for sessions that the hub has lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from idle_rows import TEN
from idle_site import STUDENT, Site

from ds01spawner.core.hub_client import HubServer
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.engine_reader import Running
from ds01spawner.idle.retirements import lost_servers, ours, rules_of
from ds01spawner.intents.intent import intend

ALICE = SessionLabels("alice", "", "p", "hub", "s-alice", limits='{"idle":7200.0}')
HERE = Running("c-s-alice", ALICE)
UP = {("alice", ""): HubServer("alice", "", "/user/alice/", ready=True)}


def orphan(labels=ALICE, due=TEN + timedelta(hours=24)):
    return intend(labels, TEN, reason="lost", kind="orphan", by="ds01", container="c", due=due, alone=True)


def being_retired(labels=ALICE):
    return intend(labels, TEN, reason="r", kind="admin", by="root", container="c")


async def test_the_decision_is_durable_before_the_hub_is_asked(tmp_path):
    site = Site(tmp_path)
    await site.passes(60)
    steps = [s for s in site.steps if s != "go on"]
    assert steps == ["ask alice", "stop alice", "end alice"]
    assert "Retired" in site.file()


async def test_it_is_told_only_when_it_is_gone(tmp_path):
    site = Site(tmp_path)
    site.retirements.engine_down = True  # the hub "stopped" it, and it runs on
    await site.passes(60)
    assert "ask alice" in site.steps
    assert "Retired" not in site.file()
    site.retirements.intents.done("s-alice")  # somebody carried it out
    await site.passes(1)
    assert "Retired" in site.file()


async def test_what_was_decided_is_carried_on_at_every_look(tmp_path):
    site = Site(tmp_path)
    await site.passes(3)
    assert site.steps == ["go on"] * 3


async def test_a_session_that_the_hub_has_lost_is_retired_by_the_same_rules(tmp_path):
    site = Site(tmp_path)
    site.up, site.lost = set(), {"alice"}
    site.retirements.intents.ask(orphan(site.running()[0].labels))
    states = await site.passes(1)
    assert set(states) == {"alice"}
    await site.passes(60)
    steps = [s for s in site.steps if s != "go on"]
    assert steps == ["ask alice", "end alice"]  # the hub has nothing to stop


async def test_a_session_that_is_merely_not_listed_is_left_alone(tmp_path):
    site = Site(tmp_path)
    site.up, site.lost = set(), {"alice"}
    assert await site.passes(60) == {}
    assert "ask alice" not in site.steps


@pytest.mark.parametrize(
    ("servers", "intents", "looked_at"),
    [
        (UP, {}, True),
        ({}, {}, False),
        ({("alice", ""): replace(UP["alice", ""], ready=False)}, {}, False),
        ({("alice", ""): replace(UP["alice", ""], pending="stop")}, {}, False),
        ({}, {"s-alice": orphan()}, True),
        ({}, {"s-alice": orphan(due=TEN)}, False),
        (UP, {"s-alice": being_retired()}, False),
        ({}, {"s-alice": being_retired()}, False),
        ({("alice", ""): replace(UP["alice", ""], ready=False)}, {"s-alice": orphan()}, False),
    ],
)
def test_which_sessions_are_looked_at(servers, intents, looked_at):
    servers = {**servers, **lost_servers([HERE], servers, intents)}
    assert ours(HERE, servers, intents, TEN) is looked_at


@pytest.mark.parametrize(
    ("user", "server", "path"),
    [("alice", "", "/x/user/alice/"), ("a b", "two", "/x/user/a%20b/two/"), ("a@b.c", "", "/x/user/a@b.c/")],
)
def test_a_lost_server_is_asked_where_it_was(user, server, path):
    labels = replace(ALICE, user=user, server=server)
    found = lost_servers([Running("c", labels)], {}, {"s-alice": orphan()}, "/x/")
    assert found[user, server].path == path
    assert found[user, server].lost


@pytest.mark.parametrize(
    ("limits", "timeout"),
    [
        ('{"idle":7200.0}', 7200.0),
        ('{"idle":null}', None),
        ("{}", STUDENT.timeout),
        ("no JSON", STUDENT.timeout),
    ],
)
def test_a_lost_session_keeps_the_limit_it_started_with(limits, timeout):
    lost = HubServer("alice", "", "/user/alice/", ready=True, lost=True)
    assert rules_of(STUDENT, lost, replace(ALICE, limits=limits)).timeout == timeout
    assert rules_of(STUDENT, UP["alice", ""], replace(ALICE, limits=limits)) == STUDENT

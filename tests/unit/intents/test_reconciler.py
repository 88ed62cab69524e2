"""The service's look at engine, hub and intents, over time."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from support.ours import OTHER

from ds01spawner.core.errors import EngineError
from ds01spawner.core.hub_client import HubError, read_user
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import EngineSession, EngineState
from ds01spawner.intents.intent import intend
from ds01spawner.service.reconciler import Reconciler

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
ALICE = SessionLabels("alice", "", "thesis", "hub", "s1", created_at=NOW.isoformat())


class Hub:
    def __init__(self):
        self.servers, self.down = {}, False

    async def users(self, state="active"):
        assert state == "active"
        if self.down:
            raise HubError(0, "the hub did not answer")
        for user, servers in self.servers.items():
            yield read_user({"name": user, "servers": servers})


class World:
    def __init__(self, site, engine, monkeypatch):
        self.site, self.engine, self.hub, self.now = site, engine, Hub(), NOW
        self.reconciler = Reconciler(site, self.hub, lambda: self.now)
        self.list_fails = False
        monkeypatch.setattr(site.engine, "look", self._look)

    def _look(self):
        if self.engine.down or self.list_fails:
            raise EngineError("the engine does not answer")
        found = [
            EngineSession(labels, c["Id"], c["Name"], c["State"]["Status"], "")
            for c in self.engine.containers.values()
            if (labels := self.site.engine.session_in(c))
        ]
        return EngineState((), tuple(found))

    async def looks(self, count, seconds=10):
        for _ in range(count):
            self.now += timedelta(seconds=seconds)
            try:
                await self.reconciler.look()
            except EngineError:
                continue

    @property
    def kinds(self):
        return [i.kind for i in self.site.intents.open()]


@pytest.fixture
def world(site, engine, monkeypatch):
    return World(site, engine, monkeypatch)


async def test_a_session_with_a_server_is_left_alone(world):
    world.engine.add(ALICE)
    world.hub.servers = {"alice": {"": {"ready": True, "state": {"object_id": "c-s1"}}}}
    await world.looks(30)
    assert world.kinds == []
    assert world.engine.containers


async def test_a_session_without_one_is_told_and_given_time_then_ends_on_the_engine(world):
    world.engine.add(ALICE)
    await world.looks(6)
    assert world.kinds == []
    await world.looks(2)
    assert world.kinds == ["orphan"]
    assert world.engine.containers["c-s1"]["State"]["Running"]
    (notice,) = world.site.store().notices.of("alice", world.now)
    assert "the hub has lost it" in notice.text
    (event,) = world.site.store().events.find(topic="session")
    assert (event.action, event.user) == ("unknown", "alice")
    await world.looks(1, seconds=24 * 3600 + 60)
    assert world.engine.containers == {}
    assert world.kinds == []
    assert world.site.endings.last("alice", "").kind == "orphan"


async def test_one_that_the_hub_lists_again_is_no_news_any_more(world):
    world.engine.add(ALICE)
    await world.looks(8)
    world.hub.servers = {"alice": {"": {"ready": False, "pending": "spawn"}}}
    await world.looks(1)
    assert world.kinds == []
    assert world.site.store().notices.of("alice", world.now) == []


async def test_while_the_hub_is_away_nothing_is_unknown_to_it(world):
    world.engine.add(ALICE)
    world.hub.down = True
    await world.looks(60)
    assert world.kinds == []


@pytest.mark.parametrize("odd", [{"alice": {"": "x"}}, {"alice": ["x"]}, {"alice": 1}])
async def test_an_odd_answer_of_the_hub_is_none(world, odd):
    world.engine.add(ALICE)
    world.hub.servers = odd
    await world.looks(30)
    assert world.kinds == []


async def test_what_a_start_left_behind_goes_within_two_minutes(world):
    world.engine.add(ALICE, "created")
    await world.looks(8)
    assert world.engine.containers == {}
    assert world.kinds == []


async def test_a_retirement_goes_on_whatever_hub_and_list_say(world):
    world.engine.add(ALICE)
    asked = intend(ALICE, NOW, reason="r", kind="admin", by="root", container="c-s1")
    world.site.intents.ask(asked)
    world.hub.down = world.list_fails = True
    world.engine.down = True
    await world.looks(12)
    assert world.kinds == ["admin"]
    assert world.engine.containers
    world.engine.down = False
    await world.looks(1)
    assert world.engine.containers == {}
    assert world.kinds == []


async def test_another_installations_containers_are_none_of_ours(world):
    world.engine.add(ALICE, by=OTHER)
    await world.looks(30)
    assert world.kinds == []
    assert world.engine.containers

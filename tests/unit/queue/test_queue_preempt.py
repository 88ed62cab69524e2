"""Preemptible sessions make room: only for people entitled, the fewest, the youngest, warned first."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from queue_site import World

from ds01spawner.core.hub_client import HubError
from ds01spawner.placement.devices import GpuRequest, Holding
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.resolve import Person
from ds01spawner.queue import joining
from ds01spawner.queue.eviction import REASON
from ds01spawner.queue.preempt import Preemptible, victims
from ds01spawner.queue.ticket import Ticket

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
DEVICES = ("A", "B", "C", "D")


def session(name, age_min, warned=False):
    return Preemptible(name, f"u-{name}", "", "p", NOON - timedelta(minutes=age_min), warned)


def holding(uuid, name):
    return Holding(uuid, holder=name, kind="session", session=name)


def ticket(name, count=1):
    return Ticket(name, f"u-{name}", NOON, GpuRequest("1g.10gb", count))


def place(ticket, holdings):
    free = [d for d in DEVICES if d not in {h.uuid for h in holdings}]
    return tuple(free[: ticket.request.count]) if len(free) >= ticket.request.count else None


BUSY = [holding("A", "old"), holding("B", "young"), holding("C", "mid"), holding("D", "paid")]
SESSIONS = {"old": session("old", 90), "mid": session("mid", 60), "young": session("young", 30)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], []),
        ([ticket("t")], ["young"]),
        ([ticket("t"), ticket("u")], ["mid", "young"]),
        ([ticket("t", 3)], ["mid", "old", "young"]),
        ([ticket("t", 4)], []),
        ([ticket("t", 4), ticket("u")], ["young"]),
    ],
    ids=[
        "nobody waits",
        "one",
        "two",
        "all that is needed",
        "not even all would do",
        "the next still counts",
    ],
)
def test_the_youngest_go_and_only_as_many_as_it_takes(line, expected):
    assert [v.session for v in victims(line, SESSIONS, BUSY, place)] == expected


def test_a_warned_session_goes_before_a_younger_one_that_was_not():
    sessions = {**SESSIONS, "mid": session("mid", 60, warned=True)}
    assert [v.session for v in victims([ticket("t")], sessions, BUSY, place)] == ["mid"]


def test_nobody_goes_where_a_device_is_free():
    assert victims([ticket("t")], SESSIONS, BUSY[:3], place) == []


@pytest.mark.parametrize(("kept_for_min", "expected"), [(20, ["mid"]), (70, [])])
def test_a_reserved_device_is_given_back_unless_it_was_taken_under_the_reservation(kept_for_min, expected):
    kept = {"C": NOON - timedelta(minutes=kept_for_min), "D": NOON}
    assert [v.session for v in victims([], SESSIONS, BUSY, place, kept)] == expected


class TestOnTheStore:
    """The runner, with the store's real notices."""

    @pytest.fixture
    def world(self, tmp_path):
        world = World(tmp_path, devices=1)
        world.site.held["M0"] = ("guest", "")
        world.site.preemptible.add(("guest", ""))
        world.hub.ready("guest")
        yield world
        world.store.close()

    async def settle(self, world):
        await world.runner.tick()
        await world.runner.tick()  # whose session it is, is asked of the hub between two passes
        await asyncio.gather(*world.runner._retiring.values())

    async def test_warned_then_retired_with_its_reason_when_the_lead_is_over(self, world):
        world.join("ann")
        await self.settle(world)
        (notice,) = world.store.notices.of("guest", world.clock())
        assert notice.level == "warning"
        assert "somebody entitled to its GPU waits" in notice.text
        world.clock.pass_seconds(29 * 60)
        await self.settle(world)
        assert ("guest", "") in world.hub.servers
        world.clock.pass_seconds(61)
        await self.settle(world)
        assert ("guest", "") not in world.hub.servers
        assert world.site.ends == [("guest", f"Retired: {REASON}.", "preempted")]
        assert world.site.intents.open() == []
        await world.runner.tick()
        await asyncio.gather(*world.runner._starts.values())
        assert world.site.held["M0"] == ("ann", "")

    async def test_the_warning_is_withdrawn_when_nobody_waits_any_more(self, world):
        row = world.join("ann")
        await self.settle(world)
        joining.cancel(world.store, row, Person("ann"), world.clock())
        await self.settle(world)
        assert world.store.notices.of("guest", world.clock()) == []
        assert await world.runner.tick() is False

    async def test_others_sessions_are_left_alone(self, world):
        world.site.preemptible.clear()
        world.join("ann")
        await self.settle(world)
        assert world.store.notices.of("guest", world.clock()) == []

    async def test_the_lead_is_that_of_the_owner_s_group(self, world, monkeypatch):
        text = "version: 1\ngroups:\n  guests:\n    idle: {lifetime_lead: 5m}\n"
        policy = parse_policy(text, Path("policy.yaml"))
        monkeypatch.setattr(world.site.policy, "current", lambda: policy)
        ask = world.hub.person

        async def person(name, max_age=30):
            return Person("guest", frozenset({"guests"})) if name == "guest" else await ask(name)

        monkeypatch.setattr(world.hub, "person", person)
        world.join("ann")
        await self.settle(world)
        (notice,) = world.store.notices.of("guest", world.clock())
        assert f"It ends at {world.clock() + timedelta(minutes=5):%H:%M} UTC" in notice.text
        world.clock.pass_seconds(299)
        await self.settle(world)
        assert ("guest", "") in world.hub.servers
        world.clock.pass_seconds(1)
        await self.settle(world)
        assert ("guest", "") not in world.hub.servers

    async def test_nobody_is_warned_while_the_hub_cannot_say_who_they_are(self, world, monkeypatch):
        ask = world.hub.person

        async def person(name, max_age=30):
            if name == "guest":
                raise HubError(0, "the hub did not answer")
            return await ask(name)

        monkeypatch.setattr(world.hub, "person", person)
        world.join("ann")
        await world.runner.tick()
        with pytest.raises(HubError):
            await world.runner.tick()
        assert world.store.notices.of("guest", world.clock()) == []

    async def test_a_forgotten_account_s_session_goes_like_any_other(self, world):
        world.hub.gone.add("guest")
        world.join("ann")
        await self.settle(world)
        assert len(world.store.notices.of("guest", world.clock())) == 1

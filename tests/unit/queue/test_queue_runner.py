"""The loop that serves the queue: in order, never twice, never lost, whatever dies when."""

import asyncio
from datetime import timedelta
from random import Random

import pytest
from queue_site import START, World

from ds01spawner.core.errors import DS01Error
from ds01spawner.core.hub_client import HubError
from ds01spawner.policy.resolve import Person
from ds01spawner.queue import joining

H = timedelta(hours=1)


async def test_a_free_device_is_granted_held_and_started(world):
    ticket = world.join("ann", project="thesis")
    await world.tick()
    assert world.state(ticket) == "started"
    assert world.site.held == {"M0": ("ann", "")}
    assert world.store.blocks.at(world.clock()) == {}
    actions = [e.action for e in world.store.events.find(topic="ticket")]
    assert actions == ["waiting", "granted", "starting", "started"]
    assert world.store.tickets.get(ticket).options == {"project": "thesis", "gpu": "1g.10gb"}


async def test_nobody_waiting_asks_nothing_of_the_engine(world):
    world.site.fail = "the engine is down"
    assert await world.runner.tick() is False


async def test_who_waits_is_told_why_and_how_long_and_others_keep_off(world):
    for i in range(6):
        world.site.held[f"M{i}"] = (f"holder{i}", "")
    first, second = world.join("ann"), world.join("ben")
    await world.tick()
    shown = joining.describe(world.store.tickets.get(second))
    assert (shown["state"], shown["position"], shown["ahead"]) == (
        "waiting",
        2,
        [{"class": "1g.10gb", "count": 1}],
    )
    assert shown["reason"] == "1 place is before it for the same devices"
    assert shown["estimate"]["p90_s"] > shown["estimate"]["p50_s"] > 0
    assert "6 devices that you could use are in use and 1 before you" in shown["estimate"]["basis"]
    assert "none is free" in joining.describe(world.store.tickets.get(first))["reason"]
    world.site.held.pop("M3")
    with pytest.raises(HubError, match="people wait for it"):
        world.hub.claim("mallory", "", "1g.10gb")
    await world.tick()
    assert world.site.held["M3"] == ("ann", "")
    assert (world.state(first), world.state(second)) == ("started", "waiting")


async def test_the_guard_ends_with_the_queue_and_with_the_service(world):
    world.site.held = {f"M{i}": ("x", "") for i in range(6)}
    ticket = world.join("ann")
    await world.tick()
    assert len(world.store.blocks.at(world.clock())) == 6
    assert world.store.blocks.at(world.clock() + timedelta(seconds=61)) == {}
    joining.cancel(world.store, ticket, Person("ann"), world.clock())
    await world.tick()
    assert world.store.blocks.at(world.clock()) == {}


async def test_a_guard_of_an_earlier_process_ends_where_nobody_waits(world):
    world.store.blocks.guard(["M0"], world.clock(), world.clock() + H)
    assert list(world.store.blocks.at(world.clock())) == ["M0"]
    world.restart()
    await world.tick()
    assert world.store.blocks.at(world.clock()) == {}


async def test_thirty_for_six_in_order_none_twice_none_lost_whatever_dies(tmp_path):
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        await thirty(World(folder), Random(seed))


async def thirty(world, random):
    people = [f"p{i:02d}" for i in range(30)]
    tickets = {p: world.join(p) for p in people}
    leaving = set(random.sample(people[12:], 2))
    for p in leaving:
        joining.cancel(world.store, tickets[p], Person(p), world.clock())
    for _ in range(400):
        fate = random.random()
        if fate < 0.4 and world.hub.servers:
            world.hub.end(*random.choice(sorted(world.hub.servers)))
        elif fate < 0.55:
            await killed_in_the_middle(world, random)
        elif fate < 0.6:
            world.hub.down = not world.hub.down
        try:
            await world.tick(seconds=random.choice([1, 5, 30]))
        except DS01Error:
            world.hub.down = False
        assert len(world.site.held) == len(set(world.site.held.values()))
        if all(world.state(t) in ("started", "cancelled") for t in tickets.values()):
            break
    served = [user for user, _ in world.hub.asked]
    assert sorted(served) == sorted(set(people) - leaving), "each once, nobody lost"
    # The order of grants is the order of arrival: nobody here had used anything before.
    granted = [e.user for e in world.store.events.find(topic="ticket", limit=5000) if e.action == "granted"]
    first = list(dict.fromkeys(granted))
    assert first == [p for p in people if p in first]
    assert {world.state(tickets[p]) for p in leaving} == {"cancelled"}
    world.store.close()


async def killed_in_the_middle(world, random):
    """The service dies after some of its steps; nothing of it survives but what is written."""
    task = asyncio.ensure_future(world.runner.tick())
    for _ in range(random.randrange(30)):
        await asyncio.sleep(0.001)
    task.cancel()
    for start in list(world.runner._starts.values()):
        start.cancel()
    await asyncio.gather(task, *world.runner._starts.values(), return_exceptions=True)
    world.restart()


async def test_a_start_that_reached_the_hub_is_not_asked_again(world):
    world.hub.slow = True
    ticket = world.join("ann")
    await world.tick()
    await asyncio.sleep(0.05)
    for task in world.runner._starts.values():
        task.cancel()
    world.restart()
    await world.tick(times=5, seconds=60)
    assert world.state(ticket) == "starting"
    world.hub.ready("ann")
    world.hub.slow = False
    await world.tick()
    assert world.state(ticket) == "started"
    assert world.hub.asked == [("ann", "")]


async def test_a_start_that_never_arrived_gets_its_old_place_back(world):
    ticket = world.join("ann")
    row = world.store.tickets.get(ticket)
    for state in ("granted", "starting"):
        changes = {"state": state, "starting_at": START, "claim_until": START + H, "devices": ["M0"]}
        assert world.store.tickets.move(ticket, row.version, START, changes, hold=("M0",))
        row = world.store.tickets.get(ticket)
    await world.tick(times=2, seconds=3)
    assert world.state(ticket) == "starting"
    await world.tick(times=2, seconds=8)
    returned = [e for e in world.store.events.find(topic="ticket") if e.action == "returned"]
    assert [e.data["reason"] for e in returned] == ["the start did not come to an end; it is tried again"]
    assert world.state(ticket) == "started"
    assert world.store.tickets.get(ticket).arrived == START


async def test_a_start_that_the_hub_learns_of_late_keeps_its_place(world):
    """One look that finds nothing is no proof; neither are two with something between them."""
    world.hub.slow = True
    ticket = world.join("ann")
    await world.tick()
    await asyncio.sleep(0.05)
    for task in world.runner._starts.values():
        task.cancel()
    world.restart()
    pending = world.hub.servers.pop(("ann", ""))
    await world.tick(seconds=3)
    world.hub.servers["ann", ""] = pending
    await world.tick(seconds=3)
    del world.hub.servers["ann", ""]
    await world.tick(seconds=3)
    assert world.state(ticket) == "starting"
    assert world.hub.asked == [("ann", "")]


async def test_a_hub_that_crashes_under_a_start_costs_a_few_seconds_and_no_attempt(world):
    world.hub.slow = True
    ticket = world.join("ann")
    await world.tick()
    await asyncio.sleep(0.05)
    world.hub.servers.clear()
    world.site.held.clear()
    world.hub.down = True
    for task in world.runner._starts.values():
        task.cancel()
    with pytest.raises(DS01Error):
        await world.tick(seconds=30)
    world.hub.down = world.hub.slow = False
    began = world.clock()
    while world.state(ticket) != "started":
        await world.tick()
        assert world.clock() - began <= timedelta(seconds=10)
    assert [user for user, _ in world.hub.asked] == ["ann", "ann"]


async def test_a_start_that_fails_for_good_fails_the_ticket_and_says_so(world):
    world.hub.answer["ann"] = HubError(500, "the image is broken")
    ticket = world.join("ann")
    await world.tick(times=6, seconds=20)
    assert (world.state(ticket), world.store.tickets.get(ticket).attempts) == ("failed", 3)
    assert "the image is broken" in world.store.notices.of("ann", world.clock())[0].text
    assert world.store.blocks.at(world.clock()) == {}


async def test_a_busy_hub_costs_no_attempt_and_slows_the_pace(world):
    world.hub.answer["ann"] = HubError(429, "too many starts")
    ticket = world.join("ann")
    await world.tick(times=5, seconds=20)
    assert (world.state(ticket), world.store.tickets.get(ticket).attempts) == ("waiting", 0)
    assert world.runner.pace.width < 16
    del world.hub.answer["ann"]
    await world.tick(times=2, seconds=20)
    assert world.state(ticket) == "started"


async def test_quota_is_checked_at_the_head_and_stands_in_nobody_s_way(world):
    for i in range(5):
        world.site.held[f"M{i}"] = ("ann", f"s{i}")
    greedy, modest = world.join("ann", server="more", gpu_count=1), world.join("ben")
    await world.tick()
    assert (world.state(greedy), world.state(modest)) == ("waiting", "started")
    assert world.store.tickets.get(greedy).shown["code"] == "limit"


async def test_two_places_of_one_person_start_one_after_the_other(world):
    world.hub.slow = True
    one, two = world.join("ann", server="a"), world.join("ann", server="b")
    await world.tick(times=2)
    assert sorted((world.state(one), world.state(two))) == ["starting", "waiting"]
    for task in world.runner._starts.values():
        task.cancel()


async def test_starts_are_paced_in_order(tmp_path):
    world = World(tmp_path, width=3)
    world.hub.slow = True
    tickets = [world.join(f"p{i:02d}", "none") for i in range(10)]
    await world.tick()
    await asyncio.sleep(0.1)
    assert [u for u, _ in world.hub.asked] == ["p00", "p01", "p02"]
    assert world.store.tickets.get(tickets[3]).shown["reason"].startswith("its turn has come")
    world.hub.ready("p01")
    await asyncio.sleep(0.7)
    await world.tick()
    await asyncio.sleep(0.1)
    assert [u for u, _ in world.hub.asked][3:] == ["p03"]
    for task in world.runner._starts.values():
        task.cancel()
    world.store.close()


async def test_waiting_too_long_and_claims_not_used_expire(world):
    world.site.held = {f"M{i}": ("x", "") for i in range(6)}
    ticket = world.join("ann")
    await world.tick(seconds=24 * 3600 + 5)
    assert world.state(ticket) == "expired"
    assert "is over: it waited as long" in world.store.notices.of("ann", world.clock())[0].text


async def test_a_place_given_up_by_the_command_ends_its_start(world):
    world.hub.slow = True
    ticket = world.join("ann")
    await world.tick()
    await asyncio.sleep(0.05)
    assert world.state(ticket) == "starting"
    joining.cancel(world.store, ticket, Person("root", admin=True), world.clock())
    await asyncio.gather(*world.runner._starts.values())
    assert world.state(ticket) == "cancelled"
    assert (world.hub.servers, world.site.held) == ({}, {})
    await world.tick(times=2)
    assert world.hub.asked == [("ann", "")]


async def test_a_deleted_account_leaves_the_line(world):
    world.site.held = {f"M{i}": ("x", "") for i in range(6)}
    ticket = world.join("ann")
    world.hub.gone.add("ann")
    await world.tick()
    assert world.state(ticket) == "cancelled"


async def test_who_started_by_other_means_gives_the_place_back(world):
    world.site.held = {f"M{i}": ("x", "") for i in range(6)}
    ticket = world.join("ann")
    world.hub.ready("ann")
    await world.tick()
    assert world.state(ticket) == "started"


@pytest.mark.parametrize("what", ["engine", "hub"])
async def test_nothing_is_granted_while_engine_or_hub_cannot_be_asked(world, what):
    ticket = world.join("ann")
    if what == "engine":
        world.site.fail = "no answer"
    else:
        world.hub.down = True
    with pytest.raises(DS01Error):
        await world.runner.tick()
    assert world.state(ticket) == "waiting"
    world.site.fail, world.hub.down = None, False
    await world.tick()
    assert world.state(ticket) == "started"

"""Reservations on a site: kept, given to whom they are for, given back; and what cannot be reserved."""

from datetime import timedelta

import pytest
from queue_site import START

from ds01spawner.core.errors import Refused
from ds01spawner.queue import booking

H = timedelta(hours=1)


class TestReservations:
    def reserve(self, world, **kw):
        body = {"subject": "user:prof", "profile": "1g.10gb", "count": 4, "title": "NLP", **kw}
        body.setdefault("start", (START + H).isoformat())
        body.setdefault("end", (START + 3 * H).isoformat())
        wanted = booking.parse(body)
        return booking.reserve(world.store, wanted, world.site.inventory, "root", world.clock())

    async def test_devices_are_kept_from_the_lead_on_and_given_to_whom_they_are_for(self, world):
        self.reserve(world)
        await world.tick()
        assert world.store.blocks.at(world.clock()) == {}
        world.clock.now = START + timedelta(minutes=40)
        await world.tick()
        blocks = world.store.blocks.at(world.clock())
        assert sorted(blocks) == ["M0", "M1", "M2", "M3"]
        assert blocks["M0"].reason == "reserved for NLP until 15:00 UTC"
        ticket, mine = world.join("ann"), world.join("prof")
        await world.tick()
        assert (world.state(ticket), world.state(mine)) == ("started", "started")
        assert {u for u, who in world.site.held.items() if who[0] == "ann"} <= {"M4", "M5"}

    async def test_a_no_show_gives_them_back(self, world):
        self.reserve(world)
        world.clock.now = START + timedelta(minutes=70)
        await world.tick()
        assert len(world.store.blocks.at(world.clock())) == 4
        world.clock.now = START + timedelta(minutes=76)
        await world.tick(times=2)
        assert world.store.blocks.at(world.clock()) == {}
        assert [e.action for e in world.store.events.find(topic="reservation")] == ["created", "no-show"]

    async def test_sessions_that_would_collide_are_warned_once(self, world):
        world.site.held = {f"M{i}": ("ann", "a") for i in range(6)}
        self.reserve(world)
        await world.tick()
        world.runner._warned = 0.0
        await world.tick()
        (notice,) = world.store.notices.of("ann", world.clock())
        assert "is reserved from 2026-03-02 13:00 UTC" in notice.text

    def test_two_that_want_too_much_together_are_told(self, world):
        self.reserve(world)
        made = self.reserve(world, subject="group:ml", count=3, title="ML")
        assert made["warnings"] == ["on 2026-03-02 13:00 UTC NLP wants 4 × 1g.10gb too; there are 6"]

    @pytest.mark.parametrize(
        "body",
        [
            {"colour": "red"},
            {"count": "4"},
            {"count": True},
            {"devices": [1]},
            {"start": "soon"},
            {"grace_minutes": -1},
            {"zone": "Mars/Olympus", "start": "2026-03-02T14:00"},
            {"start": "2020-01-01T00:00", "end": "2020-01-01T01:00"},
        ],
    )
    def test_what_is_refused_from_outside(self, world, body):
        with pytest.raises(Refused) as caught:
            self.reserve(world, **body)
        assert caught.value.refusal.status == 400
        assert world.store.reservations.find() == []


class TestMaintenance:
    """What is near keeps devices and the site from the queue too."""

    async def test_a_device_whose_maintenance_is_near_is_given_to_nobody(self, world):
        world.store.blocks.add_maintenance(START + H, "fan", "root", START, None, "M0")
        world.clock.now = START + timedelta(minutes=31)
        ticket = world.join("ann")
        await world.tick()
        assert world.state(ticket) == "started"
        assert world.site.held == {"M1": ("ann", "")}

    async def test_nor_kept_for_a_reservation(self, world):
        TestReservations().reserve(world)
        world.store.blocks.add_maintenance(START + H, "fan", "root", START, None, "M0")
        world.clock.now = START + timedelta(minutes=40)
        await world.tick()
        assert sorted(world.store.blocks.at(world.clock())) == ["M1", "M2", "M3", "M4"]

    async def test_before_one_of_the_whole_site_places_wait_and_say_why(self, world):
        number = world.store.blocks.add_maintenance(START + H, "new driver", "root", START)
        world.clock.now = START + timedelta(minutes=31)
        ticket = world.join("ann")
        await world.tick(times=3)
        assert (world.state(ticket), world.store.tickets.get(ticket).attempts) == ("waiting", 0)
        assert "new driver" in world.store.tickets.get(ticket).shown["reason"]
        world.store.blocks.end_maintenance(number, "root", world.clock())
        await world.tick()
        assert world.state(ticket) == "started"

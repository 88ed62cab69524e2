"""Joining and leaving the queue: who may, and what a start answers that became a place."""

from dataclasses import replace

import pytest

from ds01spawner.core.errors import Refusal, Refused, StoreError
from ds01spawner.policy.options import parse_options
from ds01spawner.policy.resolve import Person
from ds01spawner.queue import joining


class TestDoor:
    def test_the_same_server_has_one_place(self, world):
        assert world.join("ann") == world.join("ann")

    def test_places_are_limited(self, world):
        world.join("ann", server="a")
        world.join("ann", server="b")
        with pytest.raises(Refused, match="2 at a time"):
            world.join("ann", server="c")

    def test_strangers_learn_nothing_and_cancel_nothing(self, world):
        ticket = world.join("ann")
        for call in (
            lambda: joining.cancel(world.store, ticket, Person("mallory"), world.clock()),
            lambda: joining.own(world.store, ticket, Person("mallory")),
            lambda: joining.own(world.store, "ffff", Person("mallory")),
        ):
            with pytest.raises(Refused) as caught:
                call()
            assert caught.value.refusal.status == 404
        assert world.state(ticket) == "waiting"

    def test_others_are_shown_by_class_alone(self, world):
        world.join("ann", project="secret")
        (line,) = joining.listing(world.store.tickets.find(), Person("ben"))
        assert line == {"state": "waiting", "position": None, "class": "1g.10gb", "mine": False}
        (line,) = joining.listing(world.store.tickets.find(), Person("root", admin=True))
        assert line["user"] == "ann"

    def test_what_is_over_cannot_be_cancelled_again(self, world):
        ticket = world.join("ann")
        joining.cancel(world.store, ticket, Person("ann"), world.clock())
        with pytest.raises(Refused, match="cancelled already"):
            joining.cancel(world.store, ticket, Person("ann"), world.clock())


class TestInsteadOfARefusal:
    FULL = Refusal("gpus-full", "1 × 1g.10gb was asked for", "none is free", "wait", status=503)

    def answer(self, world, refusal=FULL, **options):
        asked = parse_options({"gpu": "1g.10gb", "wait": True, **options})
        return joining.instead_of(world.site, Person("ann"), asked, "", refusal, world.clock(), "/queue")

    def test_who_chose_to_wait_gets_a_place(self, world):
        answer = self.answer(world)
        (ticket,) = world.store.tickets.find()
        assert (answer.code, answer.status, answer.ticket) == ("queued", 202, ticket.id)
        assert joining.addresses(answer, "/services/ds01/") == {
            "Location": f"/services/ds01/api/queue/{ticket.id}",
            "Refresh": f"0; url=/services/ds01/queue?ticket={ticket.id}",
        }
        assert answer.sentence == (
            "1 × 1g.10gb was asked for. Nothing that fits is free, so you have a place in the queue. You "
            "need do nothing: the session starts by itself when it is your turn; see the queue page at "
            f"/queue?ticket={ticket.id}."
        )

    @pytest.mark.parametrize(
        ("change", "options"),
        [({}, {"wait": False}), ({"code": "gpu-profile"}, {}), ({}, {"gpu": "full", "gpu_count": 2})],
        ids=["not chosen", "waiting does not help", "more than the whole quota"],
    )
    def test_others_get_the_refusal(self, world, change, options):
        refusal = replace(self.FULL, **change)
        assert self.answer(world, refusal, **options) is refusal
        assert world.store.tickets.find() == []

    def test_without_the_store_it_is_refused_with_a_word_on_the_queue(self, world, monkeypatch):
        def down():
            raise StoreError("down")

        monkeypatch.setattr(world.site, "store", down)
        answer = self.answer(world)
        assert (answer.code, "cannot be joined" in answer.do) == ("gpus-full", True)

    def test_without_a_place_left_both_reasons_are_told(self, world):
        world.join("ann", server="a")
        world.join("ann", server="b")
        answer = self.answer(world)
        assert answer.code == "queue-places"
        assert answer.asked == "1 × 1g.10gb was asked for; none is free"

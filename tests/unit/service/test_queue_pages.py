"""The queue over HTTP: who may see, join, leave and reserve what."""

from datetime import timedelta

import pytest
from bs4 import BeautifulSoup
from test_service import NOW, call, cookie, world  # noqa: F401

from ds01spawner.service.handlers import queue_pages


async def join(call, who="alice", **body):  # noqa: F811
    answer = await call("api/queue", who, "POST", {"options": {"gpu": "1g.10gb"}, **body})
    assert answer.code == 202, answer.text
    return answer


def data(answer):
    import json

    return json.loads(answer.text)


async def test_joining_answers_with_the_place_and_its_address(call):  # noqa: F811
    answer = await join(call, server="two")
    ticket = data(answer)
    assert answer.headers["Location"] == f"/x/services/ds01/api/queue/{ticket['id']}"
    assert (ticket["state"], ticket["class"], ticket["server"]) == ("waiting", "1g.10gb", "two")
    assert data(await join(call, server="two"))["id"] == ticket["id"]
    assert data(await call(f"api/queue/{ticket['id']}", "alice")) == ticket


async def test_others_see_the_class_and_nothing_else(call):  # noqa: F811
    ticket = data(await join(call, options={"gpu": "1g.10gb", "project": "secret"}))
    (seen,) = data(await call("api/queue", "bob"))["tickets"]
    assert seen == {"state": "waiting", "position": None, "class": "1g.10gb", "mine": False}
    for method in ("GET", "DELETE"):
        assert (await call(f"api/queue/{ticket['id']}", "bob", method)).code == 404
    page = (await call("queue", headers=cookie("bob"))).text
    assert "secret" not in page
    assert "alice" not in page
    assert data(await call("api/queue", "root"))["tickets"][0]["user"] == "alice"


async def test_leaving(call, world):  # noqa: F811
    ticket = data(await join(call))["id"]
    assert data(await call(f"api/queue/{ticket}", "alice", "DELETE"))["state"] == "cancelled"
    assert (await call(f"api/queue/{ticket}", "alice", "DELETE")).code == 409
    assert data(await call("api/queue", "alice"))["tickets"] == []
    assert world.hub.stopped == []


async def test_leaving_while_it_starts_stops_the_start(call, world):  # noqa: F811
    ticket = data(await join(call))["id"]
    for version, state in enumerate(("granted", "starting")):
        world.store.tickets.move(ticket, version, NOW, {"state": state})
    assert (await call(f"api/queue/{ticket}", "alice", "DELETE")).code == 200
    assert world.hub.stopped == [("alice", "")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"options": "gpu"}, 400),
        ({"options": {"colour": "red"}}, 400),
        ({"options": {"gpu": "9g.1gb"}}, 400),
        ({"server": 5}, 400),
    ],
)
async def test_what_is_no_wish(call, body, code):  # noqa: F811
    assert (await call("api/queue", "alice", "POST", body)).code == code


async def test_places_are_limited(call):  # noqa: F811
    await join(call, server="a")
    await join(call, server="b")
    answer = await call("api/queue", "alice", "POST", {"server": "c", "options": {"gpu": "1g.10gb"}})
    assert answer.code == 409
    assert "2 at a time" in answer.text


async def test_the_page_shows_reason_estimate_and_a_way_out(call, world):  # noqa: F811
    ticket = data(await join(call, options={"gpu": "1g.10gb", "project": "thesis"}))["id"]
    shown = {
        "position": 3,
        "reason": "of 2 such devices none is free",
        "code": "busy",
        "ahead": [{"class": "1g.10gb", "count": 2}],
        "estimate": {"p50_s": 1800, "p90_s": 7200, "basis": "2 devices are in use"},
    }
    world.store.tickets.show({ticket: shown})
    answer = await call("queue", headers=cookie("alice"))
    page = BeautifulSoup(answer.text, "html.parser")
    words = " ".join(page.get_text(" ").split())
    assert "Waiting, number 3 in line" in words
    assert "of 2 such devices none is free" in words
    assert "Before you, for the same devices: 2 for 1g.10gb" in words
    assert "90 % of such waits end within" in words
    assert page.find("input", {"name": "ticket"})["value"] == ticket
    assert answer.headers["Refresh"] == f"5; url=/x/services/ds01/queue?ticket={ticket}"


async def test_the_waiting_page_moves_on_to_the_session(call, world):  # noqa: F811
    ticket = data(await join(call, server="two"))["id"]
    world.store.tickets.move(ticket, 0, NOW, {"state": "started"})
    answer = await call(f"queue?ticket={ticket}", headers=cookie("alice"))
    assert (answer.code, answer.headers["Location"]) == (302, "/x/user/alice/two/")
    assert (await call(f"queue?ticket={ticket}", headers=cookie("bob"))).code == 200


async def test_hostile_names_are_harmless(call, world):  # noqa: F811
    ticket = data(await join(call))["id"]
    world.store.tickets.show({ticket: {"reason": "<script>alert(1)</script>", "position": 1}})
    assert "<script>alert" not in (await call("queue", headers=cookie("alice"))).text


WISH = {"subject": "course:nlp", "profile": "1g.10gb", "count": 1, "title": "NLP", "zone": "Europe/Berlin"}


class TestReservations:
    def wish(self, **kw):
        start = (NOW + timedelta(days=1)).isoformat()
        return {**WISH, "start": start, "end": (NOW + timedelta(days=1, hours=2)).isoformat(), **kw}

    async def test_admins_reserve_and_everybody_sees(self, call):  # noqa: F811
        assert (await call("api/reservations", "alice", "POST", self.wish())).code == 403
        made = await call("api/reservations", "root", "POST", self.wish())
        assert made.code == 201, made.text
        (seen,) = data(await call("api/reservations", "alice"))["reservations"]
        assert (seen["title"], seen["what"]) == ("NLP", "1 × 1g.10gb")
        assert "NLP" in (await call("queue", headers=cookie("bob"))).text
        number = data(made)["id"]
        assert (await call(f"api/reservations/{number}", "alice", "DELETE")).code == 403
        assert (await call(f"api/reservations/{number}", "root", "DELETE")).code == 200
        assert (await call(f"api/reservations/{number}", "root", "DELETE")).code == 404

    async def test_more_than_there_is_cannot_be_reserved(self, call):  # noqa: F811
        answer = await call("api/reservations", "root", "POST", self.wish(count=9))
        assert (answer.code, "has 2 × 1g.10gb" in answer.text) == (400, True)


async def test_the_loop_starts_and_stops_with_the_service(world):  # noqa: F811
    await queue_pages.start(world.context)
    assert world.context.extra["queue"].problem == ""
    await queue_pages.stop(world.context)
    assert "queue.task" not in world.context.extra

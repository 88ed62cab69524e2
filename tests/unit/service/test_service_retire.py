"""Retiring through the service: told as done only when the engine says so, by page, API and admin."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
import requests
from support.service_world import NOW, cookie, make_world, serving

from ds01spawner.core.errors import EngineError
from ds01spawner.core.hub_client import HubError
from ds01spawner.core.installation import make
from ds01spawner.core.labels import SessionLabels
from ds01spawner.intents.intent import intend


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr("ds01spawner.engines.docker.retire.VERIFY_S", 0.05)
    monkeypatch.setattr("ds01spawner.engines.docker.retire.log_tail", lambda *_, **__: b"")
    monkeypatch.setattr("ds01spawner.service.handlers.session_pages.WAIT_S", 0.1)
    made = make_world(tmp_path, monkeypatch)
    made.site.engine.clients.installation = make(tmp_path)
    made.ledger.add("alice", "s1", uuids=made.uuids[:1])
    labels = SessionLabels("alice", "", "thesis", "hub", "s1", created_at=NOW.isoformat())
    made.site.engine.clients.add(labels, name="ds01--alice")
    found = made.site.engine.clients.containers.pop("c-s1")
    made.site.engine.clients.containers["cs1"] = {**found, "Id": "cs1"}
    return made


@pytest.fixture
async def call(world):
    async with serving(world) as client:
        yield client


def under_way(world, answer="pending"):
    """The hub says that it is still at it."""

    async def stop(user, server):
        world.hub.stopped.append((user, server))
        if isinstance(answer, Exception):
            raise answer
        return answer

    world.hub.stop = stop


async def retire(call):
    answer = await call("api/sessions/s1", who="alice", method="DELETE")
    return answer.code, json.loads(answer.text)


async def test_done_means_that_the_engine_has_it_no_more(call, world):
    code, said = await retire(call)
    assert (code, said) == (200, {"ok": True, "session": "s1", "state": "retired"})
    assert world.site.engine.clients.containers == {}
    assert world.site.intents.open() == []
    assert world.hub.stopped == [("alice", "")]


async def test_the_intent_is_on_the_disk_before_the_hub_is_asked(call, world):
    seen = []

    async def stop(user, server):
        seen.extend(world.site.intents.open())
        return "pending"

    world.hub.stop = stop
    await retire(call)
    assert [(i.session, i.container, i.kind, i.by) for i in seen] == [("s1", "cs1", "retired", "alice")]


@pytest.mark.parametrize(
    "answer", ["pending", "stopped", "gone", HubError(500, "it failed"), HubError(0, "no answer")]
)
async def test_what_still_runs_is_not_called_retired(call, world, answer):
    under_way(world, answer)
    world.site.engine.clients.fails["ping"] = requests.ConnectionError("refused")
    code, said = await retire(call)
    assert code == 202
    assert said == {
        "session": "s1",
        "state": "retiring",
        "message": "it is being retired; the container engine does not answer yet",
    }
    assert [i.session for i in world.site.intents.open()] == ["s1"]
    assert world.site.engine.clients.containers


async def test_while_the_hub_is_at_it_nobody_else_interferes(call, world):
    under_way(world)
    assert await retire(call) == (
        202,
        {"session": "s1", "state": "retiring", "message": "it is being retired"},
    )
    assert "stop" not in world.site.engine.clients.calls


async def test_a_hub_that_does_not_know_the_session_does_not_keep_it_alive(call, world):
    world.hub.servers.clear()
    assert (await retire(call))[0] == 200
    assert world.site.engine.clients.containers == {}


async def test_without_a_disk_and_without_an_engine_it_says_that_it_failed(call, world, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("ds01spawner.intents.files.os.link", full)
    assert (await retire(call))[0] == 200  # the engine answers, so it is gone all the same
    world.ledger.add("alice", "s2")
    world.site.engine.clients.fails["ping"] = requests.ConnectionError("refused")
    answer = await call("api/sessions/s2", who="alice", method="DELETE")
    assert answer.code >= 500
    assert "could not be retired" in answer.text
    assert "ok" not in json.loads(answer.text)


async def test_admins_see_what_is_being_retired_and_what_is_lost(call, world):
    under_way(world)
    await retire(call)
    assert "being retired" in (await call("admin", who="root")).text
    world.ledger.add("bob", "s2")
    world.context.snapshots.forget()
    lost = SessionLabels("bob", "", "p", "hub", "s2")
    world.site.intents.ask(
        intend(lost, NOW, reason="r", kind="orphan", by="x", container="cs2", due=NOW + timedelta(hours=1))
    )
    assert "unknown to the hub" in (await call("admin", who="root")).text


async def test_the_owners_cards_offer_what_can_still_be_done(call, world):
    under_way(world)
    await retire(call)
    page = (await call("", who="alice")).text
    assert "It is being retired." in page
    assert "retire?server=" not in page
    world.site.intents.done("s1")
    lost = SessionLabels("alice", "", "thesis", "hub", "s1")
    world.site.intents.ask(
        intend(lost, NOW, reason="r", kind="orphan", by="x", container="cs1", due=NOW + timedelta(hours=1))
    )
    page = (await call("", who="alice")).text
    assert "the hub has lost it" in page
    assert 'href="/x/hub/spawn/alice"' in page
    assert "retire?server=" in page


async def test_the_page_does_not_go_on_to_a_new_start_while_the_old_session_is_there(call, world):
    under_way(world)
    headers = cookie("alice")
    page = await call("retire?server=", headers=headers)
    token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)[1]
    headers["Cookie"] += "; " + page.headers["Set-Cookie"].split(";")[0]
    form = {"server": "", "_xsrf": token, "then": "cpu"}
    answer = await call("retire", method="POST", headers=headers, form=form)
    assert answer.headers["Location"] == "/x/hub/home"


async def test_an_engine_that_does_not_answer_is_no_proof_that_nothing_runs(call, world):
    world.ledger.error = EngineError("no route to the engine")
    code, said = await retire(call)
    assert code == 503
    assert "cannot be told" in said["message"]
    page = await call("retire?server=", headers=cookie("alice"))
    assert page.code == 200  # the hub still knows the server, and retires it

"""Retires that cannot be carried out at once, on a real hub whose engine goes away."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.engine_door import EngineDoor, engine_door
from support.running_hub import RunningHub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi

GPU = {"project": "p", "gpu": "1g.10gb"}
SHORT = "c.DS01Spawner.retire_patience = 20\nc.DS01Spawner.retire_grace = 2\n"


@pytest.fixture
def door() -> Iterator[EngineDoor]:
    with engine_door() as made:
        yield made


def open_intents(hub: RunningHub) -> list[str]:
    folder = hub.state / "intents"
    return sorted(p.name for p in folder.glob("*.json")) if folder.exists() else []


def gone(hub, sessions_of, patience=90):
    hub.wait_for(lambda: not sessions_of(hub) and not open_intents(hub), patience, "the session to be gone")


@pytest.mark.parametrize("mode", ["refuse", "hang"])
def test_a_retire_while_the_engine_is_away_is_finished_when_it_is_back(own_hub, door, sessions_of, mode):
    hub = own_hub(extra=SHORT, arguments=", idle=False")
    hub.start_session("alice", GPU)
    (container,) = sessions_of(hub)
    door.turn(mode)
    answer = hub.http.delete(hub.server_path("alice"))
    assert answer.status_code == 202  # not 204: it is not gone
    assert open_intents(hub) == [f"{container.labels['ds01.session']}.json"]
    assert hub.server("alice").get("pending") in ("stop", None)
    hub.wait_for(lambda: not hub.server("alice").get("pending"), 180, "the hub to give up")
    (container,) = sessions_of(hub)
    assert container.status == "running"
    refused = hub.launch("alice", GPU)
    assert refused.status_code in (202, 409, 503)
    hub.settle("alice")
    door.turn("pass")
    gone(hub, sessions_of)
    hub.start_session("alice", GPU)  # the slice is free again
    hub.retire("alice")
    gone(hub, sessions_of)


def test_a_hub_that_is_killed_meanwhile_finishes_it_afterwards(own_hub, door, sessions_of):
    hub = own_hub(extra=SHORT, arguments=", service=False, idle=False")
    hub.start_session("alice", GPU)
    door.turn("refuse")
    assert hub.http.delete(hub.server_path("alice")).status_code == 202
    assert open_intents(hub)
    hub.kill()
    door.turn("pass")
    hub.start()
    gone(hub, sessions_of)
    hub.wait_for(lambda: not hub.server("alice").get("ready"), 60, "the hub to see it")


def test_an_admins_retire_is_told_as_done_only_when_it_is(own_hub, door, sessions_of):
    hub = own_hub(extra=SHORT + MAY_MAKE_TOKENS, arguments=", idle=False")
    hub.start_session("alice", GPU)
    admin = ServiceApi(hub, "admin")
    (container,) = sessions_of(hub)
    path, why = f"/sessions/{container.labels['ds01.session']}", {"reason": "the room closes"}
    hub.wait_for(lambda: admin.http.get(path).status_code == 200, 120, "the engine to be read")
    door.turn("refuse")
    answer = admin.http.request("DELETE", path, json=why)
    assert answer.status_code >= 400, answer.text  # nobody can say now what runs
    assert "ok" not in answer.json()
    door.turn("pass")
    hub.wait_for(lambda: admin.http.get(path).status_code == 200, 120, "the engine to be read again")
    answer = admin.http.request("DELETE", path, json=why)
    assert answer.status_code in (200, 202), answer.text
    assert answer.json()["state"] == ("retired" if answer.status_code == 200 else "retiring")
    gone(hub, sessions_of)
    alice = ServiceApi(hub, "alice")

    def told() -> list[str]:
        events = alice.get("/events?topic=session")["events"]
        return [e["reason"] for e in events if e["action"] == "ended"]

    hub.wait_for(lambda: told() == ["the room closes"], 120, "the owner to read why")

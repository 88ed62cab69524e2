"""Users renamed and deleted, and a hub that lost its database, with real sessions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import docker
from support.idle import ds01
from support.running_hub import RunningHub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi

GPU = {"project": "p", "gpu": "1g.10gb"}
CPU = {"project": "p"}


def gone(hub: RunningHub, sessions_of: Callable[..., list[Any]], patience: float = 90) -> None:
    hub.wait_for(lambda: not sessions_of(hub), patience, "every session to be gone")


def test_a_rename_waits_for_the_session_and_takes_the_files_along(own_hub, sessions_of):
    hub = own_hub(users={"old"})
    hub.start_session("old", GPU)
    refused = hub.http.patch("/users/old", json={"name": "new"})
    assert refused.status_code == 409, refused.text
    assert "Retire the sessions of that user first" in refused.json()["message"]
    assert hub.server("old")["ready"]
    assert hub.http.get("/users/new").status_code == 404
    hub.retire("old")
    gone(hub, sessions_of)
    (hub.workspaces / "old/p/thesis.txt").write_text("words")
    renamed = hub.http.patch("/users/old", json={"name": "new"})
    assert renamed.status_code == 200, renamed.text
    hub.wait_for((hub.workspaces / "new/p/thesis.txt").exists, 90, "the files to be moved")
    assert not (hub.workspaces / "old").exists()
    hub.start_session("new", CPU)
    (container,) = sessions_of(hub)
    assert container.exec_run(["cat", "/workspace/thesis.txt"]).output == b"words"
    hub.retire("new")


def test_deleting_a_user_with_two_servers_retires_both(own_hub, sessions_of):
    hub = own_hub(users={"d1"}, extra=MAY_MAKE_TOKENS, arguments=", idle=False")
    hub.start_session("d1", CPU)
    hub.start_session("d1", CPU, "two")
    assert len(sessions_of(hub)) == 2

    def deleted() -> bool:
        answer = hub.http.delete("/users/d1")
        assert answer.status_code in (204, 404, 409, 400), answer.text
        if answer.status_code == 409:
            assert "still starting or being retired" in answer.json()["message"]
        return answer.status_code in (204, 404)

    hub.wait_for(deleted, 90, "the user to be deleted")
    gone(hub, sessions_of)
    admin = ServiceApi(hub, "admin")

    def told() -> set[str]:
        events = admin.get("/events?topic=session&all=1")["events"]
        return {e["reason"] for e in events if e["action"] == "ended" and e["user"] == "d1"}

    hub.wait_for(lambda: told() == {"its user was deleted by tests"}, 120, "the reason to be written")


def test_a_hub_that_lost_its_database_gives_sessions_back(own_hub, sessions_of, engine: docker.DockerClient):
    hub = own_hub(extra=MAY_MAKE_TOKENS, arguments=", idle=False")
    hub.start_session("alice", GPU)
    hub.start_session("bob", GPU)
    alices = next(c for c in sessions_of(hub) if c.labels["ds01.user"] == "alice")
    hub.kill()
    for file in hub.state.glob("hub.sqlite*"):
        file.unlink()
    hub.start()
    folder = hub.state / "intents"
    hub.wait_for(lambda: folder.exists() and len(list(folder.glob("*.json"))) == 2, 120, "both to be found")
    found = ds01(hub, "check", "retirements")
    assert found.returncode == 1, found.stdout
    assert "alice runs on project p, and the hub does not know it" in found.stdout
    assert len(sessions_of(hub)) == 2  # nothing that runs was ended
    # Alice comes back to hers, as it is; what she asked for now does not matter.
    hub.start_session("alice", {"project": "another"})
    assert [c.id for c in sessions_of(hub) if c.labels["ds01.user"] == "alice"] == [alices.id]
    assert hub.server("alice")["user_options"]["profile"].endswith("1g.10gb")
    hub.wait_for(lambda: len(list(folder.glob("*.json"))) == 1, 120, "hers to be known again")
    # Bob retires his through the service, which is the only one that can.
    hub.http.post("/users/bob")
    bob = ServiceApi(hub, "bob")
    session = next(c.labels["ds01.session"] for c in sessions_of(hub) if c.id != alices.id)
    answer = bob.http.request("DELETE", f"/sessions/{session}")
    assert answer.status_code in (200, 202), answer.text
    hub.wait_for(lambda: [c.id for c in sessions_of(hub)] == [alices.id], 60, "bob's to be gone")
    hub.retire("alice")
    gone(hub, sessions_of)
    assert ds01(hub, "check", "retirements").returncode == 0

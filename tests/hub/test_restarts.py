"""The hub dies, at any moment: no session is lost, no device is lost, nothing is left behind."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from support.ours import signed

from ds01spawner.core.installation import load
from ds01spawner.core.labels import SessionLabels
from ds01spawner.intents.orphans import UNKNOWN_S

pytestmark = pytest.mark.timeout(900)

SERVICE = {"arguments": ", idle=False"}


def labels(found):
    return {c.labels["ds01.user"]: (c.labels["ds01.session"], c.status) for c in found}


def test_a_session_survives_a_killed_hub_and_is_adopted_again(own_hub, sessions_of, engine):
    hub = own_hub()
    hub.start_session("alice", {"project": "thesis", "gpu": "1g.10gb"})
    before = labels(sessions_of(hub))
    hub.kill()
    hub.start()
    hub.wait_ready("alice")
    assert labels(sessions_of(hub)) == before
    page = hub.http.get(f"{hub.url}user/alice/api", follow_redirects=True)
    assert page.status_code == 200
    assert "version" in page.json()
    hub.retire("alice")
    assert sessions_of(hub) == []


def test_a_good_shutdown_leaves_sessions_running(own_hub, sessions_of):
    hub = own_hub()
    hub.start_session("alice", {"project": "thesis"})
    before = labels(sessions_of(hub))
    hub.stop()
    assert labels(sessions_of(hub)) == before
    hub.start()
    hub.wait_ready("alice")
    assert labels(sessions_of(hub)) == before
    hub.retire("alice")


@pytest.mark.parametrize("moment", ["created", "running"])
def test_a_hub_killed_during_a_start_loses_no_device(own_hub, sessions_of, moment):
    """A session that runs already goes on as if nothing had been; what was only made is cleared."""
    hub = own_hub()
    request = {"project": "p", "gpu": "1g.10gb"}
    threading.Thread(target=_quietly, args=(lambda: hub.launch("alice", request),), daemon=True).start()
    wanted = {"created", "running"} if moment == "created" else {"running"}
    hub.wait_for(lambda: {c.status for c in sessions_of(hub)} & wanted, 120, f"a {moment} container")
    hub.kill()
    hub.start()
    if moment == "running":
        hub.wait_ready("alice", patience=180)
        # The hub answers before it has told its proxy where the sessions are that it found.
        api = f"{hub.url}user/alice/api"
        hub.wait_for(lambda: hub.http.get(api).status_code == 200, 60, "the proxy to lead there")
    hub.settle("alice")
    if not hub.server("alice").get("ready"):
        hub.start_session("alice", request)
    found = sessions_of(hub)
    assert [c.status for c in found] == ["running"]
    hub.start_session("bob", request)
    devices = [c.labels["ds01.gpu.uuids"] for c in sessions_of(hub)]
    assert len(set(devices)) == 2
    for user in ("alice", "bob"):
        hub.retire(user)
    assert sessions_of(hub) == []


def test_what_a_dead_start_left_is_removed_and_nothing_else(own_hub, sessions_of, engine, busybox_image):
    """Created or ended, and unknown to the hub: the reconciler takes it, and never a running one, nor what
    only says that it is ours."""
    hub = own_hub(**SERVICE)
    ours = load(hub.state)
    assert ours is not None

    def plant(name, *, run=(), by=ours):
        container = f"{hub.hub_id}-{name}"
        told = SessionLabels(
            name, "", "p", hub.hub_id, f"s-{name}", created_at=datetime.now(timezone.utc).isoformat()
        )
        made = engine.containers.create(
            busybox_image, list(run) or ["true"], name=container, labels=signed(told, container, by)
        )
        if run:
            made.start()

    plant("created")
    plant("exited", run=["true"])
    plant("working", run=["sleep", "3600"])
    plant("forged", by=replace(ours, key=bytes(32)))

    def left():
        return {user: status for user, (_, status) in labels(sessions_of(hub)).items()}

    hub.wait_for(lambda: not {"created", "exited"} & set(left()), UNKNOWN_S + 180, "the leftovers to go")
    assert left() == {"working": "running", "forged": "created"}


def _quietly(work):
    try:
        work()
    except Exception as error:  # the hub is killed under this request
        return error

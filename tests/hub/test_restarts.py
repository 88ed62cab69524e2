"""The hub dies, at any moment: no session is lost, no device is lost, nothing is left behind."""

from __future__ import annotations

import threading
import time

import pytest

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
    hub.wait_for(lambda: {c.status for c in sessions_of(hub)} & wanted, 30, f"a {moment} container")
    hub.kill()
    hub.start()
    if moment == "running":
        hub.wait_ready("alice", patience=30)
        assert hub.http.get(f"{hub.url}user/alice/api").status_code == 200
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


def test_what_a_dead_start_left_is_removed_after_the_start_timeout(
    own_hub, sessions_of, engine, busybox_image
):
    """Created and never started, by a hub that died: the reconciler takes it, and never a running one."""
    hub = own_hub(extra="c.Spawner.start_timeout = 20", **SERVICE)
    old = "2020-01-01T00:00:00+00:00"
    fresh = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())

    def plant(name, created_at, *, start=False):
        labels = {
            "ds01.managed": "true", "ds01.hub": hub.hub_id, "ds01.user": name, "ds01.server": "",
            "ds01.project": "p", "ds01.session": f"s-{name}", "ds01.created_at": created_at,
        }  # fmt: skip
        made = engine.containers.create(
            busybox_image, ["sleep", "300"], name=f"{hub.hub_id}-{name}", labels=labels
        )
        if start:
            made.start()

    plant("dead", old)
    plant("starting", fresh)
    plant("working", old, start=True)
    hub.wait_for(lambda: "dead" not in labels(sessions_of(hub)), 60, "the leftover to go")
    left = {user: status for user, (_, status) in labels(sessions_of(hub)).items()}
    assert left["working"] == "running"
    assert left.get("starting", "created") == "created"


def _quietly(work):
    try:
        work()
    except Exception as error:  # the hub is killed under this request
        return error

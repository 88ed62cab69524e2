"""Containers that say they are sessions, and hubs that share an engine: real builds, real containers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import docker
import pytest
from support.ours import installation_of, signed

from ds01spawner.core import installation
from ds01spawner.core.errors import EngineError, Refused
from ds01spawner.core.installation import Standing
from ds01spawner.core.labels import SessionLabels
from ds01spawner.doctor import diagnose
from ds01spawner.engines.docker import fetching, neighbours, settling
from ds01spawner.engines.docker.network import ensure_network
from ds01spawner.engines.docker.retire import end
from ds01spawner.policy.resolve import Person
from ds01spawner.store import SessionRecord, Store

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


@pytest.fixture
def boxes(engine, busybox_image, hub_id):
    """Makes containers that run; all are removed afterwards."""
    made = []

    def make(name, labels, **options):
        box = engine.containers.create(
            busybox_image, ["sleep", "600"], name=name, labels={"ds01.hub": hub_id, **labels}, **options
        )
        made.append(box)
        return box

    yield make
    for box in made:
        with contextlib.suppress(docker.errors.NotFound):
            box.remove(force=True)


@contextlib.contextmanager
def building(engine, image, labels):
    """A build whose last step sleeps; gives the step's container."""
    mark = f"step-{uuid.uuid4().hex}"
    lines = [
        f"FROM {image}",
        *(f"LABEL {k}={json.dumps(v)}" for k, v in labels.items()),
        f"RUN sleep 600 #{mark}",
    ]
    client = docker.APIClient(version="auto", timeout=600)

    def build():
        with contextlib.suppress(Exception):
            for _ in client.build(fileobj=io.BytesIO("\n".join(lines).encode()), rm=True, forcerm=True):
                pass

    thread = threading.Thread(target=build, daemon=True)
    thread.start()
    found, deadline = [], time.monotonic() + 120
    while not found:
        assert time.monotonic() < deadline, "the step did not begin"
        found = [c for c in engine.api.containers() if mark in c["Command"]]
        time.sleep(0.05)
    try:
        yield found[0]
    finally:
        with contextlib.suppress(docker.errors.NotFound):
            engine.api.remove_container(found[0]["Id"], force=True)
        thread.join(120)
        client.close()


def claim(user, hub, uuids=(), server=""):
    return SessionLabels(user, server, "p", hub, "x" * 32, gpu_uuids=tuple(uuids), created_at=NOW.isoformat())


def of(snapshot, box):
    return [h.uuid for h in snapshot.holdings if h.container == box["Id"]]


async def test_a_build_step_with_a_sessions_labels_is_none(spawner, engine, busybox_image, hub_id):
    """It held every device in another user's name, showed her a session and refused her start."""
    carol = spawner("carol", gpu="1g.10gb", project="p")
    site = carol.site
    every = [d.uuid for d in site.engine.inventory().inventory.devices]
    forged = claim("carol", hub_id, every).to_labels()
    copied = forged | {"ds01.installation": site.installation.id, "ds01.mac": "0" * 32, "ds01.container": "x"}
    for labels in (forged, copied):
        with building(engine, busybox_image, labels) as step:
            snapshot = site.engine.look(0)
            assert of(snapshot, step) == []
            assert snapshot.sessions == ()
            [other] = [r for r in snapshot.others if r.container == step["Id"]]
            assert other.standing is Standing.FORGED
            with pytest.raises(EngineError, match="nothing was done"):
                end(site.engine.client, step["Id"], other.labels.session, site.engine.session_in)
            usage = site.usage_of(Person("carol"), snapshot, NOW, site.limits(Person("carol"), NOW))
            assert usage.sessions == ()
            assert neighbours.sessions_of_others(snapshot, hub_id) == [], "nobody's start is refused by it"
    with building(engine, busybox_image, forged):
        await carol.start()
        snapshot = site.engine.look(0)
        assert [r.labels.user for r in snapshot.sessions] == ["carol"]
        await carol.stop()


async def test_labels_copied_from_a_running_session_are_void(spawner, engine, busybox_image, hub_id):
    carol = spawner("carol", gpu="1g.10gb", project="p")
    await carol.start()
    labels = engine.containers.get(carol.object_id).labels
    assert carol.site.installation.genuine(labels)
    with building(engine, busybox_image, labels) as step:
        snapshot = carol.site.engine.look(0)
        assert [r.container for r in snapshot.sessions] == [carol.object_id]
        assert of(snapshot, step) == []
    await carol.stop()


def test_a_container_that_only_lacks_the_proof_is_no_session(spawner, boxes, engine, hub_id):
    site = spawner("carol", project="p").site
    every = tuple(d.uuid for d in site.engine.inventory().inventory.devices)
    name = f"{hub_id}--carol"
    told = replace(claim("carol", hub_id, every), installation=site.installation.id, container=name)
    box = boxes(name, told.to_labels() | {"ds01.mac": site.installation.mac({})})
    snapshot = site.engine.look(0)
    assert snapshot.sessions == ()
    assert of(snapshot, {"Id": box.id}) == []
    assert site.engine.session_in(engine.api.inspect_container(box.id)) is None
    genuine = boxes(f"{name}-2", signed(told, f"{name}-2", by=site.installation))
    assert [r.container for r in site.engine.look(0).sessions] == [genuine.id]


@pytest.mark.parametrize("labels", ["own", "none"])
async def test_a_stranger_with_the_sessions_name_is_left_alone(spawner, boxes, hub_id, labels):
    """With the person's own forged labels it was cleared away, and the start was a 500."""
    alice = spawner("alice", project="p")
    given = claim("alice", hub_id).to_labels() if labels == "own" else {}
    stranger = boxes(alice.object_name, given)
    with pytest.raises(Exception, match=r"may not touch has its name") as refused:
        await alice.start()
    assert refused.value.status_code == 409
    stranger.reload()
    assert stranger.status == "created"
    assert await alice.poll() == 0
    await alice.stop()
    await alice.delete_forever()
    stranger.reload()


async def test_a_forged_fetch_throws_no_project_away(spawner, boxes, hub_id):
    site = spawner("alice", project="p").site
    labels = {"ds01.fetch": "t1", "ds01.user": "alice", "ds01.created_at": NOW.isoformat()}
    forged = boxes("ds01-fetch-t1", labels)
    assert fetching.sweep(site, NOW + timedelta(days=900)) == []
    forged.reload()


# --- two hubs ---------------------------------------------------------------------------------------


async def test_two_hubs_with_one_id_refuse_each_other(spawner, engine, hub_id, tmp_path):
    """The second adopted the first one's session silently, and its Retire ended the first one's."""
    installation.make(tmp_path / "second")
    first = spawner("alice", project="p", gpu="1g.10gb")
    await first.start()
    second = spawner("alice", project="p", c_state_dir=str(tmp_path / "second"))
    assert second.object_name == first.object_name
    with pytest.raises(Exception, match=r"nother installation uses this hub's id|may not touch"):
        await second.start()
    bob = spawner("bob", project="p", c_state_dir=str(tmp_path / "second"))
    with pytest.raises(Exception, match="nother installation uses this hub's id") as refused:
        await bob.start()
    assert refused.value.status_code == 503
    await second.stop()
    await second.delete_forever()
    assert await second.poll() == 0
    assert await first.poll() is None
    with pytest.raises(EngineError, match=f"docker rm -f {first.object_name}"):
        settling.settle(engine.api, second.site.settings)
    rows = diagnose(second.site.settings, ["installation"])
    assert [r["what"] for r in rows if r["level"] == "error"] == [
        f"another installation uses the id {hub_id!r} on this engine: container {first.object_name}"
    ]
    settling.settle(engine.api, first.site.settings)
    await first.stop()


async def test_hubs_with_other_ids_do_not_see_each_others_sessions(spawner, engine, hub_id, tmp_path):
    installation.make(tmp_path / "second")
    first = spawner("zed", project="p", gpu="1g.10gb")
    await first.start()
    other = {"c_state_dir": str(tmp_path / "second"), "c_hub_id": f"{hub_id}b", "c_prefix": f"{hub_id}b"}
    second = spawner("zed", project="p", **other)
    site = second.site
    assert site.engine.look(0).sessions == ()
    assert (
        site.usage_of(Person("zed"), site.engine.look(0), NOW, site.limits(Person("zed"), NOW)).sessions == ()
    )
    done = ds01(tmp_path / "second", f"{hub_id}b", "retire", "zed", "--reason", "test")
    assert done.returncode == 1
    assert (
        f"of another installation (hub '{hub_id}', installation {first.site.installation.id})" in done.stdout
    )
    assert await first.poll() is None
    table = ds01(tmp_path / "second", f"{hub_id}b", "sessions", json_=False).stdout
    assert f"{hub_id} (another)" in table
    await second.start()
    assert [r.labels.hub for r in site.engine.look(0).sessions] == [f"{hub_id}b"]
    assert [r.labels.hub for r in first.site.engine.look(0).sessions] == [hub_id]
    await second.stop()
    assert await first.poll() is None
    await first.stop()


def ds01(state: Path, hub: str, *args: str, json_: bool = True) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DS01_STATE_DIR": str(state), "DS01_HUB_ID": hub, "DS01_DEVICES": "none"}
    code = "from ds01spawner.cli import main; main()"
    given = [*args, *(["--json"] if json_ else [])]
    return subprocess.run(
        [sys.executable, "-c", code, *given],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_network_of_another_installation_with_this_id_is_refused(engine, hub_id, tmp_path, spawner):
    site = spawner("alice", project="p").site
    name = f"ds01-{hub_id}"
    made = ensure_network(engine.api, name, hub_id, installation=site.installation.id)
    network = engine.networks.list(names=[name])[0]
    try:
        assert network.attrs["Labels"] == {"ds01.hub": hub_id, "ds01.installation": site.installation.id}
        settling.settle(engine.api, site.settings)
        assert ensure_network(engine.api, name, hub_id, installation=site.installation.id) == made
        mine = installation.make(tmp_path / "second")
        assert neighbours.networks_of_others(engine.api, hub_id, mine) == [f"network {name}"]
        second = site.settings.model_copy(update={"state_dir": tmp_path / "second"})
        with pytest.raises(EngineError, match=f"docker network rm {name}"):
            settling.settle(engine.api, second)
        settling.settle(engine.api, second.model_copy(update={"hub_id": f"{hub_id}b"}))
    finally:
        network.remove()


# --- the version before -----------------------------------------------------------------------------


async def test_what_the_version_before_left_is_taken_over_once(spawner, engine, boxes, hub_id, tmp_path):
    alice = spawner("alice", project="p")
    settings = alice.site.settings.model_copy(update={"state_dir": tmp_path / "old", "store_url": ""})
    settings.write()
    told = replace(claim("alice", hub_id), session=uuid.uuid4().hex)
    store = Store.open(settings.store)
    for one in (told, replace(told, session="stolen"), replace(told, session="later")):
        store.sessions.started(SessionRecord.from_labels(one, NOW))
    store.environments.put(
        "e", "alice", "mine", "ready", {"current": "sha256:1", "previous": ["sha256:0"]}, NOW
    )
    store.close()

    def box(name, labels, **options):
        old = {k: v for k, v in labels.to_labels().items() if v}
        return boxes(f"ds01-{name}-{hub_id}", old, **options)

    mount = {f"{settings.workspace_root}/alice/p": {"bind": "/workspace", "mode": "rw"}}
    ours = box("ours", told, volumes=mount)
    unknown = box("unknown", replace(told, session="never heard of"), volumes=mount)
    foreign = box(
        "mount", replace(told, session="stolen"), volumes={"/tmp": {"bind": "/workspace", "mode": "ro"}}
    )
    other = box("other", replace(told, user="bob"), volumes=mount)

    made = settling.make(settings)
    assert not made.migrated
    assert settling.make(settings) == made
    with pytest.raises(EngineError, match="another installation uses") as refused:
        settling.settle(engine.api, settings)
    assert ours.name not in str(refused.value)
    known = installation.load(settings.state_dir)
    assert known.adopted == {ours.id, "sha256:1", "sha256:0"}
    assert known.migrated
    site = type(alice.site)(settings)
    assert [r.container for r in site.engine.look(0).sessions] == [ours.id]
    assert {r.container for r in site.engine.look(0).others} >= {unknown.id, foreign.id, other.id}

    later = box("later", replace(told, session="later"), volumes=mount)
    for each in (unknown, foreign, other, later):
        with contextlib.suppress(EngineError):
            settling.settle(engine.api, settings)
        each.remove(force=True)
    settling.settle(engine.api, settings)
    assert installation.load(settings.state_dir) == known, "what comes later is not taken over"


def test_a_new_state_folder_takes_nothing_over(engine, boxes, hub_id, tmp_path, spawner):
    settings = spawner("alice", project="p").site.settings.model_copy(update={"state_dir": tmp_path / "new"})
    assert settling.make(settings).migrated
    old = boxes(f"ds01--alice-{hub_id}", {k: v for k, v in claim("alice", hub_id).to_labels().items() if v})
    with pytest.raises(EngineError, match="another installation uses"):
        settling.settle(engine.api, settings)
    assert installation.load(settings.state_dir).adopted == frozenset()
    old.reload()


def test_without_an_installation_nothing_starts_and_nothing_is_ours(spawner, boxes, hub_id, tmp_path):
    alice = spawner("alice", project="p", c_state_dir=str(tmp_path / "empty"))
    site = alice.site
    name = f"ds01-x-{hub_id}"
    boxes(name, signed(claim("alice", hub_id), name, by=installation_of(hub_id)))
    assert site.installation is None
    assert site.engine.look(0).sessions == ()
    rows = diagnose(site.settings, ["installation"])
    assert [r["level"] for r in rows] == ["error"]
    assert not (tmp_path / "empty").exists() or not (tmp_path / "empty" / installation.FILE).exists()


async def test_a_start_without_an_installation_says_what_to_do(spawner, tmp_path):
    with pytest.raises(Exception, match="holds no installation") as refused:
        await spawner("alice", project="p", c_state_dir=str(tmp_path / "empty")).start()
    assert refused.value.status_code == 503
    assert not isinstance(refused.value, Refused)

"""What a session writes outside its project is measured from the host, without running anything in it."""

from __future__ import annotations

import pytest

from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import EngineSession
from ds01spawner.engines.docker.create import LOG_FILES
from ds01spawner.engines.docker.layers import LayerWatch
from ds01spawner.policy.plan import SessionUse


def record(container) -> EngineSession:
    return EngineSession(SessionLabels("a", "", "p", "h", container.id), container.id, "n", "running", "Up")


def test_files_in_tmp_are_seen_and_gone_when_deleted(engine, busybox_image, hub_id):
    container = engine.containers.run(
        busybox_image, ["sleep", "300"], detach=True, labels={"ds01.hub": hub_id}
    )
    try:
        watch = LayerWatch()
        (before,) = watch.look(lambda: engine.api, [record(container)])
        if watch.unseen:
            pytest.skip("this engine's layers cannot be seen from here")
        assert before.used.complete
        container.exec_run("dd if=/dev/zero of=/tmp/big bs=1M count=30")
        container.exec_run("ln -s / /tmp/loop")  # never followed
        (after,) = watch.look(lambda: engine.api, [record(container)])
        assert 30 * 2**20 <= after.used.bytes - before.used.bytes < 31 * 2**20
        container.exec_run("rm /tmp/big")
        (last,) = watch.look(lambda: engine.api, [record(container)])
        assert last.used.bytes - before.used.bytes < 2**20
    finally:
        container.remove(force=True)
    assert watch.look(lambda: engine.api, [record(container)]) == []


async def test_a_sessions_log_has_a_bound_and_its_labels_say_the_layers(spawner, engine):
    alice = spawner(
        "alice", project="thesis", c_cmd=["sh", "-c", "yes a-line-of-some-length >&2 & httpd -f -p 8888"]
    )
    await alice.start()
    try:
        found = engine.api.inspect_container(alice.container_id)
        assert found["HostConfig"]["LogConfig"]["Config"] == {"max-size": "10m", "max-file": str(LOG_FILES)}
        labels = SessionLabels.from_labels(found["Config"]["Labels"])
        assert SessionUse.from_labels(labels).layer == 20 * 2**30
    finally:
        await alice.stop(now=True)

"""A full workspace, a quota, and the site's quota command, on a real engine."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress

import pytest

from ds01spawner.hub.http_errors import SessionRefused

POLICY = """
version: 1
defaults:
  gpu: {max_equivalents: 0.5}
  session: {max: 2, cpus: 1, memory: 64m, shm: 16m, pids: 64, lifetime: 8h}
  storage:
    minimum_free: {workspace: 512k, host: 10m, engine: 10m}
    rescue: {cpus: 0.5, memory: 32m, lifetime: 10m}
"""


@pytest.fixture
def small_disk(tmp_path):
    """The workspaces on a file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=755", "none", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def inside(engine, one, command):
    code, output = engine.containers.get(one.object_id).exec_run(["sh", "-c", command])
    return code, output.decode().strip()


async def test_a_full_workspace_gives_a_small_session_for_deleting(spawner, engine, small_disk, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY)
    where = {"c_workspace_root": str(small_disk), "project": "thesis"}
    first = spawner("alice", **where)
    await first.start()
    with suppress(OSError):
        (small_disk / "alice/thesis/big").write_bytes(os.urandom(3 * 2**20))
    os.chown(small_disk / "alice/thesis/big", (small_disk / "alice").stat().st_uid, -1)
    await first.stop()
    with pytest.raises(SessionRefused) as refused:
        await spawner("alice", gpu="1g.10gb", **where).start()
    assert refused.value.refusal.code == "workspace-full"
    assert "rescue session" in str(refused.value)
    rescue = spawner("alice", **where)
    await rescue.start()
    limits = json.loads(engine.containers.get(rescue.object_id).labels["ds01.limits"])
    assert (limits["cpus"], limits["memory"], limits["lifetime"]) == (0.5, 32 * 2**20, 600)
    assert any("small session for deleting files" in e["message"] for e in rescue.progress_log.events)
    code, said = inside(
        engine,
        rescue,
        'mkdir -p "$JUPYTER_RUNTIME_DIR" "$JUPYTER_DATA_DIR" && '
        'touch "$JUPYTER_RUNTIME_DIR/x" && echo $JUPYTER_RUNTIME_DIR $JUPYTER_DATA_DIR',
    )
    assert (code, said) == (0, "/tmp/jupyter/runtime /tmp/jupyter/data")
    assert inside(engine, rescue, "echo x > /workspace/more")[0] != 0
    assert inside(engine, rescue, "rm /workspace/big /workspace/more")[0] == 0
    await rescue.stop()
    whole = spawner("alice", **where)
    await whole.start()
    assert json.loads(engine.containers.get(whole.object_id).labels["ds01.limits"])["lifetime"] == 8 * 3600


async def test_a_quota_counts_what_the_workspace_holds(spawner, engine, tmp_path):
    (tmp_path / "policy.yaml").write_text(POLICY.replace("  storage:\n", "  storage:\n    quota: 4m\n"))
    first = spawner("alice", project="thesis")
    await first.start()
    await first.stop()
    (tmp_path / "workspaces/alice/thesis/big").write_bytes(os.urandom(4 * 2**20))
    again = spawner("alice", gpu="1g.10gb", project="thesis")
    again.site.used_space.max_age = 0
    with pytest.raises(SessionRefused) as refused:
        await again.start()
    assert "Your workspace holds 4 MiB of 4 MiB" in str(refused.value)
    (tmp_path / "workspaces/alice/thesis/big").unlink()
    await spawner("alice", gpu="1g.10gb", project="thesis").start()


async def test_the_quota_command_runs_once_with_the_workspace(spawner, engine, tmp_path):
    script = tmp_path / "quota.sh"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/ran\n')
    script.chmod(0o755)
    command = f'["{script}", "{{user}}", "{{uid}}", "{{path}}", "{{quota}}"]'
    storage = f"  storage:\n    quota: 100m\n    quota_command: {command}\n"
    (tmp_path / "policy.yaml").write_text(POLICY.replace("  storage:\n", storage))
    for project in ("one", "two"):
        session = spawner("alice", project=project)
        await session.start()
        await session.stop()
    folder = tmp_path / "workspaces/alice"
    assert (tmp_path / "ran").read_text() == f"alice {folder.stat().st_uid} {folder} {100 * 2**20}\n"


async def test_a_workspace_that_gets_no_quota_gets_no_session(spawner, engine, hub_id, tmp_path):
    storage = '  storage:\n    quota: 100m\n    quota_command: [sh, -c, "echo no such project >&2; exit 1"]\n'
    (tmp_path / "policy.yaml").write_text(POLICY.replace("  storage:\n", storage))
    with pytest.raises(SessionRefused) as refused:
        await spawner("alice").start()
    assert refused.value.status_code == 503
    assert "could not be given its quota: no such project" in str(refused.value)
    assert engine.containers.list(all=True, filters={"label": f"ds01.hub={hub_id}"}) == []

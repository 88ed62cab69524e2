"""Spawners without a hub, on a real engine."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest
from jupyterhub import orm
from jupyterhub.objects import Hub
from traitlets.config import Config

from ds01spawner.core import installation
from ds01spawner.engines.docker.network import ensure_network
from ds01spawner.hub.spawner import DS01Spawner

GPUS = """
version: 1
cards:
  - {uuid: "GPU-%s", name: Simulated, memory: 80g, mig: [3g.40gb, 1g.10gb, 1g.10gb, 1g.10gb]}
"""
POLICY = """
version: 1
defaults:
  gpu: {max_equivalents: 0.5}
  session: {max: 2, cpus: 1, memory: 64m, shm: 16m, pids: 64}
  storage: {minimum_free: {workspace: 10m, host: 10m, engine: 10m}}
"""


@pytest.fixture
def spawner(
    tmp_path: Path, engine: docker.DockerClient, busybox_image: str, hub_id: str
) -> Iterator[Callable[..., DS01Spawner]]:
    """Makes spawners for users: ``spawner("alice", gpu="1g.10gb", project="p")``; traits as ``c_…``."""
    for name in ("state", "workspaces"):
        (tmp_path / name).mkdir()
    (tmp_path / "gpus.yaml").write_text(GPUS % uuid.uuid4())  # others may use this engine too
    (tmp_path / "policy.yaml").write_text(POLICY)
    installation.make(tmp_path / "state")
    network = ensure_network(engine.api, "ds01-test", "test-network")
    made: list[DS01Spawner] = []

    def make(user: str, server: str = "", **options: Any) -> DS01Spawner:
        traits = {k[2:]: options.pop(k) for k in list(options) if k.startswith("c_")}
        config = {
            "state_dir": str(tmp_path / "state"),
            "workspace_root": str(tmp_path / "workspaces"),
            "policy_file": str(tmp_path / "policy.yaml"),
            "inventory_file": str(tmp_path / "gpus.yaml"),
            "devices": "simulated",
            "hub_id": hub_id,
            "prefix": hub_id,
            "network_name": "ds01-test",
            "image": busybox_image,
            "cmd": ["httpd", "-f", "-p", "8888"],
            "retire_grace": 1,
            "start_timeout": 30,
            **traits,
        }
        person = SimpleNamespace(
            name=user, url=f"/user/{user}", groups=[], admin=False, settings={}, escaped_name=user
        )
        address = orm.Server(
            proto="http", ip="0.0.0.0", port=8888, base_url=f"/user/{user}/", cookie_name="t"
        )
        spawner = DS01Spawner(
            config=Config(DS01Spawner=config),
            user=person,
            orm_spawner=SimpleNamespace(name=server, user_options={}, server=address, state={}),
            hub=Hub(ip=network.gateway, port=8081),
        )
        spawner.user_options = options
        spawner.api_token = "token"
        made.append(spawner)
        return spawner

    yield make
    for each in made:
        each.site.endings.flush()
    for left in engine.containers.list(
        all=True, filters={"label": f"ds01.hub={hub_id}"}, ignore_removed=True
    ):
        left.remove(force=True, v=True)

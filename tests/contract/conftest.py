"""The engines that the contract is tried on: every case runs on each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench import Bench, DockerBackstage, FakeBackstage, make_settings
from support.engine_door import EngineDoor

ENGINES = ["fake", pytest.param("docker", marks=pytest.mark.engine)]


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path, hub_id: str) -> Iterator[Bench]:
    """A site of its own on the engine in turn."""
    if request.param == "fake":
        settings = make_settings(tmp_path, "fake", hub_id)
        yield Bench(settings, FakeBackstage(settings))
        return
    engine, image = request.getfixturevalue("engine"), request.getfixturevalue("busybox_image")
    # Short, because the path of a socket may have 107 characters only.
    with tempfile.TemporaryDirectory(prefix="ds01d") as folder:
        door = EngineDoor(Path(folder))
        settings = make_settings(tmp_path, "docker", hub_id, docker_host=door.address)
        behind = DockerBackstage(engine, image, hub_id, door)
        try:
            yield Bench(settings, behind)
        finally:
            behind.clear()
            door.close()

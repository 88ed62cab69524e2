"""One hub for the tests of a module that do not harm it, and a way to have one's own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import docker
import pytest
from support.running_hub import RunningHub, running_hub


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient, lab_image: str
) -> Iterator[RunningHub]:
    """A hub shared by a module's tests; each test uses users or servers of its own."""
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    with running_hub(tmp_path_factory.mktemp("hub"), name, lab_image) as running:
        yield running


@pytest.fixture
def own_hub(
    tmp_path: Path, engine: docker.DockerClient, lab_image: str, hub_id: str
) -> Iterator[Callable[..., RunningHub]]:
    """Makes a hub that the test may break: ``own_hub(extra="c.…")``."""
    with ExitStack() as stack:

        def make(**options: Any) -> RunningHub:
            image = options.pop("image", lab_image)
            return stack.enter_context(running_hub(tmp_path, hub_id, image, **options))

        yield make


@pytest.fixture
def sessions_of(engine: docker.DockerClient) -> Callable[[RunningHub], list[Any]]:
    """Every container of a hub, in any state."""

    def find(hub: RunningHub) -> list[Any]:
        return engine.containers.list(
            all=True, filters={"label": f"ds01.hub={hub.hub_id}"}, ignore_removed=True
        )

    return find

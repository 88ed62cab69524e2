"""An engine that cannot be asked about a container."""

from __future__ import annotations

from typing import Any

import docker
import pytest
import requests

from ds01spawner.engines.docker.reach import gpu_lost


@pytest.mark.parametrize(
    "error", [docker.errors.APIError("409: not running"), requests.ConnectionError("gone"), OSError("socket")]
)
def test_an_engine_that_fails_is_not_a_lost_gpu(error: Exception) -> None:
    class Broken:
        def inspect_container(self, *_: Any, **__: Any) -> Any:
            raise error

    assert gpu_lost(Broken(), "x") is None

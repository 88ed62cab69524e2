"""Reading the answer of a container about its own GPU."""

from __future__ import annotations

from typing import Any

import docker
import pytest
import requests

from ds01spawner.engines.docker.reach import gpu_lost, judge


@pytest.mark.parametrize(
    ("output", "code", "expected"),
    [
        ("ds01-gpu-node\n", 0, False),
        ("ds01-gpu-node\nsh: can't open /dev/nvidia0: No such device or address\n", 0, False),
        ("ds01-gpu-node\n/bin/sh: 1: cannot open /dev/nvidia0: Operation not permitted\n", 0, True),
        ("ds01-gpu-node\nds01-gpu-node\nsh: can't open /dev/nvidia1: Operation not permitted\n", 0, True),
        ("", 0, None),
        ("Operation not permitted", 0, None),
        ('exec: "/bin/sh": no such file or directory', 127, None),
        ("ds01-gpu-node\n", None, None),
    ],
)
def test_judge(output: str, code: int | None, expected: bool | None) -> None:
    assert judge(output, code) is expected


@pytest.mark.parametrize(
    "error", [docker.errors.APIError("409: not running"), requests.ConnectionError("gone"), OSError("socket")]
)
def test_an_engine_that_fails_is_not_a_lost_gpu(error: Exception) -> None:
    class Broken:
        def exec_create(self, *_: Any, **__: Any) -> Any:
            raise error

    assert gpu_lost(Broken(), "x") is None

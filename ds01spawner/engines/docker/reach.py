"""Whether a running session can still open its GPU.

The NVIDIA hook gives a container its device behind the back of systemd. Where systemd manages the
engine's cgroups, its next ``daemon-reload`` takes the device away again: programs that have it open go
on, the next one finds no GPU. Only making the container anew helps, so its owner must be told.
"""

from __future__ import annotations

from typing import Any

import docker
import requests

from ...errors import EngineError
from .bounded import exec_output

DENIED = "Operation not permitted"
MAX_SAID = 64 * 1024
PRESENT = "ds01-gpu-node"
PROBE = (
    f'for f in /dev/nvidia[0-9]*; do [ -c "$f" ] || continue; echo {PRESENT}; ( : < "$f" ) 2>&1; done; true'
)
"""Opens each GPU node of the container from inside, where its device cgroup decides."""


def gpu_lost(client: Any, container: str) -> bool | None:
    """Ask inside a running container (a docker-py low-level ``client``); None when that cannot be told.

    A container whose image has no shell, that has no GPU node, or that just ended, cannot be told about.
    """
    try:
        made = client.exec_create(
            container, ["/bin/sh", "-c", PROBE], user="0:0", environment={"LC_ALL": "C"}
        )
        output = exec_output(client, made["Id"], MAX_SAID)
        code = client.exec_inspect(made["Id"]).get("ExitCode")
    except (docker.errors.DockerException, requests.RequestException, EngineError, OSError):
        return None
    return judge(output.decode(errors="replace"), code)


def judge(output: str, code: int | None) -> bool | None:
    """Read the probe's answer: True when a node that is there may not be opened."""
    if code != 0 or PRESENT not in output:
        return None
    return DENIED in output

"""Which container a host process runs in.

In the host's PID namespace ``/proc`` tells. Elsewhere (a hub in a container) the same number may be
another process, so only the engine is asked, which answers with the host's PIDs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

HOST_PID_NAMESPACE = "pid:[4026531836]"
"""Fixed number of the first PID namespace (PROC_PID_INIT_INO)."""

_CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def containers_of(client: docker.APIClient, pids: Iterable[int], candidates: Sequence[str]) -> dict[int, str]:
    """Container ids by PID, for those that can be told; ``candidates`` are worth asking the engine about."""
    wanted = set(pids)
    found = {pid: where for pid in wanted if (where := from_proc(pid))} if in_host_namespace() else {}
    for container in candidates:
        missing = wanted - found.keys()
        if not missing:
            break
        found |= dict.fromkeys(missing & _top(client, container), container)
    return found


def from_proc(pid: int, proc: Path = Path("/proc")) -> str:
    """The container id in the process's cgroup path, or an empty string."""
    try:
        return container_in((proc / str(pid) / "cgroup").read_text())
    except (OSError, UnicodeDecodeError):
        return ""


def container_in(cgroup: str) -> str:
    """The first container id in a ``/proc/PID/cgroup`` file (version 1 and 2 look different)."""
    match = _CONTAINER_ID.search(cgroup)
    return match[0] if match else ""


def in_host_namespace() -> bool:
    """Whether this process sees the host's PIDs."""
    try:
        return os.readlink("/proc/self/ns/pid") == HOST_PID_NAMESPACE
    except OSError:
        return False


def _top(client: docker.APIClient, container: str) -> set[int]:
    """Host PIDs of a running container; none when it cannot be told, which explains nothing."""
    try:
        answer = client.top(container, ps_args="-eo pid")
        column = answer["Titles"].index("PID")
        return {int(row[column]) for row in answer["Processes"] or ()}
    except (DockerException, requests.RequestException, OSError, ValueError, KeyError):
        return set()

"""Whether a running session can still open its GPU.

The NVIDIA hook gives a container its device behind the back of systemd. Where systemd manages the
engine's cgroups, its next ``daemon-reload`` takes the device away again: programs that have it open go
on, the next one finds no GPU. Only making the container anew helps, so its owner must be told.

Nothing of the container's is executed to find out: an image is its owner's work. A short-lived process of
ours, with a program of ours, joins the container's device cgroup and asks the kernel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker
import requests

from .cgroups import ROOT
from .limit_check import PROC, cgroup_of

WITHIN_S = 10
_PROGRAM = Path(__file__).with_name("reach_program.py")


def gpu_lost(client: Any, container: str, root: Path = ROOT, proc: Path = PROC) -> bool | None:
    """Whether a GPU node that a running container has may not be opened in it; None when that cannot be told.

    A container that has no GPU node or just ended cannot be told about, nor can one whose processes and
    cgroups this process does not see or may not join (a hub in a container, or one that is not root).
    """
    try:
        pid = int(client.inspect_container(container)["State"].get("Pid") or 0)
    except (docker.errors.DockerException, requests.RequestException, OSError):
        return None
    folder = device_cgroup(pid, container, root, proc)
    if folder is None:
        return None
    try:
        # -I and -S: nothing but Python itself; the program imports its standard library alone.
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_PROGRAM), str(folder / "cgroup.procs"), str(pid), container],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=WITHIN_S,
            check=False,
            env={},
            cwd="/",
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return judge(done.stdout, done.returncode)


def device_cgroup(pid: int, container: str, root: Path = ROOT, proc: Path = PROC) -> Path | None:
    """The folder of the cgroup that decides about a container's devices; None where it cannot be seen."""
    if not pid or os.geteuid() != 0:
        return None
    old = cgroup_of(pid, "devices", 1, proc)
    path, base = (old, root / "devices") if old else (cgroup_of(pid, "", 2, proc), root)
    # Of another machine's engine, the number means another process.
    if container not in path:
        return None
    folder = base / path.strip("/")
    return folder if (folder / "cgroup.procs").exists() else None


def judge(output: bytes, code: int) -> bool | None:
    """Read the program's answer: True when a node that is there may not be opened. Pure."""
    try:
        said = json.loads(output)
        nodes, denied = int(said["nodes"]), int(said["denied"])
    except (ValueError, KeyError, TypeError):
        return None
    if code != 0 or nodes == 0:
        return None
    return denied > 0

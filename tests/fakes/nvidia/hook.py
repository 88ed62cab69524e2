"""A stand-in for ``nvidia-container-runtime-hook prestart``, with the rules of NVIDIA's toolkit.

It reads the container's state on stdin and its environment from the bundle, and obeys
``NVIDIA_VISIBLE_DEVICES``; an image with ``CUDA_VERSION`` and without the variable gets every GPU. The
devices come from the JSON file that ``FAKE_NVIDIA_NODES`` names. Device cgroups are those of version 1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup/devices")


def wanted(env: dict[str, str], machine: dict) -> list[str]:
    """UUIDs of the devices the environment asks for."""
    value = env.get("NVIDIA_VISIBLE_DEVICES")
    legacy = bool(env.get("CUDA_VERSION")) and not env.get("NVIDIA_REQUIRE_CUDA")
    if value is None:
        value = "all" if legacy else "void"
    names = [n.strip() for n in value.split(",") if n.strip()]
    if not names or "void" in names:
        return []
    for name in ("NVIDIA_MIG_CONFIG_DEVICES", "NVIDIA_MIG_MONITOR_DEVICES"):
        if env.get(name):
            sys.exit(f"cannot set {name} in non privileged container")
    if "none" in names:
        return []
    if "all" in names:
        return list(machine["devices"])
    found = [machine["index"].get(n, n) for n in names]
    for name in found:
        if name not in machine["devices"]:
            sys.exit(f"nvidia-container-cli: device error: {name}: unknown device")
    return found


def give(pid: int, rootfs: str, node: list) -> None:
    """Make the node inside the container's mounts and allow it in its device cgroup."""
    path, major, minor = node
    inside = rootfs + path
    script = 'mkdir -p "$(dirname "$0")"; [ -e "$0" ] || mknod -m 666 "$0" c "$1" "$2"'
    enter = ["nsenter", "-t", str(pid), "-m", "sh", "-c", script, inside, str(major), str(minor)]
    subprocess.run(enter, check=True)
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        if "devices" in controllers.split(","):
            (CGROUPS / group.lstrip("/") / "devices.allow").write_text(f"c {major}:{minor} rw")


def main() -> None:
    """The hook."""
    state = json.load(sys.stdin)
    config = json.loads((Path(state["bundle"]) / "config.json").read_text())
    env = dict(item.partition("=")[::2] for item in config["process"]["env"])
    machine = json.loads(Path(os.environ["FAKE_NVIDIA_NODES"]).read_text())
    uuids = wanted(env, machine)
    nodes = [node for uuid in uuids for node in machine["devices"][uuid]]
    rootfs = config["root"]["path"]
    if not rootfs.startswith("/"):
        rootfs = str(Path(state["bundle"]) / rootfs)
    for node in [*nodes, *(machine["common"] if nodes else [])]:
        give(int(state["pid"]), rootfs, node)


if __name__ == "__main__":
    main()

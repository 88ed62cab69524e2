"""A program of its own: join a container's device cgroup and try to open the GPU nodes that it has.

``python -I -S reach_program.py <cgroup.procs> <pid> <container id>``. It is never imported, runs nothing of
the container's, follows none of its links, and ends at once: the cgroup goes with it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NODE = re.compile(r"nvidia[0-9]{1,3}")
MAX_NODES = 64


def gpu_nodes(pid: str) -> list[int]:
    """Descriptors (not opened, only found) of the GPU nodes in the container's ``/dev``."""
    root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    dev = os.open("dev", FOLDER, dir_fd=root)
    found: list[int] = []
    for name in sorted(os.listdir(dev)):
        if not NODE.fullmatch(name) or len(found) >= MAX_NODES:
            continue
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dev)
        if stat.S_ISCHR(os.fstat(node).st_mode):
            found.append(node)
    return found


def may_open(node: int) -> bool:
    """Whether the kernel lets a process of this cgroup open a device; what the driver says is no matter."""
    try:
        os.close(os.open(f"/proc/self/fd/{node}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno != errno.EPERM
    return True


def main(procs: str, pid: str, container: str) -> None:
    nodes = gpu_nodes(pid)
    with open(f"/proc/{pid}/cgroup") as file:
        if container not in file.read(65536):
            raise SystemExit(3)  # the container ended, and another process has its number
    if nodes:
        with open(procs, "w") as file:
            file.write("0")
    print(json.dumps({"nodes": len(nodes), "denied": sum(not may_open(node) for node in nodes)}))


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""Namespaces of the campaign's own: network, mounts and processes that end with it, whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

INSIDE = "DS01_FAULTS_INSIDE"
_INIT = 'ip link set lo up && "$0" -m tests.faults "$@" & wait $!'
"""The first process of a namespace takes in orphans, so it is a shell and not the driver."""


def inside() -> bool:
    """Whether this process is in there already."""
    return os.environ.get(INSIDE) == str(os.stat("/proc/self/ns/net").st_ino)


def enter(arguments: Sequence[str]) -> int:
    """Run the campaign again inside; returns its exit status. Everything in there ends with it."""
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    shell = f"export {INSIDE}=$(stat -L -c %i /proc/self/ns/net); {_INIT}"
    done = subprocess.run([*unshare, "sh", "-c", shell, sys.executable, *arguments], check=False)
    return done.returncode

"""The claim lock: one file, locked by every process that chooses devices on this host.

``flock`` belongs to the open file, and each call opens the file anew, so the lock holds between the
threads of one process as well as between processes; the kernel drops it when a process dies.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...core.errors import LockError

FIRST_WAIT, LONGEST_WAIT = 0.002, 0.05
"""Seconds between two tries; the wait doubles up to the longest, with some chance in it."""


@contextmanager
def claim_lock(path: Path | str, timeout: float = 30.0) -> Iterator[None]:
    """Hold the lock at ``path`` for the block; blocks the thread for at most ``timeout`` seconds.

    `LockError` when it cannot be taken, for whatever reason: there is no going on without it.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
    except OSError as error:
        raise LockError(f"the claim lock {path} cannot be opened: {error.strerror}") from error
    try:
        _take(descriptor, path, timeout)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    wait = FIRST_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            left = deadline - time.monotonic()
        except OSError as error:
            raise LockError(f"the claim lock {path} cannot be taken: {error.strerror}") from error
        if left <= 0:
            raise LockError(
                f"the claim lock {path} was held by others for {timeout:g} s; nothing was granted, try again"
            )
        time.sleep(min(left, wait * random.uniform(0.5, 1.5)))  # noqa: S311 - spreads the tries only
        wait = min(wait * 2, LONGEST_WAIT)

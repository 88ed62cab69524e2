"""The claim lock: one file, locked by every process that chooses devices on this host.

``flock`` belongs to the open file, and each call opens the file anew, so the lock holds between the
threads of one process as well as between processes; the kernel drops it when a process dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ...errors import LockError

FIRST_WAIT, LONGEST_WAIT = 0.002, 0.05
"""Seconds between two tries; the wait doubles up to the longest, with some chance in it."""


@contextmanager
def claim_lock(path: Path | str, timeout: float = 30.0) -> Iterator[None]:
    """Hold the lock at ``path`` for the block; blocks the thread for at most ``timeout`` seconds.

    `LockError` when it cannot be taken, for whatever reason: there is no going on without it.
    """
    path = Path(path)
    deadline = time.monotonic() + timeout
    with ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
            opened.callback(os.close, file)
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, folder)
        except OSError as error:
            raise LockError(f"the claim lock {path} cannot be opened: {error.strerror}") from error
        _take(file, path, timeout, deadline)
        # Whoever deletes the file lets the next one lock a new file of that name. The folder stays.
        _take(folder, path, timeout, deadline, only_files=True)
        try:
            yield
        finally:
            for descriptor in (folder, file):  # a child that is just being forked has them open, too
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)


def _take(descriptor: int, path: Path, timeout: float, deadline: float, only_files: bool = False) -> None:
    """Lock what is open. With ``only_files``, a file system that locks nothing else is left at that."""
    wait = FIRST_WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            left = deadline - time.monotonic()
        except OSError as error:
            if only_files and error.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSUP):
                return  # NFS, for one
            raise LockError(f"the claim lock {path} cannot be taken: {error.strerror}") from error
        if left <= 0:
            raise LockError(
                f"the claim lock {path} was held by others for {timeout:g} s; nothing was granted, try again"
            )
        time.sleep(min(left, wait * random.uniform(0.5, 1.5)))  # noqa: S311 - spreads the tries only
        wait = min(wait * 2, LONGEST_WAIT)

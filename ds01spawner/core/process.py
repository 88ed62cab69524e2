"""A process by its id and the moment it began, which together mean one process and never a later one.

Standard library only: a service imports this before anything else.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.2
"""Seconds between two looks where the kernel offers no event for the end of a process."""
_STARTED, _STATE = 19, 0
"""Fields of ``/proc/PID/stat`` after the name: clock ticks since boot at the start, and the state."""


@dataclass(frozen=True)
class Process:
    """``started`` is in clock ticks since the machine's boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now; None where there is none, or only its unread end."""
        try:
            # The name in parentheses may hold anything, parentheses and spaces included.
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            return None if fields[_STATE] in "ZX" else cls(pid, int(fields[_STARTED]))
        except (OSError, ValueError, IndexError):
            return None

    @classmethod
    def this(cls) -> Process:
        """The calling process."""
        found = cls.of(os.getpid())
        assert found is not None, "/proc shows this process"
        return found

    @classmethod
    def parse(cls, text: str) -> Process | None:
        """What `str` of one gave."""
        pid, _, started = text.partition(":")
        return cls(int(pid), int(started)) if pid.isdecimal() and started.isdecimal() else None

    def __str__(self) -> str:
        return f"{self.pid}:{self.started}"

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (or is stopped)."""
        return Process.of(self.pid) == self

    def wait_end(self, patience: float | None = None) -> bool:
        """Block until it has ended, at most ``patience`` seconds; whether it has."""
        deadline = None if patience is None else time.monotonic() + patience
        handle = self._handle()
        try:
            while self.alive:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                if handle is None:
                    time.sleep(LOOK_S if left is None else min(LOOK_S, left))
                else:
                    poll = select.poll()
                    poll.register(handle, select.POLLIN)
                    poll.poll(None if left is None else left * 1000)
            return True
        finally:
            if handle is not None:
                os.close(handle)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process and no other; does nothing when it has ended."""
        handle = self._handle()
        try:
            # Looked at after the handle was made: from here on the handle cannot mean another process.
            if self.alive:
                with suppress(ProcessLookupError):
                    if handle is None:
                        os.kill(self.pid, number)
                    else:
                        signal.pidfd_send_signal(handle, number)
        finally:
            if handle is not None:
                os.close(handle)

    def _handle(self) -> int | None:
        try:
            return os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # an old kernel, or a sandbox that knows no such call
            return None

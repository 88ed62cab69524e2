"""How much longer this machine takes for a given work at this moment, because others use it too."""

from __future__ import annotations

import time

WORK_S = 0.02


class Stretch:
    """Measured again and again while something is waited for; limits by the clock are multiplied by it."""

    def __init__(self) -> None:
        self._wall = self._work = 0.0

    def measure(self) -> None:
        """Work for twenty milliseconds and see how long that takes."""
        began, worked = time.monotonic(), time.thread_time()
        while time.thread_time() - worked < WORK_S:
            pass
        self._wall += time.monotonic() - began
        self._work += time.thread_time() - worked

    @property
    def factor(self) -> float:
        """1 on an idle machine."""
        return max(1.0, self._wall / self._work) if self._work else 1.0

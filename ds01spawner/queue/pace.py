"""How many sessions are started side by side. Pure.

The engine takes a few starts at a time; more only make each slower. The pace learns: starts that take
about as long as the quickest let it rise, starts that take much longer let it fall.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SLOW, QUICK = 2.5, 1.5
"""Times the usual quick start: above the first the pace falls, below the second it may rise."""


@dataclass
class Pace:
    """``width`` starts may be under way at a time."""

    width: int = 3
    least: int = 1
    most: int = 16
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _since_change: int = 0

    def free(self, pending: int) -> int:
        """How many more may be begun while ``pending`` are under way."""
        return max(0, self.width - pending)

    def started(self, seconds: float) -> None:
        """A start took so long."""
        self._recent.append(seconds)
        self._since_change += 1
        if self._since_change < self.width:
            return  # what is under way was begun at the old width
        quick = sorted(self._recent)[len(self._recent) // 10]
        if seconds > SLOW * quick:
            self._change(max(self.least, self.width - 1))
        elif seconds < QUICK * quick:
            self._change(min(self.most, self.width + 1))

    def failed(self) -> None:
        """A start failed for want of capacity: half the pace."""
        self._change(max(self.least, self.width // 2))

    def _change(self, width: int) -> None:
        self.width, self._since_change = width, 0

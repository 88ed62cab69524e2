"""What a start has done so far: an append-only list that any number of browsers can follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypedDict

STEPS: dict[str, tuple[int, str]] = {
    "checks": (5, "Limits and options checked"),
    "image": (15, "Environment ready"),
    "workspace": (25, "Project folder ready"),
    "device": (45, "Compute reserved"),
    "container": (60, "Container created"),
    "turn": (63, "Its turn has come"),
    "started": (70, "Container started"),
    "jupyter": (90, "JupyterLab is answering"),
}
"""The steps in their order: percent reached, and a title where no better message is known."""


class Event(TypedDict):
    """One step so far, as the hub hands it to browsers: percent reached, and what is done."""

    progress: int
    message: str
    step: str
    finished: bool


@dataclass
class Progress:
    """Events of one start. Not thread-safe: append on the event loop."""

    events: list[Event] = field(default_factory=list)
    done: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False, compare=False)
    """Set when something has been added; each time, another takes its place."""

    def step(self, name: str, message: str = "", *, finished: bool = True, fraction: float = 1.0) -> None:
        """Record a step. ``fraction`` moves the bar within the step while it is not ``finished``."""
        reached, title = STEPS[name]
        before = max((p for p, _ in STEPS.values() if p < reached), default=0)
        self.events.append(
            {
                "progress": int(before + (reached - before) * (1.0 if finished else fraction)),
                "message": message or title,
                "step": name,
                "finished": finished,
            }
        )
        self._wake()

    def finish(self) -> None:
        """The start is over, whatever came of it."""
        self.done = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def follow(self) -> AsyncIterator[Event]:
        """All events from the first, then new ones as they come, until the start is over.

        At once, not at the next look: the hub stops following when the start is over, and the last step comes
        just before that.
        """
        index = 0
        while True:
            news = self._news
            while index < len(self.events):
                yield self.events[index]
                index += 1
            if self.done:
                return
            await news.wait()

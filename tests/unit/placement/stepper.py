"""Run a function in a thread that stops at chosen points, so that a test decides who goes on when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """The process died here; nothing of it runs any more."""


class Stepper:
    """``work(stepper)`` runs until its first `pause`; `step` lets it go on, `kill` ends it there."""

    def __init__(self, work: Callable[[Stepper], Any]) -> None:
        self._work = work
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._killed = False
        self.at = ""
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._wait()

    def pause(self, where: str) -> None:
        """Called by the work: stop here until the test says otherwise."""
        self.at = where
        self._back.release()
        self._go.acquire()
        if self._killed:
            raise Killed

    def step(self) -> None:
        """Go on to the next pause, or to the end."""
        self._go.release()
        self._wait()

    def kill(self) -> None:
        """Die at the present pause."""
        if not self.done:
            self._killed = True
            self.step()

    def _run(self) -> None:
        try:
            self.result = self._work(self)
        except BaseException as error:
            self.error = error
        self.done = True
        self._back.release()

    def _wait(self) -> None:
        assert self._back.acquire(timeout=30), f"stuck after {self.at!r}"
        if self.done:
            self._thread.join()

"""From counters read now and then to what happened in between. Pure; monotonic seconds go in.

Counters of a container only grow, so activity is the difference of two looks divided by the time between
them. One look tells nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..engines.session_sample import Process, Sample, classify
from .model import Reading, Work, failed, known

__all__ = ["Meter", "Process", "Sample", "classify"]
WORK_CORES = 0.0025
"""From this share of a core on a program beside server and kernels is at work.

Far below what counts for the session as a whole: training that waits for its GPU takes little CPU, while
an idle editor, pager or file server takes none."""


class Meter:
    """Keeps the last looks at each session and says what happened within ``window`` seconds."""

    def __init__(self, window: float = 60.0) -> None:
        self.window = window
        self._looks: dict[str, deque[tuple[float, Sample]]] = {}

    def add(self, session: str, at: float, sample: Sample) -> None:
        """Keep a look at ``at`` (monotonic seconds); what is older than needed is dropped."""
        looks = self._looks.setdefault(session, deque())
        looks.append((at, sample))
        while len(looks) > 2 and looks[1][0] <= at - self.window:
            looks.popleft()

    def keep_only(self, sessions: Iterable[str]) -> None:
        """Forget sessions that are gone."""
        for gone in self._looks.keys() - set(sessions):
            del self._looks[gone]

    def cpu(self, session: str) -> Reading[float]:
        """Cores in use on average."""
        span = self._span(session, lambda s: s.cpu)
        return span if isinstance(span, Reading) else _rate(span[0], span[1])

    def network(self, session: str) -> Reading[float]:
        """Bytes a second, received and sent."""
        span = self._span(session, lambda s: s.network)
        return span if isinstance(span, Reading) else _rate(span[0], float(span[1]))

    def work(self, session: str) -> Reading[Work]:
        """Programs at work, and the last keystroke."""
        looks = [(t, s) for t, s in self._looks.get(session, ()) if s.processes is not None]
        last = self._last(session)
        if last is None or last.processes is None:
            return failed(last.missing if last else "not looked at")
        if len(looks) < 2:
            return failed("looked at once only; the next look tells")
        seconds = looks[-1][0] - looks[0][0]
        before = {(p.pid, p.started): p.cpu for p in looks[0][1].processes or ()}
        running = [
            (p.cpu - before.get((p.pid, p.started), 0.0), p.name) for p in last.processes if p.kind == "work"
        ]
        busy = sorted((used, name) for used, name in running if used >= WORK_CORES * seconds and used > 0)
        return known(Work(tuple(name for _, name in reversed(busy)), last.typed_at))

    def sees_typing(self, session: str) -> bool:
        """Whether the last look could see keystrokes in terminals."""
        last = self._last(session)
        return last is not None and last.sees_typing

    def _last(self, session: str) -> Sample | None:
        looks = self._looks.get(session)
        return looks[-1][1] if looks else None

    def _span(self, session: str, part: object) -> tuple[float, float] | Reading[float]:
        assert callable(part)
        last = self._last(session)
        if last is None or part(last) is None:
            return failed(last.missing if last else "not looked at")
        looks = [(t, part(s)) for t, s in self._looks[session] if part(s) is not None]
        if len(looks) < 2 or looks[-1][0] <= looks[0][0]:
            return failed("looked at once only; the next look tells")
        return looks[-1][0] - looks[0][0], looks[-1][1] - looks[0][1]


def _rate(seconds: float, amount: float) -> Reading[float]:
    if amount < 0:
        return failed("its counters went back")
    return known(amount / seconds)

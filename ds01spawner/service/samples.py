"""What each session uses over the last half hour: CPU, memory, GPU; a ring of points a session.

The points live in memory only. A value that could not be read is a gap, never a zero.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..engines.base import Counters
from ..gpu.reading import Activity
from ..pages.inputs import Series

INTERVAL_S = 20.0
POINTS = 90
MIB = 2**20

NO_LOAD = "the load of this slice cannot be measured"
NO_GPU = "this session has no GPU"


@dataclass(frozen=True)
class Point:
    """One look. ``cpu`` in cores since the look before, ``memory`` in bytes, ``gpu`` in percent."""

    cpu: float | None = None
    memory: float | None = None
    gpu: float | None = None
    gpu_memory: float | None = None
    layer: float | None = None


@dataclass
class _Course:
    points: deque[Point] = field(default_factory=lambda: deque(maxlen=POINTS))
    cpu_seconds: float | None = None
    at: float = 0.0
    cpus: float | None = None
    memory_limit: float | None = None
    gpu_memory_total: float | None = None
    layer_limit: float | None = None
    has_gpu: bool = False


class Samples:
    """Rings by session id. Not thread-safe: use on the event loop."""

    def __init__(self) -> None:
        self._courses: dict[str, _Course] = {}

    def add(
        self,
        session: str,
        at: float,
        look: Counters,
        *,
        cpus: float | None = None,
        activity: Iterable[Activity] | None = None,
        gpu_memory_mib: float | None = None,
        layer: float | None = None,
        layer_limit: float | None = None,
    ) -> None:
        """Add a look at ``at`` (monotonic seconds). ``activity`` is None for a session without a GPU."""
        course = self._courses.setdefault(session, _Course())
        cpu = None
        if look.cpu_seconds is not None and course.cpu_seconds is not None and at > course.at:
            used = look.cpu_seconds - course.cpu_seconds
            cpu = used / (at - course.at) if used >= 0 else None
        course.cpu_seconds, course.at = look.cpu_seconds, at
        course.cpus, course.memory_limit = cpus, look.memory_limit or course.memory_limit
        course.layer_limit = layer_limit
        course.has_gpu = activity is not None
        course.gpu_memory_total = gpu_memory_mib * MIB if gpu_memory_mib else None
        devices = list(activity or ())
        loads = [a.utilisation for a in devices if a.utilisation is not None]
        held = [a.memory_mib * MIB for a in devices if a.memory_mib is not None]
        course.points.append(
            Point(
                cpu,
                look.memory,
                max(loads) if loads and len(loads) == len(devices) else None,
                float(sum(held)) if held and len(held) == len(devices) else None,
                layer,
            )
        )

    def keep_only(self, sessions: Iterable[str]) -> None:
        """Forget sessions that are gone."""
        for gone in self._courses.keys() - set(sessions):
            del self._courses[gone]

    def series(self, session: str) -> tuple[Series, ...]:
        """The courses to draw; nothing before the first two looks."""
        course = self._courses.get(session)
        if course is None or len(course.points) < 2:
            return ()
        points = list(course.points)[1:]
        found = [
            Series("CPU", tuple(p.cpu for p in points), course.cpus, "cores"),
            Series("Memory", tuple(p.memory for p in points), course.memory_limit, "bytes"),
        ]
        layers = tuple(p.layer for p in points)
        if any(v is not None for v in layers):
            found.append(Series("Files outside the project", layers, course.layer_limit, "bytes"))
        if course.has_gpu:
            loads = tuple(p.gpu for p in points)
            none = all(v is None for v in loads)
            memory = tuple(p.gpu_memory for p in points)
            found += [
                Series("GPU memory", memory, course.gpu_memory_total, "bytes", _absent(memory)),
                Series("GPU activity", loads, 100.0, "%", NO_LOAD if none else ""),
            ]
        return tuple(found)


def _absent(points: tuple[float | None, ...]) -> str:
    return "the driver does not tell" if all(p is None for p in points) else ""

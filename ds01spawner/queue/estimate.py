"""How long a wait will take, said honestly: a simple model, corrected by how past waits came out. Pure.

The model: each device the ticket could use comes free at a rate that the lengths of past sessions and
the age of the present one give; the ticket starts at the n-th of these ends. Nobody knows what people
will do, so the shown figures are the model's times a factor learned from past tickets: the factor that
would have made nine of ten of them true.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import sqrt

from ..core.text import duration
from .ticket import Estimate

FALLBACK_HOURS = 4.0
"""Taken for a session's usual length while there is no history."""
ENOUGH = 20
"""Past sessions, or past waits, from which on they are relied upon."""
CAUTION = 1.6
"""Factor on the p90 before experience exists."""
_Z50, _Z90 = 0.0, 1.2815515655


class Lengths:
    """How long sessions last, from those that ended."""

    def __init__(self, hours: Iterable[float]) -> None:
        """Hours of past sessions of one kind."""
        self.sorted = sorted(h for h in hours if h > 0)
        self._sums = [0.0]
        for h in self.sorted:
            self._sums.append(self._sums[-1] + h)

    def __len__(self) -> int:
        """How many sessions it rests on."""
        return len(self.sorted)

    @property
    def median(self) -> float:
        """The usual length in hours."""
        return self.sorted[len(self.sorted) // 2] if self.sorted else FALLBACK_HOURS

    @property
    def mean(self) -> float:
        """The mean length in hours."""
        return self._sums[-1] / len(self.sorted) if len(self.sorted) >= ENOUGH else FALLBACK_HOURS

    def remaining(self, elapsed: float) -> float:
        """Mean hours left to a session that has lasted ``elapsed`` hours: of those that lasted longer."""
        if len(self.sorted) < ENOUGH:
            return max(FALLBACK_HOURS, elapsed / 2)
        first = bisect_right(self.sorted, elapsed)
        longer = len(self.sorted) - first
        if longer < 5:
            # Longer than nearly all there were: as likely to go on as anything of its age.
            return max(elapsed / 2, self.sorted[-1] / len(self.sorted))
        return max((self._sums[-1] - self._sums[first]) / longer - elapsed, 0.01)


@dataclass(frozen=True)
class Calibration:
    """Factors on the model, learned from past waits."""

    f50: float = 1.0
    f90: float = CAUTION
    cases: int = 0

    @classmethod
    def learn(cls, past: Sequence[tuple[float, float, float]]) -> Calibration:
        """From ``(model p50, model p90, actual)`` of past waits, in any one unit."""
        usable = [(m50, m90, actual) for m50, m90, actual in past if m50 > 0 and m90 > 0]
        if len(usable) < ENOUGH:
            return cls(cases=len(usable))
        r50 = sorted(actual / m50 for m50, _, actual in usable)
        r90 = sorted(actual / m90 for _, m90, actual in usable)
        # One case more than nine tenths: the next wait is not among those learned from.
        at = min(len(r90) - 1, int(0.9 * (len(r90) + 1)))
        return cls(_bound(r50[len(r50) // 2]), _bound(r90[at]), len(usable))


def estimate(
    remaining: Sequence[float],
    nth: int,
    calibration: Calibration,
    *,
    latest: Sequence[float] = (),
    lengths: Lengths | None = None,
) -> Estimate | None:
    """The wait until the ``nth`` end among devices with these mean ``remaining`` hours.

    ``latest`` are the hours after which each of them must have ended; they bound the p90 where all
    that is needed has ended by then. None when no device is expected to come free at all.
    """
    rate = sum(1.0 / r for r in remaining if r > 0)
    if rate <= 0 or nth < 1:
        return None
    model50, model90 = gamma(nth, _Z50) / rate, gamma(nth, _Z90) / rate
    p50, p90 = model50 * calibration.f50, model90 * calibration.f90
    bounds = sorted(latest)
    if nth <= len(bounds):
        p90 = min(p90, bounds[nth - 1])
    p50 = min(p50, p90)
    basis = _basis(len(remaining), nth, calibration, lengths)
    return Estimate(_span(p50), _span(p90), basis, _span(model90))


def _basis(devices: int, nth: int, calibration: Calibration, lengths: Lengths | None) -> str:
    many = "1 device that you could use is" if devices == 1 else f"{devices} devices that you could use are"
    place = "you are first in line for them" if nth == 1 else f"{nth - 1} before you want them too"
    parts = [f"{many} in use and {place}"]
    if lengths is not None and len(lengths) >= ENOUGH:
        parts.append(
            f"the median length of {len(lengths)} past sessions is {duration(lengths.median * 3600)}"
        )
    else:
        parts.append("there is too little history of how long sessions last, so this is rough")
    if calibration.cases >= ENOUGH:
        parts.append(f"corrected by the last {calibration.cases} waits, 90 % of which were shorter")
    return "; ".join(parts)


def gamma(shape: int, z: float) -> float:
    """Quantile of a gamma distribution with unit rate, by that of the normal one (Wilson and Hilferty)."""
    ninth = 1.0 / (9.0 * shape)
    return float(shape * max(0.0, 1.0 - ninth + z * sqrt(ninth)) ** 3)


def _bound(factor: float) -> float:
    return min(10.0, max(0.2, factor))


def _span(hours: float) -> timedelta:
    return timedelta(hours=min(hours, 24 * 365))

"""What the service knows when it decides: readings turned into the pool, the usage and the estimates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from ..placement.devices import Holding, Inventory
from ..store.rows import TicketRow
from ..store.shown import EstimateJson, ShownJson
from ..store.usage import Length
from .estimate import Calibration, Lengths, estimate
from .ticket import Ticket, Usage, Wait

HALF_LIFE = timedelta(days=7)
"""GPU-hours used a week ago count half in the fair share."""


@dataclass(frozen=True)
class Experience:
    """What the past teaches; read anew every few minutes."""

    lengths: Mapping[str, Lengths] = field(default_factory=dict)
    """By profile; ``""`` for all together."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    """By kind of ticket; ``""`` for all together."""
    usage: Usage = field(default_factory=Usage)

    def length(self, profile: str) -> Lengths:
        """Past sessions on such devices, or on any where there were too few."""
        mine = self.lengths.get(profile, Lengths(()))
        return mine if len(mine) >= 20 else self.lengths.get("", Lengths(()))

    def calibration(self, kind: str) -> Calibration:
        """What past waits of this kind teach, or all where there were too few."""
        mine = self.calibrations.get(kind, Calibration())
        return mine if mine.cases >= 20 else self.calibrations.get("", Calibration())


def learn(lengths: Iterable[Length], served: Iterable[tuple[str, float, float]], usage: Usage) -> Experience:
    """From ended sessions and served waits (kind, model p90 and actual seconds)."""
    hours: dict[str, list[float]] = defaultdict(list)
    for d in lengths:
        hours[""].append(d.hours)
        if d.profile:
            hours[d.profile].append(d.hours)
    waits: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for kind, model90, actual in served:
        for key in ("", kind):
            waits[key].append((model90 / 3, model90, actual))
    return Experience(
        {k: Lengths(v) for k, v in hours.items()},
        {k: Calibration.learn(v[-300:]) for k, v in waits.items()},
        usage,
    )


def expected_ends(
    inventory: Inventory,
    holdings: Iterable[Holding],
    lasts_until: Mapping[str, datetime],
    experience: Experience,
    now: datetime,
) -> dict[str, datetime]:
    """When each device held by a session is expected to come free, by UUID."""
    profiles = {d.uuid: d.profile for d in inventory.devices}
    ends: dict[str, datetime] = {}
    for h in holdings:
        if h.kind != "session" or h.uuid not in profiles:
            continue
        since = _time(h.since) or now
        elapsed = max(0.0, (now - since).total_seconds() / 3600)
        end = now + timedelta(hours=experience.length(profiles[h.uuid]).remaining(elapsed))
        ends[h.uuid] = min(end, max(now, lasts_until.get(h.session, end)))
    return ends


def with_estimates(
    waits: Sequence[Wait],
    eligible: Mapping[str, frozenset[str]],
    ends: Mapping[str, datetime],
    lasts: Mapping[str, datetime],
    experience: Experience,
    now: datetime,
) -> list[Wait]:
    """Waits with their estimates; ``eligible`` by ticket, ``ends`` and ``lasts`` (latest end) by device.

    Who waits because of the own limits gets none: that is not up to the devices.
    """
    told = []
    for wait in waits:
        if wait.code in ("limit", "impossible"):
            told.append(wait)
            continue
        mine = eligible.get(wait.ticket.id, frozenset())
        remaining = [max(0.01, (ends[d] - now).total_seconds() / 3600) for d in mine if d in ends]
        latest = [max(0.0, (lasts[d] - now).total_seconds() / 3600) for d in mine if d in lasts]
        nth = sum(n for _, n in wait.ahead) + wait.ticket.request.count
        found = estimate(
            remaining,
            nth,
            experience.calibration(wait.ticket.kind),
            latest=latest if len(latest) == len(remaining) else (),
            lengths=experience.length(wait.ticket.request.profile),
        )
        told.append(replace(wait, estimate=found))
    return told


def shown(wait: Wait, before: ShownJson) -> ShownJson:
    """What a waiting ticket is told, as JSON. The first estimate is kept: it is judged by what came."""
    found = wait.estimate
    estimate: EstimateJson | None = None
    first = before.get("first")
    if found is not None:
        estimate = {
            "p50_s": round(found.p50.total_seconds()),
            "p90_s": round(found.p90.total_seconds()),
            "basis": found.basis,
        }
        if first is None:
            first = {"p90_s": estimate["p90_s"], "model90_s": found.model90.total_seconds()}
    return {
        "position": wait.position,
        "reason": wait.reason,
        "code": wait.code,
        "ahead": [{"class": kind, "count": n} for kind, n in wait.ahead],
        "estimate": estimate,
        "first": first,
    }


def served(rows: Iterable[TicketRow], kinds: Mapping[str, Ticket]) -> list[tuple[str, float, float]]:
    """What past tickets teach: kind, model and actual wait in seconds, of those that were told a time."""
    found = []
    for r in rows:
        first = (r.shown or {}).get("first")
        if first and r.granted_at is not None and r.id in kinds:
            actual = (r.granted_at - r.arrived).total_seconds()
            found.append((kinds[r.id].kind, float(first["model90_s"]), actual))
    return found


def _time(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else None

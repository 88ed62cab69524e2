"""The rules compared: what ``ds01 simulate --queue`` prints, and the chart of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypedDict

from ..queue.simulation import (
    ARRIVALS,
    CLASSES,
    LOAD,
    LOADS,
    RULES,
    SEEDS,
    STARVED,
    Outcome,
    arrivals,
    jain,
    least_longest,
    quantile,
    simulate,
)


class Summary(TypedDict):
    """What the runs of one rule at one load came to. Waits are in mean session lengths."""

    p95_wait_largest: float
    """Of the largest class."""
    p95_wait_smallest: float
    mean_wait: float
    max_wait: float
    jain: float
    """Jain's index of fairness over the GPU hours of people; the least of all seeds."""
    starved: int
    overloaded: bool
    """Whether the rule did not keep up with what came."""
    estimate_kept: float | None
    """Share of the waits that ended within the time told for 90 %."""
    served: int


class _Report(TypedDict):
    p95_wait_largest: float
    jain: float
    starved: int
    estimate_kept: float | None
    load: float
    seeds: int
    arrivals: int
    unit: str
    starved_after: float
    rules: dict[str, Summary]
    least_longest: dict[str, float]


class Report(_Report, total=False):
    """What ``ds01 simulate --queue`` prints; all loads in it where they were asked for."""

    loads: dict[str, dict[str, Summary]]
    starved_anywhere: int
    seconds: float


GOALS = {"p95_wait_largest": 8.0, "jain": 0.95, "starved": 0, "estimate_kept": 0.85}


def run_one(task: tuple[str, float, int, int]) -> Outcome:
    """One rule, load, seed and number of arrivals; a plain function of plain values, for other processes."""
    rule, load, seed, count = task
    return simulate(arrivals(seed, load, count), RULES[rule])


def summary(outcomes: Sequence[Outcome]) -> Summary:
    """What the runs of one rule at one load came to, over all seeds. Waits in mean session lengths."""
    largest, smallest = CLASSES[-1][0], CLASSES[0][0]
    every = [w for o in outcomes for waits in o.waits.values() for w in waits]
    told = [pair for o in outcomes for pair in o.told]
    kept = sum(actual <= p90 for p90, actual in told) / len(told) if told else None
    return {
        "p95_wait_largest": round(quantile((w for o in outcomes for w in o.waits[largest]), 0.95), 2),
        "p95_wait_smallest": round(quantile((w for o in outcomes for w in o.waits[smallest]), 0.95), 2),
        "mean_wait": round(sum(every) / len(every), 3) if every else 0.0,
        "max_wait": round(max(every, default=0.0), 1),
        "jain": round(min(jain(o.gpu_hours) for o in outcomes), 4),
        "starved": sum(w > STARVED for w in every) + sum(o.unserved for o in outcomes),
        "overloaded": any(o.overloaded for o in outcomes),
        "estimate_kept": None if kept is None else round(kept, 4),
        "served": len(every),
    }


def compare(
    loads: Iterable[float] = (LOAD,),
    rules: Iterable[str] = tuple(RULES),
    seeds: Sequence[int] = SEEDS,
    count: int = ARRIVALS,
    processes: int | None = None,
) -> dict[float, dict[str, Summary]]:
    """Every rule at every load, ``{load: {rule: summary}}``; the same seeds give the same people."""
    cells = [(load, rule) for load in loads for rule in rules]
    tasks = [(rule, load, seed, count) for load, rule in cells for seed in seeds]
    if processes == 1:
        outcomes = list(map(run_one, tasks))
    else:
        with ProcessPoolExecutor(processes) as workers:
            outcomes = list(workers.map(run_one, tasks))
    table: dict[float, dict[str, Summary]] = {}
    for number, (load, rule) in enumerate(cells):
        mine = outcomes[number * len(seeds) : (number + 1) * len(seeds)]
        table.setdefault(load, {})[rule] = summary(mine)
    return table


def least(load: float) -> float:
    """The longest wait that a rule must expect at this load, over all seeds (see `least_longest`)."""
    return max(least_longest(arrivals(seed, load)) for seed in SEEDS)


def report(full: bool = False) -> Report:
    """What ``ds01 simulate --queue`` shows: our figures and every rule's at `LOAD`; ``full``: all loads."""
    began = time.monotonic()
    table = compare(LOADS if full else (LOAD,))
    ours = table[LOAD]["ds01"]
    found: Report = {
        "p95_wait_largest": ours["p95_wait_largest"],
        "jain": ours["jain"],
        "starved": ours["starved"],
        "estimate_kept": ours["estimate_kept"],
        "load": LOAD,
        "seeds": len(SEEDS),
        "arrivals": ARRIVALS,
        "unit": "mean session lengths",
        "starved_after": STARVED,
        "rules": table[LOAD],
        "least_longest": {f"{load:.2f}": round(least(load), 1) for load in table},
    }
    if full:
        found["loads"] = {f"{load:.2f}": rules for load, rules in table.items()}
        found["starved_anywhere"] = sum(rules["ds01"]["starved"] for rules in table.values())
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def meets_goals(found: Report) -> bool:
    """Whether a report reaches `GOALS`."""
    return bool(
        found["p95_wait_largest"] <= GOALS["p95_wait_largest"]
        and found["jain"] >= GOALS["jain"]
        and found["starved"] == 0 == found.get("starved_anywhere", 0)
        and (found["estimate_kept"] or 0) >= GOALS["estimate_kept"]
    )


def print_report(found: Report) -> None:
    """The report as tables."""
    from .common import console, table

    console.print(
        f"{found['seeds']} seeds of {found['arrivals']} arrivals; "
        f"waits in {found['unit']} ({found['seconds']} s)"
    )
    columns = ("rule", "p95 largest", "p95 smallest", "mean", "longest", "Jain", "starved", "estimates kept")
    for load, rules in (found.get("loads") or {f"{found['load']:.2f}": found["rules"]}).items():
        rows = [(name, *_cells(line)) for name, line in rules.items()]
        floor = found["least_longest"][load]
        table(columns, rows, f"load {load} (longest wait with the fitting devices to oneself: {floor})")
    console.print("goals reached" if meets_goals(found) else "goals missed")


def _cells(line: Summary) -> list[str]:
    kept = line["estimate_kept"]
    waits = [f"{w:.2f}" for w in (line["p95_wait_largest"], line["p95_wait_smallest"], line["mean_wait"])]
    starved = "does not keep up" if line["overloaded"] else str(line["starved"])
    shown = "" if kept is None else f"{kept:.1%}"
    return [*waits, f"{line['max_wait']:.1f}", f"{line['jain']:.3f}", starved, shown]


_COLOURS = ("#0b6e4f", "#b3541e", "#3b5bdb", "#7b2d8b")
_DASHES = ("", "8 4", "2 3", "8 3 2 3")
_TOP = 30.0
"""Waits above this many mean session lengths are drawn at the edge."""


def chart(found: Report) -> str:
    """The 95th percentile of the largest class's wait against load, as a stand-alone SVG."""
    loads = found.get("loads") or {f"{found['load']:.2f}": found["rules"]}
    xs = [float(load) for load in loads]
    width, height, left, bottom = 720, 400, 70, 60
    span = (max(xs) - min(xs)) or 1.0

    def at(load: float, wait: float) -> tuple[float, float]:
        x = left + (load - min(xs)) / span * (width - left - 170)
        return x, height - bottom - min(wait, _TOP) / _TOP * (height - bottom - 30)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'font-family="sans-serif" font-size="13">',
        "<title>Wait of the largest class against load, by rule</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for wait in range(0, int(_TOP) + 1, 5):
        x, y = at(min(xs), wait)
        parts.append(f'<path d="M{x} {y:.1f}H{width - 170}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8}" y="{y + 4:.1f}" text-anchor="end">{wait}</text>')
    for load in xs:
        x, y = at(load, 0)
        parts.append(f'<text x="{x:.1f}" y="{y + 20:.1f}" text-anchor="middle">{load:.2f}</text>')
    for number, rule in enumerate(next(iter(loads.values()))):
        parts += _line(rule, number, [(x, loads[f"{x:.2f}"][rule]) for x in xs], at, width)
    parts.append(f'<text x="{(left + width - 170) / 2}" y="{height - 12}" text-anchor="middle">load</text>')
    parts.append(
        f'<text transform="translate(18 {height / 2}) rotate(-90)" text-anchor="middle">'
        "p95 wait of the largest class (mean session lengths)</text></svg>"
    )
    return "\n".join(parts) + "\n"


def _line(
    rule: str,
    number: int,
    points: Sequence[tuple[float, Summary]],
    at: Callable[[float, float], tuple[float, float]],
    width: int,
) -> list[str]:
    """One rule's line with its name; a rule that does not keep up leaves by the top."""
    colour, dash = _COLOURS[number % 4], _DASHES[number % 4]
    places = [at(x, _TOP if r["overloaded"] else r["p95_wait_largest"]) for x, r in points]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    y = 40 + 22 * number
    return [
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>',
        *(f'<circle cx="{x:.1f}" cy="{y_:.1f}" r="3.5" fill="{colour}"/>' for x, y_ in places),
        f'<path d="M{width - 155} {y}h30" stroke="{colour}" stroke-width="2.5" stroke-dasharray="{dash}"/>',
        f'<text x="{width - 118}" y="{y + 4}">{rule}</text>',
    ]

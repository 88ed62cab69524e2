"""Draw the refusals of each placement strategy over load as an SVG, from the product's own simulator.

python scripts/placement_chart.py docs/admins/placement.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

from ds01spawner.cli.simulate import compare
from ds01spawner.placement.load_simulator import reference_layout

LOADS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
ARRIVALS, SEEDS = 10_000, 3
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 640, 360, 56, 24, 150, 48
COLOURS = {"best-fit": "#0b6e4f", "first-fit": "#b35900", "spread": "#a4243b", "offline bound": "#666666"}
TOP_SHARE = 0.3


def curves() -> dict[str, list[float]]:
    """Refused share per strategy and load, and the bound no strategy can stay under."""
    found: dict[str, list[float]] = {}
    for load in LOADS:
        numbers = compare(reference_layout(), load, SEEDS, ARRIVALS)
        for name, rule in numbers["rules"].items():
            found.setdefault(name, []).append(rule["refused"])
        found.setdefault("offline bound", []).append(numbers["offline_bound"]["refused"])
    return found


def x(load: float) -> float:
    """Where a load is on the picture."""
    return LEFT + (load - LOADS[0]) / (LOADS[-1] - LOADS[0]) * (WIDTH - LEFT - RIGHT)


def y(share: float) -> float:
    """Where a share of refusals is on the picture."""
    return HEIGHT - BOTTOM - share / TOP_SHARE * (HEIGHT - TOP - BOTTOM)


def axes() -> list[str]:
    """Grid, numbers and titles."""
    parts = []
    for percent in range(0, 31, 5):
        at = y(percent / 100)
        parts.append(f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#dddddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{percent} %</text>')
    for load in LOADS:
        parts.append(
            f'<text x="{x(load):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{load:.2f}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">sessions wanted at a time / devices</text>'
    )
    return parts


def curve(name: str, shares: list[float]) -> list[str]:
    """One line with its points and its name at the end."""
    colour = COLOURS[name]
    dashed = ' stroke-dasharray="6 4"' if name == "offline bound" else ""
    points = " ".join(f"{x(load):.1f},{y(share):.1f}" for load, share in zip(LOADS, shares, strict=True))
    parts = [f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dashed}/>']
    parts += [
        f'<circle cx="{x(load):.1f}" cy="{y(share):.1f}" r="3" fill="{colour}"><title>{name}, load {load}: '
        f"{share:.1%} refused</title></circle>"
        for load, share in zip(LOADS, shares, strict=True)
    ]
    at = f'x="{WIDTH - RIGHT + 8}" y="{y(shares[-1]) + 4:.1f}"'
    parts.append(f'<text {at} fill="{colour}" font-weight="bold">{name}</text>')
    return parts


def chart() -> str:
    """The whole picture."""
    body = axes() + [part for name, shares in curves().items() for part in curve(name, shares)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            'font-family="system-ui, sans-serif" font-size="12">',
            "<title>Share of sessions refused by each placement strategy, over load</title>",
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            *body,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(chart(), encoding="utf-8")

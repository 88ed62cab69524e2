"""``python -m tests.faults.report RESULT.json …``: write the figures of campaigns into the documentation."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "develop" / "faults.md"
BEGIN, END = "<!-- figures: written by python -m tests.faults.report -->", "<!-- end of the figures -->"


def main() -> int:
    """Replace what is between the two marks."""
    results = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}")
    return 0


def table(results: Sequence[dict[str, Any]]) -> str:
    """One column a campaign, then the faults by kind, then what was violated."""
    rows = [
        ("", [f"seed {r['seed']}" for r in results]),
        ("---", ["---:"] * len(results)),
        *((name, [show(r) for r in results]) for name, show in FIGURES),
    ]
    kinds = sorted({k for r in results for k in r["faults"]})
    lines = [_line(name, cells) for name, cells in rows]
    lines += ["", _line("fault", [f"seed {r['seed']}" for r in results])]
    lines += [_line("---", ["---:"] * len(results))]
    lines += [_line(kind, [str(r["faults"].get(kind, 0)) for r in results]) for kind in kinds]
    return "\n".join([*lines, *_violations(results)])


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {' | '.join([name, *cells])} |"


def _violations(results: Sequence[dict[str, Any]]) -> list[str]:
    rules = [Counter(v["rule"] for v in r["violations"]) for r in results]
    names = sorted({name for counted in rules for name in counted})
    if not names:
        return []
    lines = ["", _line("violated", [f"seed {r['seed']}" for r in results])]
    lines += [_line("---", ["---:"] * len(results))]
    return [*lines, *(_line(n, [str(c[n]) for c in rules]) for n in names)]


def _accounting(result: dict[str, Any]) -> str:
    true, said = result["device_seconds"]
    return f"{abs(said - true) / true:.2%}" if true else "none"


FIGURES = (
    ("minutes", lambda r: f"{r['minutes']:g}"),
    ("faults", lambda r: str(sum(r["faults"].values()))),
    ("sessions", lambda r: str(r["sessions"])),
    ("looks at the engine", lambda r: str(r["looks"])),
    ("pages and answers compared", lambda r: str(r["pages"])),
    ("ends compared", lambda r: str(r["ends"])),
    ("worst end in history, seconds off", lambda r: f"{r['worst_end']:g}"),
    ("device time in history, off by", _accounting),
    ("hub back after the last fault: median, seconds", lambda r: f"{median(r['back']):.1f}"),
    ("hub back after the last fault: worst, seconds", lambda r: f"{max(r['back']):.1f}"),
    ("service back after the hub: worst, seconds", lambda r: f"{max(r['service_back']):.1f}"),
    ("violations", lambda r: str(len(r["violations"]))),
)

if __name__ == "__main__":
    sys.exit(main())

"""Which changes of the decisions no test notices: run mutmut, print and keep the scores.

``--report`` only reads the last run; ``--show MODULE`` prints what survived there, as a difference.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import subprocess
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = ROOT / "mutants"
PAGE = ROOT / "docs" / "develop" / "mutants.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
SURVIVED, NO_TEST = 0, (5, 33)


def main() -> None:
    """Run, report, and exit 1 where the score is below the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", action="store_true", help="do not run, only read the last run")
    parser.add_argument("--show", metavar="MODULE", help="print what survived in modules of this name")
    parser.add_argument("--goal", type=float, default=95.0, help="per cent of mutants to be noticed")
    given = parser.parse_args()
    if given.show:
        for path in sorted(MUTANTS.rglob("*.py.meta")):
            if given.show in str(path):
                show(path)
        return
    if not given.report:
        subprocess.run([sys.executable, "-m", "mutmut", "run"], cwd=ROOT, check=True)
    rows = {str(path.relative_to(MUTANTS))[:-5]: count(path) for path in sorted(MUTANTS.rglob("*.py.meta"))}
    text, score = table({name: row for name, row in rows.items() if row.total()})
    print(text)
    page = PAGE.read_text()
    head, tail = page.split(BEGIN)[0], page.split(END)[1]
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}")
    raise SystemExit(score < given.goal)


def count(meta: Path) -> Counter[str]:
    """How many mutants of one module were noticed, survived, or were run by no test."""
    ends = json.loads(meta.read_text())["exit_code_by_key"].values()
    return Counter(
        "survived" if end == SURVIVED else "no test" if end in NO_TEST else "noticed"
        for end in ends
        if end is not None
    )


def table(rows: dict[str, Counter[str]]) -> tuple[str, float]:
    """The figures as a table, with the score of all modules together."""
    lines = ["| module | mutants | noticed | survived | no test |", "|---|---|---|---|---|"]
    total: Counter[str] = Counter()
    for name, row in rows.items():
        total += row
        lines.append(_line(f"`{name.removeprefix('ds01spawner/')}`", row))
    lines.append(_line("all", total))
    score = 100 * total["noticed"] / max(1, total.total())
    told = f"Run on {datetime.now(timezone.utc):%Y-%m-%d}: {score:.1f} % noticed."
    return "\n".join([told, "", *lines]), score


def _line(name: str, row: Counter[str]) -> str:
    share = 100 * row["noticed"] / max(1, row.total())
    return f"| {name} | {row.total()} | {share:.1f} % | {row['survived']} | {row['no test']} |"


def show(meta: Path) -> None:
    """Print each survivor of a module as the lines it changes."""
    source = meta.with_suffix("").read_text()
    lines = source.split("\n")
    found = {
        node.name: lines[node.lineno - 1 : node.end_lineno]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    for key, end in json.loads(meta.read_text())["exit_code_by_key"].items():
        name = key.rsplit(".", 1)[1]
        before, after = found.get(name.rsplit("__mutmut_", 1)[0] + "__mutmut_orig"), found.get(name)
        if end not in (SURVIVED, *NO_TEST) or before is None or after is None:
            continue
        print(key, "(no test)" if end in NO_TEST else "")
        for line in difflib.unified_diff(before, after, lineterm="", n=0):
            if line[:2] not in ("--", "++", "@@") and "__mutmut_" not in line:
                print("  ", line)


if __name__ == "__main__":
    main()

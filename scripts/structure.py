#!/usr/bin/env python3
"""Measure the structure of the package and hold each figure to its bound: `make structure`.

A *room* is a module or package directly under ``ds01spawner``; an *arrow* is a room that imports another;
*floors* are the longest chain of arrows; an arrow that must be left out to stack the rooms runs *upward*; a
*circle* is a ring of modules that import each other. The bounds stand in ``structure.json`` and fall with
``--tighten`` after a figure got better; a change that has to raise one edits that file and says why.
Everything but the import time is read from the source as text.
"""

from __future__ import annotations

import ast
import json
import random
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ds01spawner"
BOUNDS = Path(__file__).with_suffix(".json")
Edges = dict[str, set[str]]

# title, and the figure we want; no target where the figure only must not grow
FIGURES: dict[str, tuple[str, int | None]] = {
    "rooms": ("rooms at the package's top", 22),
    "floors": ("floors", 11),
    "arrows": ("arrows between rooms", 130),
    "circles": ("circles of modules", 0),
    "upward": ("arrows that run upward", 2),
    "loose": ("loose modules at the top", 2),
    "docker": ("files outside engines/docker that import the Docker SDK", 0),
    "assemblies": ('assemblies of "may this start?"', 1),
    "refusals": ("`Refusal(` outside messages", 0),
    "twice": ("module names that occur twice", 8),
    "lines": ("product lines", 35_000),
    "any": ("`dict[str, Any]` and `Mapping[str, Any]`", 119),
    "files": ("files of more than 400 lines", 0),
    "functions": ("functions of more than 50 lines", 0),
    "words": ("words in the code that the style replaces", 0),
    "imported": ("modules that the ds01 command loads with all its areas", None),
}
IMPORT_TARGET_S = 0.5
"""Shown beside the measured time. A busy machine would fail it, so `imported` is judged in its place."""
WORDS = "nobody|somebody|desk|eyes|anew|afresh|whoever|nine of ten|mended"
STARTS = 12
"""Orders of the rooms from which the least is searched: one alone may end beside it."""
STEPS = {"lines": 500, "imported": 25}
"""Bounds in round numbers, where every ordinary change moves the figure a little."""


class Module:
    """One file of the package: its dotted name below the package, its text and its tree."""

    def __init__(self, path: Path) -> None:
        self.path = path.relative_to(PACKAGE)
        parts = self.path.with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.room = parts[0] if len(parts) > 1 or not self.is_package else ""
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.lines = self.text.count("\n")

    def base(self, level: int) -> str:
        """What ``level`` dots mean in this module."""
        parts = self.name.split(".") if self.name else []
        keep = len(parts) - level + (1 if self.is_package else 0)
        return ".".join(parts[:keep])

    def imports(self) -> Iterator[tuple[str, str]]:
        """(where from, name) of each import; ours without the package's name, others in full after ``!``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top, _, rest = alias.name.partition(".")
                    yield (rest if top == PACKAGE.name else f"!{alias.name}"), ""
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                if node.level:
                    base = self.base(node.level)
                    module = ".".join(filter(None, (base, module)))
                elif module.split(".")[0] == PACKAGE.name:
                    module = module.partition(".")[2]
                else:
                    module = f"!{module}"
                yield from ((module, alias.name) for alias in node.names)


def edges(modules: Iterable[Module]) -> Edges:
    """Which module imports which; a name that is itself a module counts as that module."""
    known = {m.name: m for m in modules}
    found: Edges = {name: set() for name in known}
    for module in known.values():
        for where, name in module.imports():
            target = f"{where}.{name}".strip(".") if f"{where}.{name}".strip(".") in known else where
            if not target.startswith("!") and target in known and target != module.name:
                found[module.name].add(target)
    return found


def rooms_of(modules: list[Module], between: Edges) -> Edges:
    """The same between rooms; the package's own ``__init__`` is no room."""
    room = {m.name: m.room for m in modules}
    found: Edges = {name: set() for name in room.values() if name}
    for source, targets in between.items():
        for target in targets:
            if room[source] and room[target] and room[source] != room[target]:
                found[room[source]].add(room[target])
    return found


def rings(graph: Edges) -> list[list[str]]:
    """The strongly connected components of more than one member (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
            if target in stack:
                low[node] = min(low[node], low[target])
        if low[node] == index[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def upward(graph: Edges) -> list[tuple[str, str]]:
    """The fewest arrows found without which the rooms stack: a room moves while that leaves fewer."""
    rooms = sorted(graph)

    def against(sequence: list[str]) -> list[tuple[str, str]]:
        place = {room: i for i, room in enumerate(sequence)}
        return [(a, b) for a in sequence for b in sorted(graph[a]) if place[b] < place[a]]

    def settled(order: list[str]) -> list[tuple[str, str]]:
        best, gained = against(order), True
        while gained:
            gained = False
            for room in rooms:
                rest = [r for r in order if r != room]
                for i in range(len(rooms)):
                    found = against(tried := [*rest[:i], room, *rest[i:]])
                    if len(found) < len(best):
                        best, order, gained = found, tried, True
        return best

    shuffled = random.Random(1)
    return min((settled(shuffled.sample(rooms, len(rooms))) for _ in range(STARTS)), key=len)


def floors(graph: Edges, without: list[tuple[str, str]]) -> int:
    """The rooms on the longest way down."""
    height: dict[str, int] = {}

    def of(room: str) -> int:
        if room not in height:
            below = [of(t) for t in graph[room] if (room, t) not in without]
            height[room] = 1 + max(below, default=0)
        return height[room]

    return max(of(room) for room in graph)


def load_of_command() -> tuple[int, float]:
    """Modules loaded and processor seconds used by ``ds01 --help``, which loads all areas; least of three."""
    program = "import sys, ds01spawner.cli as cli; cli.build_app(); print(len(sys.modules))"

    def run() -> tuple[int, float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return int(done.stdout), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    runs = [run() for _ in range(3)]
    return runs[0][0], min(seconds for _, seconds in runs)


def long_functions(modules: Iterable[Module]) -> list[str]:
    """Where a function of more than 50 lines begins."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        f"{m.path}:{node.lineno} {node.name}"
        for m in modules
        for node in ast.walk(m.tree)
        if isinstance(node, kinds) and (node.end_lineno or node.lineno) - node.lineno + 1 > 50
    ]


def imports_docker(module: Module) -> bool:
    """Whether the module takes anything of the Docker SDK."""
    return any(re.match(r"!docker(\.|$)", where) for where, _ in module.imports())


def spoken(pattern: str, modules: Iterable[Module]) -> list[str]:
    """Where the pattern stands, comments and docstrings included."""
    return [f"{m.path}" for m in modules for _ in re.findall(pattern, m.text)]


def details() -> dict[str, list[str]]:
    """What each figure counts, by name; its length is the figure."""
    modules = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
    between = edges(modules)
    graph = rooms_of(modules, between)
    back = upward(graph)
    names = Counter(m.path.stem for m in modules if m.path.stem not in ("__init__", "__main__"))
    outside = [m for m in modules if not m.name.startswith("engines.docker")]
    return {
        "rooms": sorted(graph),
        "floors": [""] * floors(graph, back),
        "arrows": [f"{a} -> {b}" for a in sorted(graph) for b in sorted(graph[a])],
        "circles": [", ".join(ring) for ring in rings(between)],
        "upward": [f"{a} -> {b}" for a, b in back],
        "loose": sorted(m.name for m in modules if m.path.parent == Path() and not m.is_package),
        "docker": [str(m.path) for m in outside if imports_docker(m)],
        "assemblies": [str(m.path) for m in modules if ("policy.plan", "plan") in m.imports()],
        "refusals": spoken(r"\bRefusal\(", [m for m in modules if m.room != "messages"]),
        "twice": [
            f"{name}: {', '.join(str(m.path) for m in modules if m.path.stem == name)}"
            for name, n in sorted(names.items())
            if n > 1
        ],
        "lines": [""] * sum(m.lines for m in modules),
        "any": spoken(r"\b(?:dict|Mapping|MutableMapping)\[str, Any\]", modules),
        "files": [f"{m.path} {m.lines}" for m in modules if m.lines > 400],
        "words": spoken(rf"(?i)\b(?:{WORDS})\b", modules),
        "functions": long_functions(m for m in modules if "migrations" not in m.path.parts),
    }


def show(figures: dict[str, int], bounds: dict[str, int], seconds: float) -> list[str]:
    """Print the table; the names of what got worse."""
    worse = [name for name, value in figures.items() if value > bounds.get(name, value)]
    print(f"{'':58} {'now':>7} {'bound':>7} {'target':>7}")
    for name, value in figures.items():
        title, target = FIGURES[name]
        mark = "worse" if name in worse else "" if target is None or value > target else "reached"
        wanted = "" if target is None else target
        print(f"{title:58} {value:>7} {bounds.get(name, value):>7} {wanted:>7}  {mark}".rstrip())
    print(
        f"{'import of the ds01 command, processor seconds':58} {seconds:>7.2f} {'':>7} {IMPORT_TARGET_S:>7g}"
    )
    return worse


def tightened(figures: dict[str, int], bounds: dict[str, int]) -> dict[str, int]:
    """The bounds, lowered to the figures, but never below a target: up to it there is room to build."""
    found = {}
    for name, value in figures.items():
        step = STEPS.get(name, 1)
        found[name] = min(bounds.get(name, sys.maxsize), max(-(-value // step) * step, FIGURES[name][1] or 0))
    return found


def main(args: list[str]) -> int:
    """``structure.py [--tighten] [--show FIGURE]``; 1 where a figure is worse than its bound."""
    counted = details()
    if "--show" in args:
        print("\n".join(counted[args[args.index("--show") + 1]]))
        return 0
    bounds: dict[str, int] = json.loads(BOUNDS.read_text(encoding="utf-8")) if BOUNDS.exists() else {}
    imported, seconds = load_of_command()
    figures = {name: len(found) for name, found in counted.items()} | {"imported": imported}
    worse = show(figures, bounds, seconds)
    if "--tighten" in args:
        BOUNDS.write_text(json.dumps(tightened(figures, bounds), indent=1) + "\n", encoding="utf-8")
    for name in worse:
        print(f"{FIGURES[name][0]}: too many; see scripts/structure.py --show {name}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

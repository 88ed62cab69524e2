"""What every ``ds01`` command shares: output, exit codes and settings."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from ..core import freetext
from ..core.errors import DS01Error, Refused

OK, REFUSED, USAGE = 0, 1, 2
MAX_REASON = 300
"""Characters of a reason; pages take as many."""
WIDE = 10_000
"""Columns of text where no terminal limits them."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


def printable(text: str) -> str:
    """Text from people for a terminal: control characters become visible and lose their effect."""
    return "".join(c if c in "\n\t" or ord(c) not in _CONTROLS else f"\\x{ord(c):02x}" for c in text)


_CONTROLS = frozenset({*range(0x20), *range(0x7F, 0xA0)})


class Terminal(Console):
    """A console that nobody's project name or reason can move the cursor of."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich does it; plain strings are made harmless first."""
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


console = Terminal(highlight=False, soft_wrap=True)
problems = Terminal(stderr=True, highlight=False, soft_wrap=True)


def emit(data: Any, as_json: bool, text: Callable[[Any], None] | None = None) -> None:
    """Print ``data`` as JSON, or by ``text`` for people."""
    if as_json or text is None:
        print(json.dumps(data, indent=2, default=str, ensure_ascii=False))
    else:
        text(data)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; a cell that is None reads ``n/a``. Cells are plain text, never markup."""
    from rich.text import Text

    grid = Table(title=title or None, box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(Text("n/a" if cell is None else printable(str(cell))) for cell in row))
    # In a pipe or a file nothing is folded: one line a row, for grep and awk.
    target = console if console.is_terminal else Console(width=WIDE, highlight=False)
    target.print(grid, crop=False)


def refuse(message: str, as_json: bool = False, **details: Any) -> NoReturn:
    """Say why the command does nothing, and exit 1."""
    if as_json:
        print(json.dumps({"ok": False, "message": message, **details}, indent=2, default=str))
    else:
        problems.print(message, style="red", markup=False)
    raise typer.Exit(REFUSED)


def reason_of(text: str, missing: str, as_json: bool = False) -> str:
    """The reason that people will read, by the same rule as the pages' own; refuses otherwise."""
    said = text.strip()
    if not said and missing:
        refuse(missing, as_json)
    if why := freetext.problem(said):
        refuse(f"The reason is one line of printable text; {why}.", as_json)
    return said[:MAX_REASON]


def run(app: typer.Typer) -> None:
    """Run the command; refusals and our own errors become one line and exit 1, not a traceback."""
    try:
        app()
    except Refused as refused:
        problems.print(refused.refusal.sentence, style="red", markup=False)
        sys.exit(REFUSED)
    except DS01Error as error:
        problems.print(str(error), style="red", markup=False)
        sys.exit(REFUSED)

"""The page of all refusals, made from the code. Reads the package's own source, nothing else.

The sentences of this package come with an example each. Refusals that other modules word themselves
are shown as their source says them, with ‹names› where values go.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import Refusal
from .base import EXAMPLES

PACKAGE = Path(__file__).parents[1]
_INTRO = """\
# Refusals

Everything the product refuses to do, with an example of each. A refusal says what was asked, what you
use, the limit and who set it, when it changes, and what to do. The page, the REST API (as JSON, with the
same parts as fields) and the `ds01` command show the same words.

This page is made from the code by `python -m ds01spawner.messages docs/admins/refusals.md`.
"""
_ELSEWHERE = """\
# Worded where they arise

‹Names› stand for values.
"""


def refusals_page() -> str:
    """The page as Markdown."""
    parts = [_INTRO]
    for name, make in EXAMPLES.items():
        function = getattr(sys.modules["ds01spawner.messages"], name)
        parts.append(_entry(make(), (function.__doc__ or "").strip().splitlines()[0]))
    parts.append(_ELSEWHERE)
    parts += sorted({_entry(refusal, "") for refusal in worded_elsewhere()})
    return "\n".join(parts)


def worded_elsewhere() -> Iterator[Refusal]:
    """Every refusal a module outside this package words itself, with ‹names› for values."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.parent == Path(__file__).parent or "singleuser" in file.parts:
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                yield _template(node)


def _template(call: ast.Call) -> Refusal:
    values = {k.arg: k.value for k in call.keywords if k.arg}
    texts = {
        part: _text(values[part])
        for part in ("code", "asked", "used", "limit", "rule", "when", "do")
        if part in values
    }
    status, retry = values.get("status"), values.get("retry_after")
    return Refusal(
        **{"code": "", "asked": "", "limit": "", "do": "", **texts},
        status=status.value if isinstance(status, ast.Constant) and isinstance(status.value, int) else 403,
        retry_after=retry.value if isinstance(retry, ast.Constant) and isinstance(retry.value, int) else None,
    )


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(v.value if isinstance(v, ast.FormattedValue) else v) for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return _text(node.body) or _text(node.orelse)
    if isinstance(node, ast.BoolOp):
        return _text(node.values[0])
    if isinstance(node, (ast.Subscript, ast.Call)):
        inner = node.value if isinstance(node, ast.Subscript) else next(iter(node.args), node.func)
        return _text(inner)
    if isinstance(node, ast.Attribute):
        return f"‹{node.attr}›"
    return f"‹{node.id}›" if isinstance(node, ast.Name) else "…"


def _entry(refusal: Refusal, meaning: str) -> str:
    status = f"HTTP {refusal.status}"
    if refusal.retry_after:
        status += f", `Retry-After: {refusal.retry_after}`"
    head = f"{meaning} ({status})" if meaning else status
    return f"## `{refusal.code}`\n\n{head}\n\n> {refusal.sentence}\n"

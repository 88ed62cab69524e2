"""Rows that a test of another folder proves: that test has to be there, and has to run."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def run(row: Any, stage: Any) -> dict[str, Any]:
    """``does: {proof: path::name}``, several with a list."""
    proofs = row.does["proof"]
    missing = [p for p in ([proofs] if isinstance(proofs, str) else proofs) if not _there(p)]
    return {"proven": not missing, "text": ", ".join(missing)}


def _there(proof: str) -> bool:
    """Whether there is such a test that pytest collects and that is neither skipped nor let fail."""
    path, *names = proof.split("::")
    file = ROOT / path
    if not names or not file.name.startswith("test_") or not file.is_file():
        return False
    body: Sequence[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
    for name in names[:-1]:
        classes = [n for n in body if isinstance(n, ast.ClassDef) and n.name == name]
        body = classes[0].body if classes else []
    tests = [n for n in body if isinstance(n, FUNCTIONS) and n.name == names[-1]]
    return bool(tests) and names[-1].startswith("test_") and not any(map(_let_off, tests[-1].decorator_list))


def _let_off(decorator: ast.expr) -> bool:
    return any(word in ast.unparse(decorator) for word in ("skip", "xfail"))

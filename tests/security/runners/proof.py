"""Rows that a test of another folder proves: that test has to be there."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def run(row: Any, stage: Any) -> dict[str, Any]:
    """``does: {proof: path::name}``, several with a list."""
    proofs = row.does["proof"]
    return {"proven": all(_there(p) for p in ([proofs] if isinstance(proofs, str) else proofs))}


def _there(proof: str) -> bool:
    path, *names = proof.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    known = {node.name for node in ast.walk(tree) if isinstance(node, kinds)}
    return bool(names) and all(name in known for name in names)

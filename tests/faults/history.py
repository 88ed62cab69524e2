"""The product's own record of sessions, read from its store's file past the product."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One session as history tells it. Times are seconds since the epoch."""

    session: str
    user: str
    server: str
    began: float
    ended: float | None
    kind: str
    reason: str
    equivalents: float


def rows(store: Path) -> dict[str, Row]:
    """Every session that the store knows; nothing where it cannot be read."""
    question = "SELECT session, user, server, started_at, ended_at, kind, reason, equivalents FROM sessions"
    try:
        with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)) as connection:
            found = connection.execute(question).fetchall()
    except sqlite3.Error:
        return {}
    return {
        r[0]: Row(r[0], r[1], r[2], _time(r[3]) or 0.0, _time(r[4]), r[5] or "", r[6] or "", r[7] or 0.0)
        for r in found
    }


def _time(text: str | None) -> float | None:
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).timestamp()

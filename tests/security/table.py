"""The rows of the security table, as they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROLES = (
    "anonymous",
    "student",
    "other student",
    "instructor in scope",
    "instructor out of scope",
    "admin",
    "a session's own token",
    "code in a session",
    "build step",
    "another hub",
    "host account",
)
PEOPLE = {
    "anonymous": "",
    "student": "alice",
    "other student": "bob",
    "instructor in scope": "prof",
    "instructor out of scope": "rival",
    "admin": "root",
    "a session's own token": "token-of-a-server",
}
"""Who asks, by role; a token that may not use the service is as good as none."""
SURFACES = (
    "pages",
    "rest",
    "options",
    "form",
    "dockerfile",
    "recipe",
    "course file",
    "projects",
    "image metadata",
    "container labels",
    "network",
    "engine",
    "workspace",
    "command line",
    "limits",
    "texts",
    "origin",
)


@dataclass(frozen=True)
class Surface:
    """One file of rows."""

    name: str
    title: str
    runner: str
    protects: str
    by: str
    rests_on: str


@dataclass(frozen=True)
class Row:
    """One attempt. ``does`` is what its surface's runner understands, ``expect`` what has to come of it."""

    id: str
    surface: Surface
    role: str
    tries: str
    does: Mapping[str, Any]
    expect: Mapping[str, Any]
    needs: str
    own_runner: str = ""
    so: str = ""
    """What comes of it, in words, where `expect` does not say."""

    @property
    def runner(self) -> str:
        """The module of ``runners`` that tries it."""
        return "proof" if "proof" in self.does else self.own_runner or self.surface.runner


def surfaces() -> Iterator[tuple[Surface, list[Row]]]:
    """Every file, with its rows, in the order of `SURFACES`."""
    found = []
    for path in sorted((HERE / "rows").glob("*.yaml")):
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        surface = Surface(
            data["surface"],
            data["title"],
            data.get("runner", "proof"),
            data["protects"],
            data["by"],
            data.get("rests_on", ""),
        )
        rows = [
            Row(
                r["id"],
                surface,
                r["role"],
                r["tries"],
                r["does"],
                r["expect"],
                r.get("needs", data.get("needs", "")),
                r.get("runner", ""),
                r.get("so", ""),
            )
            for r in data["rows"]
        ]
        found.append((surface, rows))
    yield from sorted(found, key=lambda f: SURFACES.index(f[0].name))


def rows() -> list[Row]:
    """All of them."""
    return [row for _, group in surfaces() for row in group]

"""Who somebody is to the hub."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """Who asks: the hub's name, the hub's groups, and whether the hub calls them an admin."""

    name: str
    groups: frozenset[str] = frozenset()
    admin: bool = False

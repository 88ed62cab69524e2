"""What runs sessions: the seam (`base`), and an adapter for each engine behind it."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ..core.errors import DS01Error

if TYPE_CHECKING:
    from ..core.settings import Settings
    from .base import Engine

GROUP = "ds01.engines"
OWN = {
    "docker": "ds01spawner.engines.docker.engine:Docker",
    "fake": "ds01spawner.engines.fake:FakeEngine",
}
"""Ours are not looked up among all installed packages, which takes every command some 50 ms."""


def engine_for(settings: Settings) -> Engine:
    """The engine that the settings name, by the entry-point group ``ds01.engines``; asks it nothing."""
    wanted = settings.engine
    if wanted in OWN:
        module, _, name = OWN[wanted].partition(":")
        made: Engine = getattr(import_module(module), name)(settings)
        return made
    found = {e.name: e for e in entry_points(group=GROUP)}
    if wanted not in found:
        raise DS01Error(f"there is no engine {wanted!r}; there are {', '.join(sorted({*OWN, *found}))}")
    other: Engine = found[wanted].load()(settings)
    return other

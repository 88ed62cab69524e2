"""Which CDI devices the engine knows: from its own list, else from the specification files it reads."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from .answers import InfoJson

MAX_BYTES = 4 << 20
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def cdi_names(info: InfoJson) -> frozenset[str]:
    """Qualified names such as ``nvidia.com/gpu=GPU-…`` that this engine can attach; empty without CDI.

    ``info`` is the engine's ``GET /info``. Engines from API 1.50 on list the devices; older ones with CDI
    switched on name the folders, which are read here when this process can see them.
    """
    listed = info.get("DiscoveredDevices")
    if listed is not None:
        return frozenset(str(d.get("ID") or "") for d in listed if d.get("Source") == "cdi")
    return names_in(Path(d) for d in info.get("CDISpecDirs") or ())


def names_in(folders: Iterable[Path]) -> frozenset[str]:
    """The devices of all readable specifications in ``folders``. A broken file gives none."""
    names: set[str] = set()
    for folder in folders:
        try:
            files = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml", ".json"))
        except OSError:
            continue
        for path in files:
            names |= _names(path)
    return frozenset(names)


def _names(path: Path) -> frozenset[str]:
    try:
        found = path.stat()
    except OSError:
        return frozenset()
    if found.st_size > MAX_BYTES:
        return frozenset()
    return _parsed(path, found.st_mtime_ns, found.st_size, found.st_ino)


@lru_cache(maxsize=64)
def _parsed(path: Path, mtime: int, size: int, inode: int) -> frozenset[str]:
    """The names in one state of a file: a specification of a full machine takes a while to parse."""
    try:
        text = path.read_text(encoding="utf-8")
        spec = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_Loader)  # noqa: S506  a safe one
        return frozenset(f"{spec['kind']}={device['name']}" for device in spec["devices"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        return frozenset()

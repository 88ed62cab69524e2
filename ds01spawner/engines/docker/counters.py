"""A container's use of the machine, from the engine's statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..base import Counters


def counters_of(stats: Mapping[str, Any]) -> Counters:
    """An engine's statistics document (cgroup v1 or v2) as counters; what it lacks stays unknown."""
    usage = (stats.get("cpu_stats") or {}).get("cpu_usage") or {}
    total = usage.get("total_usage")
    memory = stats.get("memory_stats") or {}
    used, detail = memory.get("usage"), memory.get("stats") or {}
    if used is not None:
        # The page cache of files not in use is not what a session needs.
        used = max(0, used - (detail.get("total_inactive_file") or detail.get("inactive_file") or 0))
    return Counters(
        total / 1e9 if isinstance(total, (int, float)) else None,
        float(used) if used is not None else None,
        float(memory["limit"]) if memory.get("limit") else None,
    )

"""What each key of DS01's ``resource-limits.yaml`` becomes here, and why some become nothing. Pure data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .units import format_duration, parse_size


@dataclass(frozen=True)
class Rule:
    """One key: where it goes, how its value is turned, and what to tell the reader."""

    to: str
    turn: Callable[[Any], Any] = lambda value: value
    note: str = ""
    """Empty means the value is taken as it is."""


def _scaled(value: Any, factor: float) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
        raise ValueError(f"expected a number above 0, not {value!r}")
    return format_duration(value * factor)


def _hours(value: Any) -> str:
    return _scaled(value, 3600)


def _minutes(value: Any) -> str:
    return _scaled(value, 60)


def _cpu_percent(value: Any) -> float:
    text = str(value).strip().removesuffix("%")
    try:
        return float(text) / 100
    except ValueError:
        raise ValueError(f'expected a CPU quota such as "9600%", not {value!r}') from None


def _percent(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"expected a percentage, not {value!r}")
    return f"{value:g}%"


def _size(value: Any) -> Any:
    parse_size(value)
    return value


_ALIAS = "an older name of {}"
_IDLE = "hours become a duration with its unit"

VALUES: dict[str, Rule] = {
    "max_gpu_equivalents": Rule("gpu.max_equivalents"),
    "max_gpu_slots": Rule("gpu.max_equivalents", note=_ALIAS.format("max_gpu_equivalents")),
    "max_gpus_per_user": Rule("gpu.max_equivalents", note=_ALIAS.format("max_gpu_equivalents")),
    "max_mig_instances": Rule("gpu.max_equivalents", note=_ALIAS.format("max_gpu_equivalents")),
    "max_gpu_slots_per_container": Rule("gpu.max_devices_per_session"),
    "max_gpus_per_container": Rule(
        "gpu.max_devices_per_session", note=_ALIAS.format("max_gpu_slots_per_container")
    ),
    "max_mig_per_container": Rule(
        "gpu.max_devices_per_session", note=_ALIAS.format("max_gpu_slots_per_container")
    ),
    "allow_full_gpu": Rule("gpu.full_gpu"),
    "max_cpus": Rule("session.cpus"),
    "memory": Rule("session.memory", _size),
    "shm_size": Rule("session.shm", _size),
    "pids_limit": Rule("session.pids"),
    "max_tasks": Rule("aggregate.pids", note="the tasks of all sessions of a person together"),
    "max_containers_per_user": Rule("session.max"),
    "max_runtime_h": Rule("session.lifetime", _hours, "hours become a duration with its unit"),
    "idle_timeout_h": Rule("idle.timeout", _hours, _IDLE),
    "aggregate.cpu_quota": Rule("aggregate.cpus", _cpu_percent, "100% is one CPU"),
    "aggregate.memory_max": Rule("aggregate.memory", _size, "renamed"),
    "aggregate.memory_high": Rule("aggregate.memory_high", _size),
    "aggregate.tasks_max": Rule("aggregate.pids", note="renamed"),
    "aggregate.gpu_limit": Rule("aggregate.gpu_equivalents", note="renamed"),
    "policies.gpu_idle_threshold": Rule("idle.thresholds.gpu", _percent, "written as a percentage"),
    "policies.cpu_idle_threshold": Rule("idle.thresholds.cpu", _percent, "percent of one CPU"),
    "policies.high_demand_threshold": Rule("idle.pressure.threshold", note="renamed"),
    "policies.high_demand_idle_reduction": Rule("idle.pressure.factor", note="renamed"),
    "policies.grace_period_m": Rule("idle.start_grace", _minutes, "minutes become a duration with its unit"),
    "policies.keepalive_max_duration_h": Rule(
        "idle.keep_alive.per_session",
        _hours,
        "DS01 never read it and used 24 hours; here it is the cap of one session, and of one day",
    ),
}
"""Keys that set a value, in ``defaults``, a group or a user; ``policies.*`` also at the top of the file."""

_NO_STOP = "a session is running or removed: nothing is held after a stop"
_NEVER = "DS01 declared it and never enforced it"
_JOBS = "belongs to the batch service, not to sessions"
NO_COUNTERPART: dict[str, str] = {
    "gpu_hold_after_stop_h": _NO_STOP,
    "container_hold_after_stop_h": _NO_STOP,
    "policies.gpu_hold_after_manual_stop_m": _NO_STOP,
    "policies.sigterm_grace_s": "how long a session may take to end is a setting of the spawner",
    "policies.created_container_timeout_m": "leftovers of a failed start are removed at once",
    "policies.idle_detection_window": "activity is measured all the time, not in a number of hourly looks",
    "policies.network_idle_threshold": "DS01 counted since the start; idle.thresholds.network is by second",
    "gpu_memory": f"{_NEVER}; a slice has its memory by its profile",
    "io_read_bps": _NEVER,
    "io_write_bps": _NEVER,
    "ulimit_nofile": f"{_NEVER}; to have it, set session.ulimits.nofile",
    "storage_workspace": f"{_NEVER}; to have it, set storage.quota",
    "storage_data": _NEVER,
    "storage_tmp": _NEVER,
    "strategy": f"{_NEVER}; placement is a setting of the spawner",
    "respect_reservations": f"{_NEVER}; reservations always count here",
    "checkpoint_warning": f"{_NEVER}; a warning always comes before a retire here",
    "auto_stop_idle": f"{_NEVER}; idle.timeout: null switches idle retires off",
    "max_concurrent_jobs": _JOBS,
    "max_daily_submissions": _JOBS,
    "max_result_size_mb": _JOBS,
    "priority": "DS01 never used it; to have it, set queue.priority",
    "gpu_priority": "DS01 never used it; to have it, set queue.priority",
}
"""Keys of a layer that become nothing, and why."""

TOP: dict[str, str] = {
    "container_types": "every session here is of one kind, with the limits of its group",
    "enforcement": "ceilings are enforced wherever they are set; the cgroup driver is asked of the engine",
    "monitoring": "containers that may see GPUs without holding them are the setting exempt of the spawner",
    "bare_metal_access": "programs outside containers are seen and counted as busy, and never granted",
    "access_control": "admins are the hub's admins; people have no Docker socket, so there is no wrapper",
}
"""Sections at the top of the file that become nothing, and why."""

EXEMPTIONS: dict[str, str] = {
    "idle_timeout": "idle.timeout",
    "idle": "idle.timeout",
    "max_runtime": "session.lifetime",
    "runtime": "session.lifetime",
}
"""What a lifecycle exemption lifts."""

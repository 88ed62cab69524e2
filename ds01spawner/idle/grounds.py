"""Each signal against its threshold: in use, idle, unknown, or no evidence either way. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from ..core.text import clock, percent, rate
from .model import Ground, IdleRules, Kernels, Reading, Signals, Work

T = TypeVar("T")
_SHOWN = 3
"""How many busy kernels or programs a sentence names."""
_LONGEST = 60
"""Characters of one name."""


def weigh(now: datetime, since: datetime, signals: Signals, rules: IdleRules) -> tuple[Ground, ...]:
    """Judge every signal. ``since`` is the last look: a time after it means use since then."""

    def used(at: datetime | None) -> bool:
        return at is not None and at > since

    return (
        _ground("kernels", signals.kernels, lambda k: _kernels(now, k, used(k.last_used)), "a running cell"),
        _ground("terminals", signals.work, lambda w: _work(now, w, used(w.typed_at)), "a program at work"),
        _saved(now, signals.saved),
        _ground("cpu", signals.cpu, lambda v: _cpu(v, rules), f"{percent(rules.cpu_cores)} of a core"),
        _ground("network", signals.network, lambda v: _network(v, rules), rate(rules.network_bps)),
        _gpu(signals, rules),
        _hub(now, signals, used(signals.hub.value)),
    )


def is_active(grounds: tuple[Ground, ...]) -> bool:
    """Whether any ground shows use."""
    return any(g.verdict == "active" for g in grounds)


def is_unknown(grounds: tuple[Ground, ...]) -> bool:
    """Whether a sensor failed, or none at all spoke: then the session counts as busy."""
    return any(g.verdict == "unknown" for g in grounds) or not any(g.verdict == "idle" for g in grounds)


def last_used(now: datetime, signals: Signals) -> datetime | None:
    """The latest time of use any signal tells, never later than ``now``.

    The hub's own time counts only for servers that are not Jupyter (see `_hub`).
    """
    times = [signals.kernels.value.last_used if signals.kernels.value else None]
    times.append(signals.work.value.typed_at if signals.work.value else None)
    if signals.kernels.status == "unsupported":
        times.append(signals.hub.value)
    return max((min(t, now) for t in times if t is not None), default=None)


def _ground(
    name: str, reading: Reading[T], judge: Callable[[T], tuple[bool, str]], threshold: str = ""
) -> Ground:
    if reading.status == "failed" or (reading.status == "known" and reading.value is None):
        return Ground(name, "unknown", f"{_UNKNOWN[name]} ({reading.reason or 'no value'})", threshold)
    if reading.status == "unsupported" or reading.value is None:
        return Ground(name, "unsupported", reading.reason, threshold)
    active, text = judge(reading.value)
    return Ground(name, "active" if active else "idle", text, threshold)


_UNKNOWN = {
    "kernels": "the notebook server did not say what its kernels do",
    "terminals": "its programs could not be listed",
    "cpu": "its CPU use could not be measured",
    "network": "its network use could not be measured",
    "gpu": "its GPU could not be measured",
    "hub": "the hub did not say when it was last used",
}


def _kernels(now: datetime, kernels: Kernels, used: bool) -> tuple[bool, str]:
    if kernels.busy:
        return True, f"a cell is running ({_names(kernels.busy)})"
    if used and kernels.last_used is not None:
        return True, f"a cell ran at {clock(min(kernels.last_used, now), now)}"
    return False, "no cell is running" if kernels.open else "no kernel is open"


def _names(names: tuple[str, ...]) -> str:
    """Some names, made harmless: people choose them."""
    shown = ["".join(c if c.isprintable() else "?" for c in n)[:_LONGEST] for n in names[:_SHOWN]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _work(now: datetime, work: Work, used: bool) -> tuple[bool, str]:
    if work.running:
        return True, f"a program is at work ({_names(work.running)})"
    if used and work.typed_at is not None:
        return True, f"somebody typed in a terminal at {clock(min(work.typed_at, now), now)}"
    return False, "no program is at work"


def _saved(now: datetime, saved: Reading[datetime]) -> Ground:
    # Any program sets a file's time at will, so it is shown and never counts: one `touch` an hour would keep
    # a GPU. `.keep-alive` is the way to ask, within the caps.
    if saved.value is None:
        return Ground("saved", "ignored", saved.reason or "no file was changed")
    return Ground("saved", "ignored", f"a file was changed at {clock(min(saved.value, now), now)}")


def _cpu(cores: float, rules: IdleRules) -> tuple[bool, str]:
    return cores >= rules.cpu_cores, f"CPU {percent(cores)} of a core"


def _network(bps: float, rules: IdleRules) -> tuple[bool, str]:
    return bps >= rules.network_bps, f"network {rate(bps)}"


def _gpu(signals: Signals, rules: IdleRules) -> Ground:
    if signals.gpu.status != "unsupported":
        threshold = percent(rules.gpu_fraction)
        return _ground(
            "gpu", signals.gpu, lambda v: (v >= rules.gpu_fraction, f"GPU {percent(v)}"), threshold
        )
    threshold = f"{rules.gpu_memory_mib:.0f} MiB"
    if signals.gpu_change.status == "unsupported":
        return Ground("gpu", "unsupported", signals.gpu.reason, threshold)
    return _ground("gpu", signals.gpu_change, lambda v: _gpu_change(v, rules), threshold)


def _gpu_change(mib: float, rules: IdleRules) -> tuple[bool, str]:
    if math.isinf(mib):
        return True, "its GPU processes changed"
    active = abs(mib) >= rules.gpu_memory_mib
    return active, f"GPU memory changed by {abs(mib):.0f} MiB" if active else "GPU memory unchanged"


def _hub(now: datetime, signals: Signals, used: bool) -> Ground:
    # The proxy counts every poll of an open page, so beside a notebook server that tells about its
    # kernels this time says nothing; for any other server it is the only sign of a person.
    if signals.kernels.status != "unsupported":
        return Ground("hub", "ignored", "an open page alone is not use")
    return _ground("hub", signals.hub, lambda t: _seen(now, t, used), "a request")


def _seen(now: datetime, at: datetime, used: bool) -> tuple[bool, str]:
    return used, f"last request at {clock(min(at, now), now)}"


def observed_since(now: datetime, seen_at: datetime | None, max_gap: float, window: float) -> datetime:
    """The time since which a use counts as current: the last look, or ``window`` seconds ago."""
    if seen_at is None or not 0 <= (now - seen_at).total_seconds() <= max_gap:
        return now - timedelta(seconds=window)
    return seen_at

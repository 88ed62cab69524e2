"""From a person's limits to the idle rules. Pure."""

from __future__ import annotations

from ..policy.model import Idle
from .model import IdleRules, KeepAliveCaps, PressureRule

GAP_POLLS = 3
"""A session not looked at for this many polls was not observed."""


def from_policy(idle: Idle, source: str, poll: float) -> IdleRules:
    """The rules for policy section ``idle``; ``source`` says whose timeout it is, ``poll`` in seconds."""
    keep, pressure, thresholds = idle.keep_alive, idle.pressure, idle.thresholds
    scarce = None
    if pressure.factor < 1:
        scarce = PressureRule(share=pressure.threshold, factor=pressure.factor, floor=idle.warn_lead)
    return IdleRules(
        timeout=idle.timeout,
        start_grace=idle.start_grace,
        warn_lead=idle.warn_lead,
        lifetime_lead=idle.lifetime_lead,
        max_gap=max(GAP_POLLS * poll, 1.0),
        cpu_cores=thresholds.cpu,
        network_bps=thresholds.network,
        gpu_fraction=thresholds.gpu,
        gpu_memory_mib=thresholds.gpu_memory / 2**20,
        pressure=scarce,
        keep_alive=KeepAliveCaps(
            request=keep.per_session, session=keep.per_session, day=keep.per_day, file=keep.per_session
        ),
        source=source,
    )

"""A short notation for idle decisions. Times are minutes after 10:00 UTC, 23 February 2026."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from ds01spawner.idle.decide import decide
from ds01spawner.idle.model import (
    Deadline,
    Decision,
    IdleRules,
    KeepAliveCaps,
    Kernels,
    Memory,
    Pressure,
    PressureRule,
    Session,
    Signals,
    Warned,
    Work,
    failed,
    known,
    unsupported,
)

TEN = datetime(2026, 2, 23, 10, 0, tzinfo=timezone.utc)
NO_GPU = unsupported("the session has no GPU")


def at(minutes: float) -> datetime:
    return TEN + timedelta(minutes=minutes)


QUIET = Signals(
    hub=known(at(0)),
    kernels=known(Kernels(open=1)),
    work=known(Work()),
    saved=known(at(-60)),
    cpu=known(0.004),
    network=known(120.0),
    gpu=NO_GPU,
    gpu_change=NO_GPU,
)
GPU_QUIET = replace(QUIET, gpu=known(0.0), gpu_change=known(0.0))

STUDENT = IdleRules(
    timeout=1800,
    start_grace=600,
    warn_lead=600,
    lifetime_lead=1800,
    max_gap=180,
    cpu_cores=0.05,
    network_bps=16 * 1024,
    gpu_fraction=0.05,
    gpu_memory_mib=64,
    pressure=PressureRule(share=0.8, factor=0.5, floor=300),
    keep_alive=KeepAliveCaps(request=4 * 3600, session=24 * 3600, day=24 * 3600, file=4 * 3600),
    source="group students",
)
STAFF = replace(STUDENT, timeout=7200, warn_lead=1200, source="group staff")
ADMIN = replace(STUDENT, timeout=None, source="group admins")
ALICE = Session("s1", "alice", started_at=at(-120))
ON_GPU = replace(ALICE, holds_gpu=True)
SCARCE = Pressure(share=0.9, waiting=3)


def memory(
    seen: float | None,
    idle: float = 0.0,
    warned: float | None = None,
    visible: float | None = None,
    cause: str = "idle",
    unknown: float | None = None,
    session: str = "s1",
) -> Memory:
    """``seen``, ``warned``, ``visible``, ``unknown`` at minutes; ``idle`` minutes counted so far."""
    warnings = ()
    if warned is not None:
        warnings = (Warned(cause, at(warned), None if visible is None else at(visible)),)
    return Memory(
        session,
        None if seen is None else at(seen),
        idle * 60,
        None if unknown is None else at(unknown),
        warnings,
    )


def row(
    now: float,
    mem: Memory | None,
    signals: Signals = QUIET,
    rules: IdleRules = STUDENT,
    session: Session = ALICE,
    pressure: Pressure | None = None,
) -> Decision:
    return decide(at(now), session, signals, rules, mem, pressure)


def having(base: Signals = QUIET, **readings: object) -> Signals:
    """``base`` with some readings replaced; plain values are known."""
    wrapped = {k: v if hasattr(v, "status") else known(v) for k, v in readings.items()}
    return replace(base, **wrapped)


__all__ = [
    "ADMIN",
    "ALICE",
    "GPU_QUIET",
    "ON_GPU",
    "QUIET",
    "SCARCE",
    "STAFF",
    "STUDENT",
    "Deadline",
    "Kernels",
    "Pressure",
    "Signals",
    "Work",
    "at",
    "failed",
    "having",
    "known",
    "memory",
    "replace",
    "row",
    "unsupported",
]

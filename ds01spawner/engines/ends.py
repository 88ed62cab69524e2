"""What an engine says of a session's end, and what that means: one explanation for every engine. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.ending import Clock, Ended
from ..core.labels import SessionLabels
from ..messages import crashed, end_clauses, out_of_memory
from ..policy.plan import SessionUse
from ..policy.units import say_size

SIGKILL = 9
STOPPED_BY_ENGINE = frozenset({None, 0, 130, 137, 143, 255})
"""Exit codes of what an engine ends when it stops itself."""
ENGINE_STARTS = timedelta(seconds=15)
"""An engine that comes back may take so long to note what ended with it."""


@dataclass(frozen=True)
class EndEvidence:
    """What the engine says of one container's end. ``ended_at`` None: it says nothing, or it runs."""

    ended_at: datetime | None = None
    exit_code: int | None = None
    oom: bool = False
    error: str = ""
    signals: tuple[int, ...] = ()
    """Signals that came through the engine shortly before the end."""
    removed: bool = False
    buried: bool = False
    """It was removed only some time after its end, which came of something else."""
    exact: bool = True
    """Whether the engine told the end itself; where it told the removal alone, it had ended by then."""
    engine_started: datetime | None = None
    """When the engine itself last started, where it tells."""


def explain(
    session: str, found: EndEvidence, memory: str = "", source: str = "", tail: str = ""
) -> Ended | None:
    """The end that evidence tells, or None where it tells none. Pure.

    ``memory`` is the session's limit in words, ``source`` whose rule that is.
    """
    if found.ended_at is None:
        return None
    kind, reason = _cause(found, memory, source)
    return Ended(
        session,
        found.ended_at,
        kind,
        reason,
        exit_code=found.exit_code,
        oom=kind == "oom",
        clock=Clock.engine if found.exact else Clock.noticed,
        log_tail=tail,
    )


def of_session(labels: SessionLabels, found: EndEvidence, tail: str = "") -> Ended | None:
    """`explain` with the limit that the session's own labels tell. Pure."""
    memory = SessionUse.from_labels(labels).memory
    return explain(labels.session, found, say_size(memory) if memory else "", tail=tail)


def lost(session: str, last_seen: datetime) -> Ended:
    """The end of a session of which the engine has no record any more."""
    return Ended(session, last_seen, "lost", end_clauses.LOST, clock=Clock.last_seen)


def _cause(found: EndEvidence, memory: str, source: str) -> tuple[str, str]:
    # The engine's mark stays after a killed kernel too, so only an end by SIGKILL was the kernel's doing.
    if found.oom and found.exit_code == 128 + SIGKILL and not found.signals:
        return "oom", out_of_memory(memory, source).sentence
    if found.signals:
        removal = found.removed and not found.buried and set(found.signals) == {SIGKILL}
        return (
            ("removed", end_clauses.REMOVED) if removal else ("killed", end_clauses.killed(found.signals[-1]))
        )
    if _ended_with_engine(found):
        return "engine", end_clauses.ENGINE_STOPPED
    if found.error:
        return "crashed", crashed(found.error.splitlines()[0][:300]).sentence
    if found.exit_code == 0:
        return "shutdown", end_clauses.SHUT_DOWN
    if found.exit_code is None:
        return "unknown", end_clauses.UNRECORDED
    return "crashed", crashed(said(found.exit_code)).sentence


def said(exit_code: int | None) -> str:
    """How a main process ended, as a clause."""
    name = end_clauses.signal_name(exit_code - 128) if exit_code is not None and exit_code > 128 else ""
    signal = f" (signal {name})" if name.startswith("SIG") else ""
    return f"its main process ended with exit code {exit_code}{signal}"


def _ended_with_engine(found: EndEvidence) -> bool:
    if found.engine_started is None or found.ended_at is None or found.exit_code not in STOPPED_BY_ENGINE:
        return False
    return found.ended_at <= found.engine_started + ENGINE_STARTS

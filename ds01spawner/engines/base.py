"""What an engine adapter declares about itself, so that pages show what is really enforced."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Capabilities:
    """What one engine enforces by itself. A False here is shown to people as "not enforced"."""

    pids: bool = False
    shm: bool = False
    swap: bool = False
    aggregate: bool = False
    devices: bool = False
    """Whether a session can be kept to exactly its own devices."""
    queue: bool = False
    """Whether the engine itself lets a session wait; where not, the ticket queue does."""
    deadline: bool = False
    """Whether the engine itself ends a session at its lifetime; where not, the idle service does."""

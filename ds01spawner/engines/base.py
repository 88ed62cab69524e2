"""What an engine adapter declares about itself, so that pages show what is really enforced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Capabilities:
    """What one engine enforces by itself. A False here is shown to people as "not enforced"."""

    memory: bool = False
    cpus: bool = False
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
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why something is not enforced, by the name of the field above."""

    def unenforced(self) -> list[str]:
        """What is not enforced, one sentence each, for the doctor and the pages."""
        return [f"{TITLES.get(name, name)} not enforced: {why}" for name, why in self.reasons.items()]


TITLES = {
    "pids": "The limit on processes is",
    "shm": "The size of /dev/shm is",
    "swap": "The limit on swap is",
    "memory": "The limit on memory is",
    "cpus": "The limit on CPU time is",
    "aggregate": "The ceiling over all sessions of a person is",
}

"""The claim: look, choose and create under one lock. A created container with its labels *is* the claim.

Nothing is written down before or after, so there is nothing to release when a process dies: before
the create nothing exists, after it the container says what it holds, started or not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from ... import messages
from ...core.errors import DS01Error, Refused
from ...placement.devices import Device
from ..base import EngineState
from .lock import claim_lock


class Holds(Protocol):
    """What a choice says for sure: which devices it takes."""

    @property
    def devices(self) -> tuple[Device, ...]: ...


H = TypeVar("H", bound=Holds)


def claim(
    lock_path: Path | str,
    look: Callable[[], EngineState],
    choose: Callable[[EngineState], H],
    create: Callable[[H], str],
    *,
    timeout: float = 30.0,
    again: Callable[[], EngineState] | None = None,
    undo: Callable[[str], None] | None = None,
) -> tuple[H, str]:
    """Choose devices and create their container; returns both. Blocks the thread.

    ``choose`` answers what is to be created or raises `Refused`: a quota is checked under the same lock that
    guards the devices. ``create`` must create the container with the devices and labels, and return its id;
    the lock is held until it has returned or raised.

    The lock is this hub's own. Another hub on the engine, or a hand, may create a container with the same
    device between our look and our create; so with ``again`` and ``undo``, which removes a container, the
    engine is asked once more, and whoever sees another holder gives way: perhaps both, and never do both keep
    it.

    `Refused` with the reason when no device can be had; `LockError`, `EngineError` or what ``choose`` raises
    when something could not be read: then nothing is granted.
    """
    with claim_lock(lock_path, timeout):
        chosen = choose(look())
        container = create(chosen)
        if chosen.devices and again is not None and undo is not None:
            _keep_or_undo(again, chosen, container, undo)
        return chosen, container


def _keep_or_undo(
    again: Callable[[], EngineState], chosen: Holds, container: str, undo: Callable[[str], None]
) -> None:
    mine = {d.uuid for d in chosen.devices}
    try:
        shared = any(h.uuid in mine and h.container != container for h in again().holdings)
    except DS01Error:
        undo(container)
        raise
    if shared:
        undo(container)
        raise Refused(messages.taken_meanwhile())

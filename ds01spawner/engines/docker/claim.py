"""The claim: read, choose and create under one lock. A created container with its labels *is* the claim.

Nothing is written down before or after, so there is nothing to release when a process dies: before
the create nothing exists, after it the container says what it holds, started or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ... import messages
from ...core.errors import DS01Error, Refused
from ...gpu.reading import GpuReading
from ...placement.model import Block, GpuRequest, Placement
from ...placement.place import place, refusal
from ...placement.strategies import DEFAULT_STRATEGY
from ..base import EngineState
from .ledger import Ledger
from .lock import claim_lock


def claim(
    lock_path: Path | str,
    ledger: Ledger,
    gpu_reader: Callable[[], GpuReading],
    blocks_reader: Callable[[], Mapping[str, Block]],
    request: GpuRequest | Callable[[EngineState], GpuRequest],
    create: Callable[[Placement], str],
    *,
    strategy: str = DEFAULT_STRATEGY,
    keys: frozenset[str] = frozenset(),
    timeout: float = 30.0,
    undo: Callable[[str], None] | None = None,
) -> tuple[Placement, str]:
    """Choose devices for ``request`` and create their container; returns both. Blocks the thread.

    ``create`` must create the container with the placement's devices and labels, and return its id; the
    lock is held until it has returned or raised. A plain request for no GPU needs no lock. GPUs,
    containers and blocks are read inside the lock, in this order.

    ``request`` may be a function of what is held at this moment, so that a quota is checked under the
    same lock that guards the devices; it answers the request or raises `Refused`.

    The lock is this hub's own. Another hub on the engine, or a hand, may create a container with the same
    device between our reading and our create; so with ``undo``, which removes a container, the engine is
    asked once more, and whoever sees another holder gives way: perhaps both, and never do both keep it.

    `Refused` with the reason when no device can be had; `LockError`, `EngineError`, `InventoryError` or
    `StoreError` when something could not be read: then nothing is granted.
    """
    if isinstance(request, GpuRequest) and not request.wants_gpu:
        placement = Placement()
        return placement, create(placement)
    with claim_lock(lock_path, timeout):
        gpus = gpu_reader()
        snapshot = ledger.read(gpus.inventory, gpus.processes, gpus.former)
        wanted = request if isinstance(request, GpuRequest) else request(snapshot)
        placement = Placement()
        if wanted.wants_gpu:
            placement = place(
                wanted, gpus.inventory, snapshot.holdings, blocks_reader(), strategy=strategy, keys=keys
            )
            if not placement.ok:
                raise Refused(refusal(wanted, placement))
        container = create(placement)
        if placement.devices and undo is not None:
            _keep_or_undo(ledger, gpus, placement, container, undo)
        return placement, container


def _keep_or_undo(
    ledger: Ledger, gpus: GpuReading, placement: Placement, container: str, undo: Callable[[str], None]
) -> None:
    mine = {d.uuid for d in placement.devices}
    try:
        again = ledger.read(gpus.inventory, (), gpus.former)
        shared = any(h.uuid in mine and h.container != container for h in again.holdings)
    except DS01Error:
        undo(container)
        raise
    if shared:
        undo(container)
        raise Refused(messages.taken_meanwhile())

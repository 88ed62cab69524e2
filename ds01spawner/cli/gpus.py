"""``ds01 gpus``: every device, its state, who holds it and why it is not free."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.settings import load_settings
from ..core.text import memory
from ..placement.devices import DeviceStatus, Inventory
from ..placement.standing import merge_blocks
from ..placement.status import status
from .common import Json, console, emit, problems, table

if TYPE_CHECKING:
    from ..site import Site

FIELDS = (
    "uuid",
    "parent",
    "name",
    "profile",
    "memory_mib",
    "equivalents",
    "state",
    "holder",
    "reason",
)
"""What ``--json`` tells of each device; a contract."""


NO_CARD = "the NVIDIA driver answers, but it knows no card in this machine"


@dataclass(frozen=True)
class GpuMap:
    """One reading of the machine's devices, as shown."""

    inventory: Inventory
    attach: str
    devices: tuple[DeviceStatus, ...]

    def as_dict(self) -> dict[str, object]:
        """The document of ``--json``."""
        return {
            "mode": self.inventory.mode,
            "attach": self.attach,
            "devices": [{f: getattr(d, f) for f in FIELDS} for d in self.devices],
            **({"note": self.note} if self.note else {}),
        }

    @property
    def note(self) -> str:
        """Why there is no device, where there is none; empty otherwise."""
        if self.devices:
            return ""
        if self.inventory.mode == "nvml" and self.inventory.state == "ok":
            return NO_CARD
        return self.inventory.reason or "the inventory has no device"


def read_map(site: Site, now: datetime) -> GpuMap:
    """Read devices, holders and blocks now. `EngineError` when the engine does not answer.

    Where there is no device the engine is not asked, so that a machine without either can be looked at.
    """
    inventory = site.engine.inventory(0).inventory
    if inventory.mode == "none":
        return GpuMap(inventory, "none", ())
    state, attach = site.engine.look(), site.engine.attach(inventory)
    blocks = merge_blocks(attach.blocks, site.blocks(now))
    return GpuMap(inventory, attach.mode, status(inventory, state.holdings, blocks))


def gpus(
    watch: Annotated[bool, typer.Option("--watch", help="Show again whenever something changes.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.5)] = 2.0,
    as_json: Json = False,
) -> None:
    """Show every device: free, held and by whom, drained, lost, not ready or reserved."""
    from ..site import Site

    site = Site(load_settings())
    if watch:
        _watch(site, interval, as_json)
        return
    found = read_map(site, datetime.now(timezone.utc))
    emit(found.as_dict(), as_json, lambda _: _show(found))
    if found.inventory.state != "ok":
        if as_json:
            problems.print(found.inventory.reason, style="red", markup=False)
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gpus)


def _watch(site: Site, interval: float, as_json: bool) -> None:
    try:
        for found in _changes(site, interval):
            if as_json:
                print(json.dumps(found.as_dict(), ensure_ascii=False), flush=True)
            else:
                console.clear()
                _show(found)
    except KeyboardInterrupt:
        return


def _changes(site: Site, interval: float) -> Iterator[GpuMap]:
    """Each reading that differs from the one before."""
    last = None
    while True:
        found = read_map(site, datetime.now(timezone.utc))
        if found != last:
            yield found
        last = found
        time.sleep(interval)


def _show(found: GpuMap) -> None:
    inventory = found.inventory
    if inventory.mode == "none" or inventory.state != "ok":
        console.print(f"No GPU can be granted: {inventory.reason}", markup=False)
    elif inventory.mode == "simulated":
        console.print("These GPUs are simulated: sessions get no real device.", style="yellow")
    if not found.devices:
        if inventory.mode != "none" and inventory.state == "ok":
            console.print(f"No GPU can be granted: {found.note}", markup=False)
        return
    free = sum(d.state == "free" for d in found.devices)
    rows = [
        (
            d.uuid if d.parent is None else f"  {d.uuid}",
            d.profile,
            memory(d.memory_mib),
            d.state,
            d.holder,
            d.reason,
            d.until,
        )
        for d in found.devices
    ]
    table(("device", "profile", "memory", "state", "holder", "reason", "until"), rows)
    console.print(f"{free} of {len(found.devices)} devices are free; attach: {found.attach}", markup=False)

"""A host with GPUs and a container engine, as a model for the placement tests.

Here is the *truth*: which physical parts of which card each container could reach. It is worked out from
how a container was made, never from an inspect, and shares no code with the product. A part is one of
the seven compute slices of a card.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import requests
from docker.errors import NotFound
from support.ours import signed

from ds01spawner.core.labels import SessionLabels
from ds01spawner.gpu.reading import GpuProcess, GpuReading
from ds01spawner.placement.devices import Block, Card, Device, Inventory

Part = tuple[int, int]
SEVENTHS = {"1g.10gb": 1, "2g.20gb": 2, "3g.40gb": 3, "4g.40gb": 4}
LAYOUTS = (
    (),
    ("1g.10gb",) * 7,
    ("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"),
    ("4g.40gb", "3g.40gb"),
)
ALIVE = ("running", "paused")


@dataclass
class Gpu:
    """One physical card: its slices by UUID with the parts they have, or none when it is whole."""

    uuid: str
    slices: dict[str, tuple[str, frozenset[Part]]] = field(default_factory=dict)
    also_whole: bool = False
    """Offered as a whole besides its slices, as some inventories do."""
    lost: bool = False


@dataclass
class Box:
    """One container: what the engine tells about it, and what it could reach."""

    ident: str
    inspect: dict
    state: str
    names: tuple[str, ...] = ()
    """UUIDs it was given."""
    cards: tuple[int, ...] = ()
    """Numbers of the cards it was given otherwise (by index, count, node, or all of them)."""
    once: dict[str, frozenset[Part]] = field(default_factory=dict)
    """The parts its UUIDs stood for when it was made."""
    ours: bool = False
    label_only: bool = False


class Host:
    """Cards, containers, processes; and the engine's and the driver's answers about them."""

    def __init__(self) -> None:
        self.numbers = itertools.count(1)
        self.gpus = [Gpu("GPU-a"), Gpu("GPU-b"), Gpu("GPU-c", also_whole=True)]
        self.boxes: dict[str, Box] = {}
        self.processes: dict[int, str] = {}
        self.former: dict[str, str] = {}
        self.blocks: dict[str, Block] = {}
        self.engine_down = False
        self.cut(1, LAYOUTS[2])
        self.cut(2, LAYOUTS[3])

    # --- the physical side ----------------------------------------------------------------------

    def cut(self, card: int, layout: tuple[str, ...]) -> None:
        """Make a card's slices anew, with new UUIDs."""
        gpu = self.gpus[card]
        self.former |= dict.fromkeys(gpu.slices, gpu.uuid)
        gpu.slices, start = {}, 0
        for profile in layout:
            parts = frozenset((card, n) for n in range(start, start + SEVENTHS[profile]))
            gpu.slices[f"MIG-{next(self.numbers):06d}"] = (profile, parts)
            start += SEVENTHS[profile]

    def parts(self, uuid: str) -> frozenset[Part] | None:
        """The parts a UUID stands for now, or None when it stands for nothing."""
        for n, gpu in enumerate(self.gpus):
            if uuid == gpu.uuid:
                return frozenset((n, p) for p in range(7))
            if uuid in gpu.slices:
                return gpu.slices[uuid][1]
        return None

    def reach(self, box: Box) -> frozenset[Part]:
        """Everything a container could touch, now or when it is started."""
        found = {(n, p) for n in box.cards for p in range(7)}
        for uuid in box.names:
            now = self.parts(uuid)
            if now is not None:
                found |= now
            elif box.state in ALIVE:
                found |= box.once.get(uuid, frozenset())
        return frozenset(found)

    def stale_cards(self) -> set[int]:
        """Cards on which a living container keeps a slice that is gone: there, more may count as busy."""
        return {
            card
            for box in self.boxes.values()
            if box.state in ALIVE
            for uuid in box.names
            if self.parts(uuid) is None
            for card in self.once_on(uuid)
        }

    def once_on(self, uuid: str) -> set[int]:
        """The card a slice that is gone was on."""
        return {n for n, gpu in enumerate(self.gpus) if self.former.get(uuid) == gpu.uuid}

    def taken(self) -> frozenset[Part]:
        """Everything that some container or process reaches."""
        found = frozenset().union(*map(self.reach, self.boxes.values()))
        return found.union(*(self.parts(u) or frozenset() for u in self.processes.values()))

    def blocked(self, uuid: str, keys: frozenset[str] = frozenset()) -> bool:
        """Whether a loss, drain or reservation stands against the device."""
        mine = self.parts(uuid)
        if any(self.gpus[card].lost for card, _ in mine):
            return True
        return any(
            (self.parts(at) or frozenset()) & mine and not block.exempt & keys
            for at, block in self.blocks.items()
        )

    # --- what the driver says -------------------------------------------------------------------

    def reading(self) -> GpuReading:
        """The driver's answer. A lost card shows itself and none of its slices."""
        cards, devices, blocks = [], [], {}
        for n, gpu in enumerate(self.gpus):
            cards.append(Card(gpu.uuid, "A", 81920, bool(gpu.slices), "lost" if gpu.lost else "ok", "", n, n))
            if gpu.lost:
                blocks[gpu.uuid] = Block("lost", "it fell off the bus")
            if gpu.lost or gpu.also_whole or not gpu.slices:
                devices.append(Device(gpu.uuid, "A", "full", 81920, index=n * 100))
            if not gpu.lost:
                for position, (uuid, (profile, parts)) in enumerate(gpu.slices.items()):
                    devices.append(
                        Device(uuid, "A", profile, 10240, len(parts), gpu.uuid, n * 100 + 1 + position)
                    )
        memory = self.former | {u: g.uuid for g in self.gpus if g.lost for u in g.slices}
        seen = tuple(GpuProcess(pid, uuid) for pid, uuid in self.processes.items() if self.visible(uuid))
        return GpuReading(
            Inventory("nvml", tuple(devices), tuple(cards), blocks), processes=seen, former=memory
        )

    def visible(self, uuid: str) -> bool:
        """Whether the driver still tells about a device."""
        return not any(self.gpus[card].lost for card, _ in self.parts(uuid) or ())

    def offered(self) -> dict[str, str]:
        """UUID and profile of each device that the driver lists."""
        return {d.uuid: d.profile for d in self.reading().inventory.devices}

    # --- the engine -----------------------------------------------------------------------------

    def add(
        self, host: dict, env: tuple[str, ...] = (), session: SessionLabels | None = None, **truth
    ) -> Box:
        """Create a container; ``truth`` says what it could reach."""
        number = next(self.numbers)
        ident = f"{number:064x}"
        inspect = {
            "Id": ident,
            "Name": f"/box-{number}",
            "Config": {"Env": list(env), "Labels": signed(session, f"box-{number}") if session else {}},
            "HostConfig": host,
            "State": {"StartedAt": "0001-01-01T00:00:00Z"},
        }
        box = Box(ident, inspect, "created", **truth)
        if not box.label_only:  # simulated devices: no access right to anything outlives the slice
            box.once = {u: self.parts(u) or frozenset() for u in box.names}
        self.boxes[ident] = box
        return box

    def add_session(self, uuids: tuple[str, ...], real: bool) -> Box:
        """A session's container: with a device request, or (simulated devices) with labels alone."""
        number = next(self.numbers)
        told = SessionLabels("ann", f"s{number}", "p", "h", f"id{number}", gpu_uuids=uuids)
        request = [{"DeviceIDs": list(uuids), "Count": 0, "Capabilities": [["gpu"]]}] if real else None
        return self.add(
            {"DeviceRequests": request}, session=told, names=uuids, ours=True, label_only=not real
        )

    def start(self, box: Box) -> bool:
        """Start it; the engine refuses when a device it names is not there."""
        if not box.label_only and any(self.parts(u) is None or not self.visible(u) for u in box.names):
            return False
        box.state = "running"
        return True

    def stop(self, box: Box) -> None:
        """End its processes; it stays."""
        box.state = "exited"

    def containers(self, all: bool) -> list[dict]:
        """``GET /containers/json``."""
        assert all, "stopped containers count too"
        if self.engine_down:
            raise requests.ConnectionError("down")
        return [{"Id": b.ident, "Names": [b.inspect["Name"]], "State": b.state} for b in self.boxes.values()]

    def inspect_container(self, ident: str) -> dict:
        """``GET /containers/{id}/json``."""
        if ident not in self.boxes:
            raise NotFound("gone")
        return self.boxes[ident].inspect

    def top(self, ident: str, ps_args: str) -> dict:
        """``GET /containers/{id}/top``: one process for each living container, numbered like it."""
        return {"Titles": ["PID"], "Processes": [[str(int(ident, 16))]]}

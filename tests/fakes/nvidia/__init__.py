"""NVIDIA's container tools without a GPU: CDI specifications, the runtime hook, the runtime.

Device nodes have majors that no driver serves, so the kernel answers an ``open`` with ENXIO where the
container's device cgroup allows it and with EPERM where it does not. That is what tests assert.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from ds01spawner.placement.devices import Inventory

HERE = Path(__file__).parent
HOOK = "nvidia-container-runtime-hook"
RUNTIME = "nvidia-container-runtime"
NVIDIA_MAJOR = 195
CTL_MINOR = 255


@dataclass(frozen=True, order=True)
class Node:
    """A character device."""

    path: str
    major: int
    minor: int


def free_majors(count: int, devices: Path = Path("/proc/devices")) -> list[int]:
    """Majors without a driver, NVIDIA's own first where this machine has none."""
    used = {int(line.split()[0]) for line in devices.read_text().splitlines() if line[:3].strip().isdigit()}
    return [m for m in (NVIDIA_MAJOR, *range(234, 255), *range(384, 511)) if m not in used][:count]


@dataclass(frozen=True)
class Nodes:
    """The device nodes of a machine: what each device needs, and what all share."""

    devices: dict[str, tuple[Node, ...]]
    by_index: dict[str, str]
    common: tuple[Node, ...]

    @property
    def all(self) -> frozenset[Node]:
        """Every node there is."""
        return frozenset(n for nodes in self.devices.values() for n in nodes) | frozenset(self.common)

    def of(self, uuids: list[str]) -> frozenset[Node]:
        """What a session with exactly these devices may open."""
        own = frozenset(n for u in uuids for n in self.devices[u])
        return own | frozenset(self.common) if own else own

    def write(self, path: Path) -> None:
        """Write what the fake hook reads."""
        data = {
            "devices": {u: [[n.path, n.major, n.minor] for n in nodes] for u, nodes in self.devices.items()},
            "index": self.by_index,
            "common": [[n.path, n.major, n.minor] for n in self.common],
        }
        replace(path, json.dumps(data))


def nodes_of(inventory: Inventory) -> Nodes:
    """Nodes as NVIDIA's driver has them: ``/dev/nvidiaN`` a card, two capability nodes more a slice."""
    gpu, caps = free_majors(2)
    devices, by_index = {}, {}
    minors = {c.uuid: (c.index, c.minor if c.minor is not None else c.index) for c in inventory.cards}
    for device in inventory.devices:
        index, minor = minors[device.card]
        card = Node(f"/dev/nvidia{minor}", gpu, minor)
        if device.parent is None:
            devices[device.uuid] = (card,)
            by_index[str(index)] = device.uuid
            continue
        place = device.index % 100
        # Another generation of a slice has other capability nodes, as on a real card.
        first = 2 * (place + 16 * minor)
        names = [Node(f"/dev/nvidia-caps/nvidia-cap{n}", caps, n) for n in (first, first + 1)]
        devices[device.uuid] = (card, *names)
        by_index[f"{index}:{place - 1}"] = device.uuid
    return Nodes(devices, by_index, (Node("/dev/nvidiactl", gpu, CTL_MINOR),))


def write_cdi(folder: Path, nodes: Nodes) -> Path:
    """Write what ``nvidia-ctk cdi generate`` would: names by UUID and by index, and ``all``."""

    def edits(found: tuple[Node, ...] | frozenset[Node]) -> dict:
        listed = [
            {"path": n.path, "type": "c", "major": n.major, "minor": n.minor, "permissions": "rw"}
            for n in sorted(found)
        ]
        return {"deviceNodes": listed}

    devices = [{"name": u, "containerEdits": edits(found)} for u, found in nodes.devices.items()]
    devices += [{"name": i, "containerEdits": edits(nodes.devices[u])} for i, u in nodes.by_index.items()]
    every = frozenset(n for found in nodes.devices.values() for n in found)
    devices.append({"name": "all", "containerEdits": edits(every)})
    spec = {
        "cdiVersion": "0.6.0",
        "kind": "nvidia.com/gpu",
        "devices": devices,
        "containerEdits": {**edits(nodes.common), "env": ["NVIDIA_VISIBLE_DEVICES=void"]},
    }
    path = folder / "nvidia.json"
    replace(path, json.dumps(spec))
    return path


def install_tools(folder: Path) -> Path:
    """Put the fake hook and runtime into ``folder`` under their real names; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    runc = shutil.which("runc")
    assert runc, "no runc in PATH"
    hook, runtime = folder / HOOK, folder / RUNTIME
    hook.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE / "hook.py"} "$@"\n')
    runtime.write_text(
        "#!/bin/sh\n"
        f'case " $* " in *" create "*) {sys.executable} {HERE / "runtime.py"} {hook} "$@" || exit 1;; esac\n'
        f'exec {runc} "$@"\n'
    )
    for script in (hook, runtime):
        script.chmod(0o755)
    return folder


def replace(path: Path, text: str) -> None:
    """Write a file in one step."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)

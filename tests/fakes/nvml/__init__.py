"""A fake ``libnvidia-ml.so.1`` and the machines it pretends to be.

`build` compiles it; a `Machine` writes the text inventory it reads (see ``fake_nvml.c`` for the lines)
and replaces it atomically, also under a running reader.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
SONAME = "libnvidia-ml.so.1"

A100 = ("NVIDIA A100-SXM4-80GB", 81251)
H100 = ("NVIDIA H100 80GB HBM3", 81559)
A30 = ("NVIDIA A30", 24576)
RTX = ("NVIDIA RTX 6000 Ada Generation", 49140)
MEMORY_MIB = {
    "1g.10gb": 9728,
    "1g.20gb": 19968,
    "2g.20gb": 19968,
    "3g.40gb": 40192,
    "4g.40gb": 40192,
    "7g.80gb": 80768,
    "1g.6gb": 5952,
    "2g.12gb": 11968,
    "4g.24gb": 24000,
}


def build(folder: Path) -> Path:
    """Compile the fake into ``folder`` and return the folder, to be put first in LD_LIBRARY_PATH."""
    flags = ["-Wall", "-Wextra", "-O1", "-fPIC", "-shared", "-fvisibility=hidden"]
    # The soname makes glibc give this library to pynvml when a process has loaded it already.
    name = f"-Wl,-soname,{SONAME}"
    subprocess.run(["cc", *flags, name, "-o", str(folder / SONAME), str(SOURCE), "-lpthread"], check=True)
    return folder


def card_uuid(index: int) -> str:
    """UUID of card ``index`` of a fake machine."""
    return f"GPU-{index:08d}-aaaa-bbbb-cccc-0123456789ab"


def slice_uuid(card: int, position: int, generation: int = 0) -> str:
    """UUID of the slice in place ``position`` of a card; a re-made slice has a new generation."""
    return f"MIG-{card:04d}{position:04d}-{generation:04d}-5555-9999-0123456789ab"


@dataclass
class Machine:
    """The text inventory at ``path``, built line by line. Nothing counts before `write`."""

    path: Path
    lines: list[str] = field(default_factory=list)

    def gpu(self, index: int, kind: tuple[str, int] = A100, **keys: object) -> Machine:
        """Add a card; ``keys`` are those of the inventory (``mig=1``, ``lost=2``, ``ecc=3``, …)."""
        extra = "".join(f" {k}={v}" for k, v in keys.items())
        self.lines.append(
            f'gpu {index} uuid={card_uuid(index)} name="{kind[0]}" mem_mib={kind[1]} recovery=0{extra}'
            if "recovery" not in keys
            else f'gpu {index} uuid={card_uuid(index)} name="{kind[0]}" mem_mib={kind[1]}{extra}'
        )
        return self

    def slices(
        self, card: int, *profiles: str, generation: int = 0, holes: tuple[int, ...] = (), **keys: object
    ) -> Machine:
        """Add MIG devices of ``profiles`` to a card, leaving the places in ``holes`` empty."""
        places = (i for i in range(16) if i not in holes)
        extra = "".join(f" {k}={v}" for k, v in keys.items())
        for profile, place in zip(profiles, places, strict=False):
            own = profile.rpartition("c.")[2]
            self.lines.append(
                f"mig {card} {place} uuid={slice_uuid(card, place, generation)} profile={profile} "
                f"gi={place + 3} mem_mib={MEMORY_MIB[own]}{extra}"
            )
        return self

    def split(self, card: int, kind: tuple[str, int], *profiles: str, **keys: object) -> Machine:
        """Add a card in MIG mode with its slices."""
        return self.gpu(card, kind, mig=1, **keys).slices(card, *profiles)

    def line(self, text: str) -> Machine:
        """Add any line: ``fail``, ``proc``, ``init``, ``slow``, ``driver``, ``event``."""
        self.lines.append(text)
        return self

    def clear(self) -> Machine:
        """Forget all lines."""
        self.lines.clear()
        return self

    def write(self) -> Machine:
        """Make it so, in one rename."""
        temporary = self.path.with_suffix(".new")
        temporary.write_text("\n".join(self.lines) + "\n")
        temporary.replace(self.path)
        return self

    def env(self, library: Path) -> dict[str, str]:
        """Environment variables that make a child process see this machine."""
        return {**os.environ, "LD_LIBRARY_PATH": str(library), "FAKE_NVML_INVENTORY": str(self.path)}


def four_a100(machine: Machine) -> Machine:
    """Four A100-80GB: one whole, three split differently; 14 devices."""
    machine.gpu(0, A100, mig=0)
    machine.split(1, A100, "3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb")
    machine.split(2, A100, "2g.20gb", "2g.20gb", "2g.20gb", "1g.10gb")
    return machine.split(3, A100, "4g.40gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.20gb")

"""Which TCP ports this machine's own programs listen on, read from the kernel's tables. Linux only."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import islice
from pathlib import Path
from typing import Any

from .answers import NetworkJson

PROC_NET = Path("/proc/net")
LISTEN = "0A"
MAX_LINES = 20_000


@dataclass(frozen=True)
class Listening:
    """One listening socket."""

    address: str
    port: int

    def seen_from(self, network: NetworkJson) -> list[tuple[str, int]]:
        """Where a container on this inspected network would find it."""
        ip = ip_address(self.address)
        if ip.is_loopback:
            return []
        configs = (network.get("IPAM") or {}).get("Config") or []
        gateways = [ip_address(c["Gateway"]) for c in configs if c.get("Gateway")]
        if ip.is_unspecified:
            # A socket on :: answers IPv4 callers as well, unless it was told not to.
            same = [g for g in gateways if ip.version == 6 or g.version == 4]
            return [(str(g), self.port) for g in same]
        return [(str(ip), self.port)]


def listening(folder: Path = PROC_NET) -> list[Listening]:
    """Every TCP socket that listens in this process's network namespace; empty where that cannot be read."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            with (folder / name).open() as file:
                found |= set(parse(islice(file, 1, MAX_LINES)))
        except OSError:
            continue
    return sorted(found, key=lambda s: (s.port, s.address))


def parse(lines: Any) -> Iterator[Listening]:
    """Read lines of ``/proc/net/tcp`` or ``tcp6``. Pure."""
    for line in lines:
        fields = line.split()
        if len(fields) < 4 or fields[3] != LISTEN:
            continue
        address, _, port = fields[1].partition(":")
        yield Listening(_address(address), int(port, 16))


def _address(digits: str) -> str:
    # Each group of four bytes is printed as a number in the machine's own byte order.
    raw = b"".join(struct.pack("=I", int(digits[i : i + 8], 16)) for i in range(0, len(digits), 8))
    if len(raw) == 4:
        return str(IPv4Address(raw))
    six = IPv6Address(raw)
    return str(six.ipv4_mapped or six)

"""Which registries the engine may be sent to for an image that somebody names.

The engine asks a registry from the server's own network, so a name such as ``127.0.0.1:8000/x`` would let
people knock at whatever answers there. Addresses and names of this machine and of inner networks are refused
unless the site lists them. Blocking where a name has to be looked up: call from a thread.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .reference import DEFAULT_DOMAIN

PUBLIC = "public"
"""Stands in the site's list for every registry on the open internet."""
KNOWN = frozenset(
    {DEFAULT_DOMAIN, "ghcr.io", "quay.io", "nvcr.io", "gcr.io", "mcr.microsoft.com", "registry.gitlab.com"}
)
"""Public registries that are not looked up: behind a web proxy the server itself may know no names."""
LOOKUP_S = 5
SETTING = "the site's setting image_registries"

Lookup = Callable[[str], Iterable[str]]


def addresses(name: str) -> tuple[str, ...]:
    """The addresses of a name as this machine sees them; none where it has none, or they take too long."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(str(row[4][0]) for row in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError):
            return

    thread = threading.Thread(target=ask, name="ds01-registry-name", daemon=True)
    thread.start()
    thread.join(LOOKUP_S)
    return tuple(found)


@dataclass(frozen=True)
class Registries:
    """The site's list: names of registries with their port (``*`` for any), and `PUBLIC`."""

    listed: tuple[str, ...] = (PUBLIC,)
    lookup: Lookup = addresses

    def refusal(self, domain: str) -> str:
        """Why the engine is not sent to a registry, with a way out; nothing where it may be."""
        wanted = domain.lower()
        if {wanted, f"{_host(wanted)}:*"} & {entry.lower() for entry in self.listed}:
            return ""
        why = "is not among the registries that images come from here"
        if PUBLIC in self.listed:
            why = inner(wanted) or self._looked_up(wanted)
        if not why:
            return ""
        way = "take an image of a public registry, or ask an admin"
        return f"the registry {domain[:80]} {why} ({SETTING}); {way}"

    def _looked_up(self, domain: str) -> str:
        if domain in KNOWN:
            return ""
        found = tuple(self.lookup(_host(domain)))
        if not found:
            return "cannot be found from this machine"
        return "leads to an inner address" if any(not _outside(a) for a in found) else ""


def inner(domain: str) -> str:
    """What makes a registry one of this machine or its network by its name alone, or nothing."""
    host = _host(domain)
    # The engine's resolver also takes 127.1, 0x7f.1 and 2130706433 for addresses.
    if re.fullmatch(r"(?:0x[0-9a-f]*|[0-9]+)", host.rpartition(".")[2]):
        return "is an address, not a name"
    if "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa")):
        return "is a name of this machine or its network"
    return ""


def _host(domain: str) -> str:
    return domain.rpartition(":")[0] if ":" in domain else domain


def _outside(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None)
    return all(a.is_global and not a.is_multicast for a in (found, *([mapped] if mapped else [])))

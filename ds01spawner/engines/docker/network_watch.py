"""Keep the sessions' network in being while the hub runs.

The hub listens at the gateway of that network, so a network that is removed while no session runs (a
nightly ``docker network prune`` does that) takes the hub's own address away: every page hangs, and
nothing ends that a supervisor could restart. The hub's listening socket stays open meanwhile and works
again as soon as the same address is back.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import Any, Literal

import requests
from docker.errors import APIError, DockerException

from ...core.errors import EngineError
from ...core.labels import HUB, INSTALLATION
from .answers import NetworkJson
from .network import HubNetwork, addresses_of, ensure_network, find_network

log = logging.getLogger(__name__)
LOOK_S = 2.0
"""Seconds between looks whether this machine still has the address; such a look asks no one."""
ASK_S = 20.0
"""Seconds between looks that ask the engine."""
GIVE_UP_S = 30.0
"""Seconds without the address after which the hub cannot be helped from inside."""

State = Literal["there", "remade", "broken", "unknown"]


class NetworkWatch:
    """Looks, and makes the network anew where it is gone. Blocking; one thread uses it."""

    def __init__(
        self,
        client: Callable[[], Any],
        network: HubNetwork,
        hub_id: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        vital: bool = True,
        installation: str = "",
    ) -> None:
        """``vital`` says that the hub listens at the network's gateway, so that no other address will do."""
        self._client, self.network, self._hub_id, self._clock = client, network, hub_id, clock
        self._vital, self._installation = vital, installation
        self.listens_here = has_address(network.gateway)
        """Whether the gateway is an address of this process's own machine; not for a hub in a container."""
        self._asked = float("-inf")
        self._broken_since: float | None = None
        self.why = ""

    def look(self) -> State:
        """How the network is now."""
        now, address = self._clock(), self.listens_here and has_address(self.network.gateway)
        if (address or not self.listens_here) and now - self._asked < ASK_S:
            return "there"
        self._asked = now
        try:
            state = self._ask(address)
        except (EngineError, DockerException, requests.RequestException, OSError) as error:
            # An engine that does not answer removes no network either, unless the address went with it.
            self.why = f"the engine did not answer: {error}"
            state = "unknown" if address or not self.listens_here else "broken"
        if state != "broken":
            self._broken_since = None
        elif self._broken_since is None:
            self._broken_since = now
            log.error("The sessions' network %s: %s", self.network.name, self.why)
        return state

    @property
    def hopeless(self) -> bool:
        """Whether the hub's own address has been gone for so long that only a new start can help."""
        gone = self._broken_since
        return self._vital and self.listens_here and gone is not None and self._clock() - gone >= GIVE_UP_S

    def _ask(self, address: bool) -> State:
        client = self._client()
        found = find_network(client, self.network.name)
        whole = found is not None and (address or not self.listens_here)
        if found is not None and whole and addresses_of(found) == self.network:
            return "there"
        if found is not None and not self._clear(client, found):
            return "broken"
        made = ensure_network(client, self.network.name, self._hub_id, self.network, self._installation)
        if made != self.network and not self._vital:
            self.network = made
        if made != self.network:
            self.why = f"it was made anew, but {self.network.gateway} was not free: it has {made.gateway} now"
            return "broken"
        if self.listens_here and not has_address(made.gateway):
            self.why = f"this machine has no address {made.gateway} although the engine says so"
            return "broken"
        log.warning("The sessions' network %s was gone and is made anew as it was", made.name)
        return "remade"

    def _clear(self, client: Any, found: NetworkJson) -> bool:
        """Remove what has the network's name and is of no use; False, with the reason, when it must stay."""
        if found.get("Containers"):
            self.why = "its bridge or its addresses changed while containers use it"
            return False
        labels = found.get("Labels") or {}
        made_here = labels.get(INSTALLATION, "") in ("", self._installation)
        if labels.get(HUB) != self._hub_id or not made_here:
            self.why = "another one of this name, which this hub did not make, is in its place"
            return False
        try:
            client.remove_network(found["Id"])
        except APIError as error:
            self.why = f"what is left of it cannot be removed: {error.explanation or error}"
            return False
        return True


def has_address(address: str) -> bool:
    """Whether this machine has an address now; asked of the kernel by binding, without any traffic."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno not in (errno.EADDRNOTAVAIL, errno.EINVAL)
    return True

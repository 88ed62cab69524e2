"""The network of the sessions: one bridge on which containers reach the hub but never each other.

The hub and the proxy run on the host (or in its network), so they reach every session by its address
and sessions reach the hub at the bridge's gateway. Nothing is published on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import docker
from docker.errors import APIError, DockerException

from ...errors import EngineError
from ...labels import HUB

ICC = "com.docker.network.bridge.enable_icc"


@dataclass(frozen=True)
class HubNetwork:
    """A network fit for sessions. ``gateway`` is the host's own address on it."""

    name: str
    gateway: str
    subnet: str


def ensure_network(client: docker.APIClient, name: str, hub_id: str) -> HubNetwork:
    """The network ``name``, created where it is missing.

    An existing one is used only when it is a bridge that keeps its containers apart; otherwise
    ``EngineError`` says what is wrong and how to put it right. Safe to call at every start.
    """
    try:
        found = _find(client, name) or _create(client, name, hub_id)
    except DockerException as error:
        raise EngineError(f"the network {name!r} cannot be read or made: {error}") from error
    trouble = unfit(found)
    if trouble:
        raise EngineError(
            f"the Docker network {name!r} cannot carry sessions: {trouble}; remove it when no container "
            f"uses it (docker network rm {name}) and it is made anew, or name another one"
        )
    ipam = found["IPAM"]["Config"][0]
    return HubNetwork(name=name, gateway=ipam["Gateway"], subnet=ipam["Subnet"])


def unfit(network: dict[str, Any]) -> str:
    """Why a network, as inspected, must not carry sessions; empty when it may."""
    if network.get("Driver") != "bridge":
        return f"its driver is {network.get('Driver')!r}, not 'bridge'"
    if str((network.get("Options") or {}).get(ICC, "true")).lower() != "false":
        return f"sessions of different people could reach each other's ports ({ICC} is not false)"
    configs = (network.get("IPAM") or {}).get("Config") or []
    if not configs or not configs[0].get("Gateway"):
        return "it has no gateway, so sessions could not reach the hub"
    return ""


def _find(client: docker.APIClient, name: str) -> dict[str, Any] | None:
    exact = [n for n in client.networks(names=[name]) if n["Name"] == name]
    return dict(client.inspect_network(exact[0]["Id"])) if exact else None


def _create(client: docker.APIClient, name: str, hub_id: str) -> dict[str, Any]:
    try:
        made = client.create_network(
            name, driver="bridge", options={ICC: "false"}, labels={HUB: hub_id}, check_duplicate=True
        )
    except APIError as error:
        found = _find(client, name) if error.status_code == 409 else None  # another process was faster
        if found is None:
            raise
        return found
    return dict(client.inspect_network(made["Id"]))

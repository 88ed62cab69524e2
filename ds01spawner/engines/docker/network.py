"""The network of the sessions: one bridge on which containers reach the hub but never each other.

The hub and the proxy run on the host (or in its network), so they reach every session by its address
and sessions reach the hub at the bridge's gateway. Nothing is published on the host.

What the network was is kept in the state folder: a network that is gone (``docker network prune`` takes
one that no container uses) is made anew with the very same addresses, because the hub listens at one of
them and running sessions know it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException
from docker.types import IPAMConfig, IPAMPool

from ...core.errors import EngineError
from ...core.labels import HUB, INSTALLATION
from ...workspace.safefs import write_json
from .answers import NetworkJson

ICC = "com.docker.network.bridge.enable_icc"
BUILT_IN = frozenset({"bridge", "host", "none"})
"""Networks that every engine has; they cannot be removed, and are not ours to make."""
FILE = "network.json"
MAX_FILE = 4096


@dataclass(frozen=True)
class HubNetwork:
    """A network fit for sessions. ``gateway`` is the host's own address on it."""

    name: str
    gateway: str
    subnet: str


def ensure_network(
    client: docker.APIClient,
    name: str,
    hub_id: str,
    wanted: HubNetwork | None = None,
    installation: str = "",
) -> HubNetwork:
    """The network ``name``, created where it is missing, with the addresses of ``wanted`` if they are free.

    An existing one is used only when it is a bridge that keeps its containers apart; otherwise
    ``EngineError`` says what is wrong and how to put it right. Safe to call at every start.
    """
    try:
        found = find_network(client, name) or _create(
            client, name, {HUB: hub_id, INSTALLATION: installation}, wanted
        )
    except DockerException as error:
        raise EngineError(f"the network {name!r} cannot be read or made: {error}") from error
    trouble = unfit(found)
    if trouble:
        raise EngineError(
            f"the Docker network {name!r} cannot carry sessions: {trouble}; remove it when no container "
            f"uses it (docker network rm {name}) and it is made anew, or name another one"
        )
    return addresses_of(found)


def addresses_of(network: NetworkJson) -> HubNetwork:
    """The addresses of an inspected network; empty where it has none."""
    configs = (network.get("IPAM") or {}).get("Config") or [{}]
    return HubNetwork(network["Name"], configs[0].get("Gateway") or "", configs[0].get("Subnet") or "")


def unfit(network: NetworkJson) -> str:
    """Why a network, as inspected, must not carry sessions; empty when it may."""
    if network.get("Driver") != "bridge":
        return f"its driver is {network.get('Driver')!r}, not 'bridge'"
    if str((network.get("Options") or {}).get(ICC, "true")).lower() != "false":
        return f"sessions of different people could reach each other's ports ({ICC} is not false)"
    if not addresses_of(network).gateway:
        return "it has no gateway, so sessions could not reach the hub"
    return ""


def find_network(client: Any, name: str) -> NetworkJson | None:
    """The network of exactly this name, as inspected; None when the engine has none."""
    exact = [n for n in client.networks(names=[name]) if n["Name"] == name]
    if not exact:
        return None
    found: NetworkJson = client.inspect_network(exact[0]["Id"])
    return found


def remember(state_dir: Path, network: HubNetwork) -> None:
    """Keep the network's addresses for the time when it is gone, and for ``ds01 check``."""
    write_json(state_dir / FILE, asdict(network))


def remembered(state_dir: Path, name: str) -> HubNetwork | None:
    """The addresses that the network of this name had; None where none are known."""
    try:
        with (state_dir / FILE).open() as file:
            found = HubNetwork(**json.loads(file.read(MAX_FILE)))
    except (OSError, ValueError, TypeError):
        return None
    return found if found.name == name and found.gateway and found.subnet else None


def _create(
    client: docker.APIClient, name: str, labels: dict[str, str], wanted: HubNetwork | None
) -> NetworkJson:
    options = {
        "driver": "bridge",
        "options": {ICC: "false"},
        "labels": {key: value for key, value in labels.items() if value},
        "check_duplicate": True,
    }
    try:
        try:
            made = client.create_network(name, **options, ipam=_same(wanted))
        except APIError as error:
            # 403: the addresses overlap with another network's by now.
            if wanted is None or error.status_code == 409:
                raise
            made = client.create_network(name, **options)
    except APIError as error:
        found = find_network(client, name) if error.status_code == 409 else None  # another was faster
        if found is None:
            raise
        return found
    inspected: NetworkJson = client.inspect_network(made["Id"])
    return inspected


def _same(wanted: HubNetwork | None) -> IPAMConfig | None:
    if wanted is None:
        return None
    return IPAMConfig(pool_configs=[IPAMPool(subnet=wanted.subnet, gateway=wanted.gateway)])

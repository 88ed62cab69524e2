"""The sessions' network: whether it is there, keeps sessions apart, and what sessions reach from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from urllib.parse import urlsplit

from docker.errors import DockerException

from ...core.errors import EngineError
from ...core.settings import Settings
from ...site import Site
from ..base import Finding
from . import hub_address
from .engine import docker_of
from .isolation import METADATA, Probe
from .isolation_record import probe_site
from .listening import Listening, listening
from .network import BUILT_IN, ICC, find_network, remembered, unfit
from .network_watch import has_address

PRUNE = "docker network prune --filter 'label!=ds01.hub'"
RETURNS_S = 8.0
"""Seconds in which a hub that runs makes a missing network anew."""


def check_network(settings: Settings) -> Iterator[Finding]:
    """The networks of this engine's hubs, this hub's own first, and sessions that do not find their hub."""
    site = Site(settings)
    client = docker_of(site.engine).client
    try:
        yield from _own(settings, site)
        for network in client.networks(filters={"label": "ds01.hub"}):
            inspected = client.inspect_network(network["Id"])
            if trouble := unfit(inspected):
                name = network["Name"]
                mend = f"remove it when no session runs (docker network rm {name}); the hub makes it anew"
                yield Finding("error", f"network {name}: {trouble}", f"{ICC} keeps sessions apart", mend)
            else:
                yield Finding("ok", f"network {network['Name']} keeps its containers apart by its options")
    except DockerException as error:
        raise EngineError(f"the engine's networks cannot be read: {error}") from error
    yield from _stranded(settings, site)


def _own(settings: Settings, site: Site) -> Iterator[Finding]:
    name, client = settings.network, docker_of(site.engine).client
    if name in BUILT_IN:
        yield Finding(
            "site",
            f"sessions use the engine's own network {name!r}",
            "it is shared with every other container, and usually lets containers reach each other",
            "leave network_name to its default, so that the hub makes a network for sessions alone",
        )
        return
    known = remembered(settings.state_dir, name)
    until = time.monotonic() + (RETURNS_S if known else 0)
    while (found := find_network(client, name)) is None and time.monotonic() < until:
        time.sleep(0.5)
    if found is None:
        why = "no session can start" + (
            f", and the hub cannot be reached at {known.gateway}" if known else ""
        )
        yield Finding(
            "error",
            f"the sessions' network {name} is gone"
            if known
            else f"the sessions' network {name} is not there",
            why,
            "a running hub makes it anew within seconds, so look whether the hub runs, and start it again; "
            f"where networks are pruned at night, spare it: {PRUNE}",
        )
    elif known is not None and not found.get("Containers") and not _here(found, known.gateway):
        yield Finding(
            "error",
            f"this machine has no address {known.gateway}, although the network {name} is there",
            "its bridge was removed or its addresses were changed behind the engine's back",
            f"docker network rm {name}; the hub makes it anew with the addresses it had",
        )


def _here(found: object, gateway: str) -> bool:
    # A hub in a container of its own does not have the gateway's address, and needs not.
    return has_address(gateway) or not listening()


def _stranded(settings: Settings, site: Site) -> Iterator[Finding]:
    address = hub_address.remembered(settings.state_dir)
    if address is None:
        return
    mine = site.engine.look().sessions
    for each in hub_address.stranded(docker_of(site.engine).client, mine, address):
        labels = each.record.labels
        yield Finding(
            "error",
            f"session {labels.address} does not find the hub: it was told {each.told}, the hub is at "
            f"{address.api_url}",
            "whoever logs in to it anew gets an error 500; what runs in it goes on",
            f"give the hub its former address back, or retire the session and start it again "
            f"(ds01 retire {labels.address} --reason 'the hub was moved')",
        )


def check_isolation(settings: Settings) -> Iterator[Finding]:
    """Two containers try each other and the services of this machine; they are gone after some seconds."""
    site = Site(settings)
    found = probe_site(settings, docker_of(site.engine).client, datetime.now(timezone.utc), listening())
    address = hub_address.remembered(settings.state_dir)
    hub = (urlsplit(address.api_url).netloc,) if address else ()
    yield from isolation_findings(settings, found, listening(), hub)


def isolation_findings(
    settings: Settings, found: Probe, own: Sequence[Listening], hub: Sequence[str] = ()
) -> Iterator[Finding]:
    """What a probe means. ``hub`` is where sessions must reach the hub. Pure."""
    if found.verdict == "unknown":
        yield Finding(
            "warning",
            f"whether sessions on {settings.network} are kept apart could not be tried: {found.why}",
            "options of a network are no proof: firewall rules may be off or taken away",
            "start the hub once and fetch one of its images, then check again",
        )
        return
    if found.verdict == "open":
        yield Finding(
            "site" if settings.allow_open_network else "error",
            f"sessions on {found.name} reach each other: {', '.join(found.ways)}",
            "each person's programs can call, and attack, what another one's session listens on"
            + ("" if settings.allow_open_network else "; no session is started"),
            "let the engine manage the firewall (iptables, ip6tables), keep other rules out of its way, or "
            "use the network that the hub makes; allow_open_network = True starts sessions all the same",
        )
    else:
        ipv6 = "IPv4 and IPv6" if found.ipv6 else "IPv4; sessions have no IPv6"
        yield Finding("ok", f"two containers on {found.name} could not reach each other ({ipv6}; {found.at})")
    if not own:
        yield Finding(
            "site",
            "which of this machine's services sessions reach was not tried: they cannot be listed from here",
            "a service that listens on every address answers sessions at their gateway",
            "run ds01 check on the machine itself",
        )
    elif others := [s for s in found.services if s not in hub]:
        yield Finding(
            "site",
            f"sessions reach services of this machine besides the hub: {', '.join(others)}",
            "what listens there is open to every person's programs",
            "bind what people need not reach to 127.0.0.1, or refuse it to the sessions' bridge",
        )


def check_outside(settings: Settings) -> Iterator[Finding]:
    """Whether sessions reach the metadata service of a cloud; sends one packet out to each known address."""
    site = Site(settings)
    found = probe_site(settings, docker_of(site.engine).client, datetime.now(timezone.utc), (), METADATA)
    if found.verdict == "unknown":
        yield Finding("warning", f"what sessions reach outside could not be tried: {found.why}")
    elif found.outside:
        yield Finding(
            "site",
            f"sessions reach the metadata service of the machine's cloud: {', '.join(found.outside)}",
            "it may hand out the machine's own credentials to any program",
            "refuse it to the sessions' bridge: iptables -I DOCKER-USER -d 169.254.0.0/16 -j DROP",
        )
    else:
        yield Finding("ok", "no session reaches a cloud's metadata service")

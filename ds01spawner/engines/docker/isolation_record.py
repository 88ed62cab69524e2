"""The last word on whether sessions are kept apart: kept in the state folder, with its time.

Written by the hub's own probe and by ``ds01 check``; read at every start. A word about a network that has
been made anew since is about another network.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

import docker.errors
import requests

from ...core.errors import DS01Error
from ...core.settings import Settings
from ...environments.catalogue import load_catalogue
from ...workspace.safefs import write_json
from .isolation import Probe, probe
from .listening import Listening
from .network import find_network

FILE = "isolation.json"
MAX_FILE = 256 * 1024
_LISTS = ("ways", "services", "outside")


def save(state_dir: Path, found: Probe) -> None:
    """Keep a probe's result; whoever may not write there keeps nothing."""
    try:
        write_json(state_dir / FILE, asdict(found))
    except OSError:
        return


def load(state_dir: Path) -> Probe | None:
    """The last result; None where there is none that can be read."""
    try:
        with (state_dir / FILE).open() as file:
            data = json.loads(file.read(MAX_FILE))
        known = {f.name for f in fields(Probe)}
        values: dict[str, Any] = {k: tuple(v) if k in _LISTS else v for k, v in data.items() if k in known}
        return Probe(**values)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def ways_now(settings: Settings, client: Any) -> tuple[str, ...]:
    """How sessions reach each other by the last probe of the very network there is now; empty when they do
    not.

    Nothing known is nothing said: whether a network is fit by its options is judged elsewhere.
    """
    found = load(settings.state_dir)
    if found is None or found.verdict != "open":
        return ()
    try:
        network = find_network(client, settings.network)
    except (docker.errors.DockerException, requests.RequestException, OSError):
        return found.ways  # rather one start too few
    return found.ways if network is not None and network["Id"] == found.network else ()


def probe_site(
    settings: Settings,
    client: Any,
    now: datetime,
    listening: Iterable[Listening] = (),
    outside: Iterable[str] = (),
) -> Probe:
    """Probe the sessions' network of a site with one of its images, and keep the result."""
    at = now.isoformat(timespec="seconds")
    try:
        network = find_network(client, settings.network)
        if network is None:
            return Probe("unknown", at, name=settings.network, why="the network is not there")
        image = site_image(settings, client)
    except (docker.errors.DockerException, requests.RequestException, OSError, DS01Error) as error:
        return Probe("unknown", at, name=settings.network, why=f"the engine did not answer: {error}"[:300])
    if not image:
        return Probe("unknown", at, name=settings.network, why="none of the site's images is here yet")
    found = probe(client, network, image, settings.hub_id, now, list(listening), list(outside))
    save(settings.state_dir, found)
    return found


def site_image(settings: Settings, client: Any) -> str:
    """Id of one of the site's own images that is on this machine; empty when none is."""
    names = []
    if settings.environments is not None:
        names += [e.pinned or e.image for e in load_catalogue(settings.environments)]
    names += [settings.image] if settings.image else []
    for name in names:
        try:
            return str(client.inspect_image(name)["Id"])
        except docker.errors.NotFound:  # ImageNotFound is one
            continue
    return ""

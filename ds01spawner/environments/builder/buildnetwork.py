"""Which network a build's steps have: the site's word, else the network of builds, tried before it is used.

What came of it is kept in the state folder, for ``ds01 check``.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ...core.errors import DS01Error, EngineError
from ...core.settings import Settings
from ...engines.docker import buildnet
from ...engines.docker.image_store import Images, asking
from ...engines.docker.isolation_record import site_image
from ...engines.docker.network import HubNetwork, addresses_of, find_network
from ...workspace.safefs import write_json

FILE = "build-network.json"
MAX_FILE = 64 * 1024


@dataclass(frozen=True)
class Record:
    """What is known of the builds' network. Neither ``trouble`` nor ``reached``: it was seen to hold."""

    network: str
    at: str = ""
    trouble: str = ""
    """Why the rules are not in force, or could not be tried."""
    reached: tuple[str, ...] = ()
    """Addresses of this machine that a container on it reached."""


def ports_of(environ: Mapping[str, str]) -> tuple[int, ...]:
    """``DS01_BUILD_HOST_PORTS``: TCP ports of this machine that builds may reach."""
    found = []
    for word in environ.get("DS01_BUILD_HOST_PORTS", "").replace(",", " ").split():
        if not (word.isascii() and word.isdigit() and 0 < int(word) < 65536):
            raise DS01Error(f"DS01_BUILD_HOST_PORTS: {word[:20]!r} is not a port")
        found.append(int(word))
    return tuple(found)


class BuildsNetwork:
    """The network a build gets. `ready` is called before each build, from its thread."""

    def __init__(self, settings: Settings, images: Images, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._settings = settings
        self._images = images
        self._chosen = environ.get("DS01_BUILD_NETWORK", "")
        self._ports = ports_of(environ)
        self._tried: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def ready(self) -> str:
        """The name of the network, with its rules in force where they can be."""
        if self._chosen:
            save(self._settings.state_dir, Record(self._chosen, _now()))
            return self._chosen
        with self._lock, asking("making the network of builds"):
            client = self._images.client()
            name = buildnet.name_for(self._settings.network)
            made = buildnet.ensure(client, name, self._settings.hub_id, self._ports)
            seen = (made.bridge, made.gateway, made.trouble)
            if seen != self._tried:
                save(self._settings.state_dir, self._try(client, made))
                self._tried = seen
        return made.name

    def _try(self, client: Any, made: buildnet.BuildNetwork) -> Record:
        if made.trouble:
            return Record(made.name, _now(), made.trouble)
        try:
            image = site_image(self._settings, client)
            if not image:
                return Record(made.name, _now(), "none of the site's images is here to try it with")
            sessions = find_network(client, self._settings.network)
            others: Iterable[HubNetwork] = [addresses_of(sessions)] if sessions else []
            reached = buildnet.reached(client, made, image, others)
        except EngineError as error:
            return Record(made.name, _now(), str(error))
        return Record(made.name, _now(), "", tuple(reached))


def save(state_dir: Path, record: Record) -> None:
    """Keep what is known; whoever may not write there keeps nothing."""
    try:
        write_json(state_dir / FILE, asdict(record))
    except OSError:
        return


def load(state_dir: Path) -> Record | None:
    """What was kept; None where there is nothing that can be read."""
    try:
        with (state_dir / FILE).open() as file:
            data = json.loads(file.read(MAX_FILE))
        return Record(
            str(data["network"]), str(data["at"]), str(data["trouble"]), tuple(map(str, data["reached"]))
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

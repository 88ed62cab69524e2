"""The hub's inner address: what running sessions were told, and whether the hub still answers there.

A session asks the hub at every new log-in. One that was started when the hub had another inner address or
port runs on, but whoever logs in to it anew gets an error, and only starting it again helps.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker.errors
import requests

from ...core.errors import EngineError
from ...workspace.safefs import write_json
from ..base import EngineSession
from .network_watch import has_address

FILE = "hub_address.json"
VARIABLE = "JUPYTERHUB_API_URL"
EVERY = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104
FAILURES = (docker.errors.DockerException, requests.RequestException, OSError)


@dataclass(frozen=True)
class HubAddress:
    """Where the hub's API is for sessions, and what its socket is bound to."""

    api_url: str
    """As new sessions are told."""
    bound_to: str = ""
    """The address the hub listens at."""
    port: int = 0

    def answers(self, told: str) -> bool:
        """Whether a session that was told this address finds the hub. Asks the kernel only."""
        if not told or _place(told) == _place(self.api_url):
            return True
        host, port = _place(told)
        if not self.port or port != self.port:
            return False
        if self.bound_to in EVERY:
            return _is_local(host)
        return host == self.bound_to


@dataclass(frozen=True)
class Stranded:
    """A running session that does not find the hub."""

    record: EngineSession
    told: str


def remember(state_dir: Path, address: HubAddress) -> None:
    """Keep the hub's address for ``ds01 check``."""
    write_json(state_dir / FILE, asdict(address))


def remembered(state_dir: Path) -> HubAddress | None:
    """Where the hub was when it started last; None when that is not known."""
    try:
        with (state_dir / FILE).open() as file:
            return HubAddress(**json.loads(file.read(4096)))
    except (OSError, ValueError, TypeError):
        return None


def stranded(client: Any, sessions: Iterable[EngineSession], address: HubAddress) -> list[Stranded]:
    """The running sessions that were told another address than the hub has. Blocking; `EngineError`."""
    found = []
    for record in sessions:
        if record.state != "running":
            continue
        try:
            inspected = client.inspect_container(record.container)
        except docker.errors.NotFound:
            continue
        except FAILURES as error:
            raise EngineError(f"the engine did not answer: {error}") from error
        lines = inspected["Config"].get("Env") or []
        told = next((line.partition("=")[2] for line in lines if line.startswith(f"{VARIABLE}=")), "")
        if not address.answers(told):
            found.append(Stranded(record, told))
    return found


def _place(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return url, 0


def _is_local(host: str) -> bool:
    try:
        return has_address(host)
    except OSError:
        return False  # a name: what it means inside a session is not known here

"""What only the container engine tells: which sessions run, and counters where ``/proc`` is not ours.

One list call a pass, whatever the number of sessions. The per-container calls serve only a service that
cannot see the host's processes. Blocking: call from a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import docker
import requests
from docker.errors import DockerException
from docker.utils import kwargs_from_env

from ...core.errors import EngineError
from ...core.installation import Installation, session_of
from ...core.labels import MANAGED_FILTER, SessionLabels
from ...core.settings import Settings
from ..session_sample import Process, Sample, classify
from .connections import connect as open_client

_PARALLEL = 8
ENGINE_TIMEOUT = 20
_TIME = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)$")


@dataclass(frozen=True)
class Running:
    """A running session's container: its id, its labels and the addresses it is reached at."""

    container: str
    labels: SessionLabels
    addresses: tuple[str, ...] = ()
    raw: dict[str, str] = field(default_factory=dict, repr=False)


class EngineReader:
    """Reads one engine. ``installation`` gives the one whose sessions are ours."""

    def __init__(
        self, connect: Callable[[], docker.APIClient], installation: Callable[[], Installation | None]
    ) -> None:
        self._connect, self._installation = connect, installation

    def running(self) -> list[Running]:
        """Every running session of this hub; ``EngineError`` when the engine does not answer."""
        filters = {"label": [MANAGED_FILTER], "status": ["running"]}
        installation = self._installation()
        try:
            client = self._connect()
            try:
                listed = client.containers(filters=filters)
            finally:
                client.close()
        except (DockerException, requests.RequestException, OSError) as error:
            raise EngineError(f"the container engine did not answer: {error}") from error
        return [r for c in listed if (r := _running(c, installation)) is not None]

    def sample(self, containers: Collection[str]) -> dict[str, Sample]:
        """A look at each container through the engine's statistics, some at a time."""
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="ds01-stats") as pool:
            return dict(zip(containers, pool.map(self._look, containers), strict=True))

    def _look(self, container: str) -> Sample:
        try:
            client = self._connect()
            try:
                stats = client.stats(container, stream=False, one_shot=True)
                top = client.top(container, ps_args="-eo pid,time,args")
            finally:
                client.close()
            return _from_engine(stats, top)
        except (DockerException, requests.RequestException, OSError) as error:
            return Sample(None, None, None, missing=f"the container engine did not answer: {error}")
        except (KeyError, TypeError, ValueError) as error:
            return Sample(None, None, None, missing=f"the container engine's answer is odd: {error!r}")


def _running(container: dict[str, Any], installation: Installation | None) -> Running | None:
    labels = container.get("Labels") or {}
    # Links of other containers to it have a second slash.
    names = [n.lstrip("/") for n in container.get("Names") or () if n.count("/") <= 1]
    session = session_of(installation, labels, names[0] if names else "", container["Id"])
    if session is None:
        return None
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    addresses = tuple(n["IPAddress"] for n in networks.values() if n and n.get("IPAddress"))
    return Running(container["Id"], session, addresses, dict(labels))


def _from_engine(stats: dict[str, Any], top: dict[str, Any]) -> Sample:
    cpu = int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9
    networks = stats.get("networks")
    network = None
    if networks is not None:
        network = sum(int(n["rx_bytes"]) + int(n["tx_bytes"]) for n in networks.values())
    titles = [t.upper() for t in top["Titles"]]
    pid, time, command = titles.index("PID"), titles.index("TIME"), len(titles) - 1
    processes = []
    for line in top["Processes"] or ():
        name, kind = classify(str(line[command]).split())
        processes.append(Process(int(line[pid]), 0, name, kind, _seconds(line[time])))
    missing = "the engine does not tell its network use" if network is None else ""
    return Sample(cpu, network, tuple(processes), None, missing, sees_typing=False)


def _seconds(text: str) -> float:
    """CPU time as ps writes it: ``[days-][hours:]minutes:seconds``."""
    match = _TIME.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no CPU time")
    days, hours, minutes, seconds = (int(g or 0) for g in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60.0 + seconds


def connect(settings: Settings) -> docker.APIClient:
    """A client of the site's engine with a time limit."""
    extra = {"base_url": settings.docker_host} if settings.docker_host else kwargs_from_env()
    return open_client(timeout=ENGINE_TIMEOUT, **extra)

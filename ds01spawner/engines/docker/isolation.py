"""Whether sessions can reach each other, tried between two real containers on the sessions' network.

What a network's options say is not what a machine does: firewall rules may be off (``iptables: false``),
taken away by another program, or not made for IPv6. So one container listens and another one calls it by
every address that it has. Both are locked up as sessions are and run a script of ours in the Python of
one of the *site's* images; nothing of a person's runs here. Blocking; some seconds.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal

import docker.errors
import requests

from ...core.labels import CREATED_AT, HUB, PROBE
from .answers import NetworkJson
from .create import DROPPED_ENV, VOID
from .listening import Listening

log = logging.getLogger(__name__)
PORT = 18766
READY_S = 60.0
LOOK_S = 0.2
MAX_OUTPUT = 64 * 1024
MAX_TARGETS = 256
FORGOTTEN = timedelta(minutes=10)
METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200")
"""Where clouds answer a machine's own programs: most of them, AWS for containers, Alibaba."""
FAILURES = (
    docker.errors.DockerException,
    requests.RequestException,
    OSError,
    ValueError,
    KeyError,
    TypeError,
)
_CODE = Path(__file__).with_name("probe_script.py")
_COMMAND = 'p=$(command -v python3 || command -v python) && exec "$p" -I -c "$DS01_PROBE_CODE"'

Verdict = Literal["apart", "open", "unknown"]


@dataclass(frozen=True)
class Probe:
    """What one probe found."""

    verdict: Verdict
    at: str
    """ISO 8601 time."""
    network: str = ""
    """Id of the network on which it was tried."""
    name: str = ""
    """The network's name."""
    ways: tuple[str, ...] = ()
    """How a session reached another one, such as ``TCP over IPv4``."""
    services: tuple[str, ...] = ()
    """Services of the host that answered a session, ``address:port``."""
    outside: tuple[str, ...] = ()
    """Addresses beyond the host that answered a session, of those tried."""
    ipv6: bool = False
    """Whether sessions have IPv6 at all."""
    why: str = ""
    """Why nothing could be told."""


def probe(
    client: Any,
    network: NetworkJson,
    image: str,
    hub_id: str,
    now: datetime,
    listening: Sequence[Listening] = (),
    outside: Sequence[str] = (),
) -> Probe:
    """Try it on an inspected ``network`` with an ``image`` of the site that has a Python.

    ``listening`` are the host's own services to call as well; ``outside`` addresses whose port 80 is called.
    """
    made: list[str] = []
    base: dict[str, Any] = {
        "at": now.isoformat(timespec="seconds"),
        "network": str(network["Id"]),
        "name": network["Name"],
    }
    try:
        sweep(client, hub_id, now)
        return _probe(client, network, image, hub_id, now, listening, outside, base, made)
    except FAILURES as error:
        return Probe("unknown", why=str(getattr(error, "explanation", None) or error)[:300], **base)
    finally:
        for container in made:
            _remove(client, container)


def _probe(
    client: Any,
    network: NetworkJson,
    image: str,
    hub_id: str,
    now: datetime,
    listening: Sequence[Listening],
    outside: Sequence[str],
    base: dict[str, Any],
    made: list[str],
) -> Probe:
    word = uuid.uuid4().hex

    def start(plan: dict[str, Any]) -> str:
        plan = {"word": word, "port": PORT, **plan}
        made.append(_create(client, network["Name"], image, hub_id, now, plan))
        client.start(made[-1])
        return made[-1]

    listener = start({"role": "listen", "seconds": READY_S})
    listens = [(k, h) for k, h, works in _answer(client, listener, "listens") if works]
    if not any(kind == "tcp" and ":" not in host for kind, host in listens):
        return Probe("unknown", why="the container that listens did not hear itself", **base)
    targets = [(kind, host, PORT) for kind, host in listens]
    targets += [("port", host, port) for s in listening for host, port in s.seen_from(network)]
    targets += [("port", host, 80) for host in outside]
    targets = targets[:MAX_TARGETS]
    reached = _answer(client, start({"role": "call", "targets": targets}), "reached")
    hit = [target for target, yes in zip(targets, reached, strict=True) if yes]
    ways = tuple(f"{kind.upper()} over {_family(host)}" for kind, host, _ in hit if kind != "port")
    return Probe(
        "open" if ways else "apart",
        ways=tuple(dict.fromkeys(ways)),
        services=tuple(f"{h}:{p}" for kind, h, p in hit if kind == "port" and h not in outside),
        outside=tuple(h for kind, h, _ in hit if kind == "port" and h in outside),
        ipv6=any(":" in host for _, host in listens),
        **base,
    )


def sweep(client: Any, hub_id: str, now: datetime) -> None:
    """Remove what a probe left behind whose process died."""
    for row in client.containers(all=True, filters={"label": [PROBE, f"{HUB}={hub_id}"]}):
        try:
            created = datetime.fromisoformat((row.get("Labels") or {}).get(CREATED_AT, ""))
        except ValueError:
            continue
        if now - created > FORGOTTEN:
            _remove(client, row["Id"])


def _create(
    client: Any, network: str, image: str, hub_id: str, now: datetime, plan: Mapping[str, Any]
) -> str:
    made = client.create_container(
        image,
        entrypoint=["sh", "-c", _COMMAND],
        command=[],
        user="65534:65534",
        working_dir="/",
        environment={
            "DS01_PROBE_CODE": _CODE.read_text(),
            "DS01_PROBE_PLAN": json.dumps(plan),
            **dict.fromkeys(DROPPED_ENV, ""),
            "NVIDIA_VISIBLE_DEVICES": VOID,
        },
        labels={PROBE: plan["role"], HUB: hub_id, CREATED_AT: now.isoformat(timespec="seconds")},
        healthcheck={"test": ["NONE"]},
        host_config=client.create_host_config(
            network_mode=network,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            mem_limit="256m",
            pids_limit=64,
            log_config={"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        ),
    )
    return str(made["Id"])


def _answer(client: Any, container: str, key: str) -> list[Any]:
    """The line of JSON with this key that the script prints; ValueError when it never comes."""
    until = time.monotonic() + READY_S
    while True:
        running = client.inspect_container(container)["State"]["Running"]
        for line in _output(client, container).splitlines():
            with suppress(ValueError, KeyError, TypeError):
                return list(json.loads(line)[key])
        if not running or time.monotonic() > until:
            said = _output(client, container, stderr=True).strip().splitlines()
            raise ValueError(f"the probe did not answer: {said[-1] if said else 'it said nothing'}")
        time.sleep(LOOK_S)


def _output(client: Any, container: str, stderr: bool = False) -> str:
    """The start of what a container printed; never more than some kilobytes are read."""
    read = bytearray()
    stream = client.logs(container, stdout=not stderr, stderr=stderr, stream=True, follow=False)
    for chunk in stream:
        read += chunk
        if len(read) > MAX_OUTPUT:
            break
    stream.close()
    return bytes(read[:MAX_OUTPUT]).decode(errors="replace")


def _remove(client: Any, container: str) -> None:
    try:
        client.remove_container(container, force=True, v=True)
    except FAILURES as error:
        log.warning("A container of the isolation probe stays for the next one: %s", error)


def _family(host: str) -> str:
    return "IPv6" if ":" in host else "IPv4"


def utc_now() -> datetime:
    """The time of a probe."""
    return datetime.now(timezone.utc)

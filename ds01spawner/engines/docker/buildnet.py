"""The network of builds: outside and its package indexes, but nothing of this machine.

A bridge of its own keeps build steps from each other, and the engine keeps its bridges apart. What it does
not keep from them is the machine itself: the hub's API at the sessions' gateway, the service, the proxy,
whatever else listens. That takes rules in the machine's own firewall, in chains of ours, made anew at each
start and before each build. Where that cannot be done, the reason is kept and told. Blocking.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docker import errors as docker_errors

from ...core.errors import EngineError
from ...core.labels import HUB
from .answers import NetworkJson
from .network import BUILT_IN, ICC, HubNetwork, addresses_of, find_network, unfit

BRIDGE = "com.docker.network.bridge.name"
INNER = ("br-+", "docker+", "virbr+", "veth+", "cni+", "flannel+", "cali+", "lxc+", "lxdbr+", "podman+")
"""Interfaces behind which other containers and machines of this host are."""
LINKS = ("169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "127.0.0.0/8", "224.0.0.0/4")
"""Where clouds answer a machine's own programs, and addresses that are no one's outside."""
COMMAND_S = 20
PROBE_S = 30
_CONNECT = """
import socket, sys
for pair in sys.argv[1:]:
    host, port = pair.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 3).close()
    except OSError:
        pass
"""

Run = Callable[[Sequence[str], str], tuple[int, str]]


@dataclass(frozen=True)
class BuildNetwork:
    """The network, and why it does not keep builds from the machine; empty where it was seen to."""

    name: str
    bridge: str = ""
    gateway: str = ""
    trouble: str = ""


def name_for(sessions_network: str) -> str:
    """The name of the builds' network beside the sessions' one."""
    return f"{'ds01' if sessions_network in BUILT_IN else sessions_network}-build"


def ensure(
    client: Any, name: str, hub_id: str, ports: Iterable[int] = (), run: Run | None = None
) -> BuildNetwork:
    """The network, made where it is missing, with its rules. `EngineError` where it cannot be had at all.

    ``ports`` are TCP ports of this machine that builds may reach, such as a mirror's.
    """
    found = find_network(client, name) or _create(client, name, hub_id)
    if why := unfit(found):
        raise EngineError(f"the Docker network {name!r} cannot carry builds: {why}")
    bridge = (found.get("Options") or {}).get(BRIDGE) or f"br-{found['Id'][:12]}"
    gateway = addresses_of(found).gateway
    trouble = _cannot(gateway) or apply(bridge, ports, run or _run)
    return BuildNetwork(name, bridge, gateway, trouble)


def _create(client: Any, name: str, hub_id: str) -> NetworkJson:
    bridge = f"ds01b-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    try:
        client.create_network(
            name,
            driver="bridge",
            options={ICC: "false", BRIDGE: bridge},
            labels={HUB: hub_id},
            check_duplicate=True,
        )
    except docker_errors.APIError as error:
        if error.status_code != 409:  # another was faster
            raise EngineError(f"the network {name!r} cannot be made: {error.explanation}") from error
    found = find_network(client, name)
    if found is None:
        raise EngineError(f"the network {name!r} is gone again")
    return found


def _cannot(gateway: str) -> str:
    if os.geteuid() != 0:
        return "the service does not run as root, so it cannot set the firewall"
    try:
        with socket.socket() as probe:
            probe.bind((gateway, 0))
    except OSError:
        return "the service does not run in the network of the engine's machine"
    return "" if shutil.which("iptables") else "there is no iptables on this machine"


# ------------------------------------------------------------ rules


def chains(bridge: str) -> tuple[str, str]:
    """The names of our two chains for a bridge: what goes to this machine, and through it."""
    mark = hashlib.sha256(bridge.encode()).hexdigest()[:8]
    return f"DS01-BUILD-IN-{mark}", f"DS01-BUILD-FWD-{mark}"


def rules(bridge: str, ports: Iterable[int], *, ipv6: bool = False) -> str:
    """Our chains as ``iptables-restore`` reads them: emptied and filled in one step. Pure."""
    to_machine, through = chains(bridge)
    lines = ["*filter", f":{to_machine} - [0:0]", f":{through} - [0:0]"]
    if ipv6:  # the network has no IPv6 at all
        lines += [f"-A {to_machine} -j DROP", f"-A {through} -j DROP"]
    else:
        lines += [f"-A {to_machine} -p {kind} --dport 53 -j RETURN" for kind in ("udp", "tcp")]
        lines += [f"-A {to_machine} -p tcp --dport {port} -j RETURN" for port in sorted(set(ports))]
        lines += [f"-A {to_machine} -j REJECT --reject-with icmp-admin-prohibited"]
        lines += [f"-A {through} -d {address} -j REJECT" for address in LINKS]
        lines += [f"-A {through} -o {each} -j REJECT" for each in (bridge, *INNER)]
        lines += [f"-A {through} -j RETURN"]
    return "\n".join([*lines, "COMMIT", ""])


def apply(bridge: str, ports: Iterable[int], run: Run) -> str:
    """Put the rules in force; idempotent. Returns why that did not work, or nothing."""
    allowed = tuple(ports)
    for tool, ipv6 in (("iptables", False), ("ip6tables", True)):
        if ipv6 and not shutil.which(tool):
            continue
        code, said = run([f"{tool}-restore", "--noflush", "-w", "10"], rules(bridge, allowed, ipv6=ipv6))
        if code:
            return f"{tool}-restore failed: {said[:200]}"
        to_machine, through = chains(bridge)
        # The engine keeps what is in DOCKER-USER, and puts it before its own rules.
        known = run([tool, "-w", "10", "-n", "-L", "DOCKER-USER"], "")[0] == 0
        for chain, ours in (("INPUT", to_machine), ("DOCKER-USER" if known else "FORWARD", through)):
            jump = ["-i", bridge, "-j", ours]
            if run([tool, "-w", "10", "-C", chain, *jump], "")[0] == 0:
                continue
            code, said = run([tool, "-w", "10", "-I", chain, "1", *jump], "")
            if code:
                return f"{tool} failed: {said[:200]}"
    return ""


def withdraw(bridge: str, run: Run | None = None) -> None:
    """Take our chains out again; what is not there is no error."""
    run = run or _run
    for tool in ("iptables", "ip6tables"):
        if not shutil.which(tool):
            continue
        for chain, ours in zip(
            ("INPUT", "DOCKER-USER", "FORWARD"), (*chains(bridge), chains(bridge)[1]), strict=True
        ):
            while run([tool, "-w", "10", "-D", chain, "-i", bridge, "-j", ours], "")[0] == 0:
                pass
        for ours in chains(bridge):
            run([tool, "-w", "10", "-F", ours], "")
            run([tool, "-w", "10", "-X", ours], "")


def _run(command: Sequence[str], given: str) -> tuple[int, str]:
    try:
        done = subprocess.run(
            list(command), input=given, capture_output=True, text=True, timeout=COMMAND_S, check=False
        )
    except (OSError, subprocess.SubprocessError) as error:
        return 1, f"{type(error).__name__}: {error}"
    return done.returncode, (done.stderr or done.stdout).strip()


# ------------------------------------------------------------ seen, not believed


def reached(client: Any, network: BuildNetwork, image: str, others: Iterable[HubNetwork] = ()) -> list[str]:
    """Addresses of this machine that a container on the network did reach, tried with a listener of ours.

    ``image`` is one of the site's with a Python. `EngineError` where it could not be tried.
    """
    gateways = [g for g in (network.gateway, *(o.gateway for o in others)) if g]
    heard: list[str] = []
    with socket.create_server(("0.0.0.0", 0), backlog=16) as listener:  # noqa: S104 (closed in a moment)
        listener.settimeout(0.2)
        done = threading.Event()
        thread = threading.Thread(target=_listen, args=(listener, done, heard), daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        try:
            _call(client, network.name, image, [f"{gateway}:{port}" for gateway in gateways])
        finally:
            done.set()
            thread.join(5)
    return sorted(set(heard))


def _listen(listener: socket.socket, done: threading.Event, heard: list[str]) -> None:
    while not done.is_set():
        with suppress(TimeoutError):
            connection, _ = listener.accept()
            heard.append(str(connection.getsockname()[0]))
            connection.close()


def _call(client: Any, network: str, image: str, targets: Sequence[str]) -> None:
    host = client.create_host_config(
        network_mode=network,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        pids_limit=32,
        mem_limit="128m",
    )
    script = 'p=$(command -v python3 || command -v python) && exec "$p" -I -c "$0" "$@"'
    name = f"ds01-probe-{uuid.uuid4().hex[:12]}"
    try:
        client.create_container(
            image, entrypoint=["sh", "-c", script, _CONNECT, *targets], name=name, host_config=host,
            user="54321:54321", labels={"ds01.probe": image},
        )  # fmt: skip
        client.start(name)
        code = client.wait(name, timeout=PROBE_S)["StatusCode"]
    except (docker_errors.DockerException, OSError) as error:
        raise EngineError(f"it could not be tried: {error}") from error
    finally:
        with suppress(docker_errors.APIError):
            client.remove_container(name, force=True, v=True)
    if code:
        raise EngineError(f"it could not be tried: the probe ended with {code}")

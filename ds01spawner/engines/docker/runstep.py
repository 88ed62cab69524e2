"""One RUN of a Dockerfile as a locked-up container of ours, and its files as the next image.

The engine's own builder cannot drop capabilities, bound processes or forbid new privileges, so what a
person's Dockerfile runs is run here. Blocking: call from a thread.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docker import errors as docker_errors
from docker.types import LogConfig

from .bounded import CHUNK, frames

NAME = "ds01-run-"
"""How the containers are called; they have no label of ours, because labels go into the image."""
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETUID")
"""What package managers need to unpack files of other owners and to become their own users."""
KILLED = 137
COMMIT_S = 900


@dataclass(frozen=True)
class Sandbox:
    """What the commands of a build may use. ``network`` is the engine's mode: a network, ``none``, ``""``."""

    memory: int | None = None
    cpus: float | None = None
    pids: int = 2048
    layer: int | None = None
    """Bytes of files one command may leave, as they seem: a sparse file becomes as large as it seems."""
    network: str = ""
    runtime: str = ""
    seal: Callable[[str], str] = str
    """Adds to what an image that a command made says of itself whose build it was."""
    """The plain runtime: the default of a host with GPUs may hand them to whoever asks by a variable."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and the image that came out where it ended well."""

    code: int
    image: str = ""
    cached: bool = False
    too_large: int = 0
    """Bytes it left, where they are more than they may be; then there is no image."""


class Cancelled(Exception):
    """The build is no longer wanted."""


def run(
    client: Any,
    image: str,
    argv: Sequence[str],
    sandbox: Sandbox,
    name: str,
    scope: str,
    say: Callable[[str], None],
    wanted: Callable[[], bool],
) -> Ended:
    """Run ``argv`` on ``image``; what was run before in the same ``scope`` is taken from there.

    ``say`` gets the output, ``wanted`` is asked twice a second. `Cancelled` when it says no.
    """
    config = client.inspect_image(image)
    note = cache_note(image, argv, scope, sandbox.network)
    note = sandbox.seal(note)
    if known := cached(client, image, note):
        return Ended(0, known, cached=True)
    _remove(client, name)
    made = client.create_container(
        image,
        entrypoint=list(argv),
        name=name,
        healthcheck={"test": ["NONE"]} if config["Config"].get("Healthcheck") else None,
        host_config=host_config(client, sandbox),
    )["Id"]
    try:
        _follow(client, made, say, wanted)
        state = client.inspect_container(made)["State"]
        code = KILLED if state.get("OOMKilled") else int(client.wait(made, timeout=COMMIT_S)["StatusCode"])
        if code:
            return Ended(code)
        if sandbox.layer is not None and (left := _left_behind(client, made)) > sandbox.layer:
            return Ended(0, too_large=left)
        image_config = {**config["Config"], "Entrypoint": config["Config"].get("Entrypoint") or []}
        body = client._post_json(
            client._url("/commit"),
            data=image_config,
            params={"container": made, "pause": 0, "comment": note, "author": config.get("Author") or ""},
            timeout=COMMIT_S,
        )
        return Ended(0, str(client._result(body, json=True)["Id"]))
    finally:
        _remove(client, made)


def host_config(client: Any, sandbox: Sandbox) -> dict[str, Any]:
    """How the container of a command is locked up."""
    options: dict[str, Any] = {}
    if sandbox.memory is not None:
        options |= {"mem_limit": sandbox.memory, "memswap_limit": sandbox.memory}
    if sandbox.cpus is not None:
        options |= {"cpu_period": 100_000, "cpu_quota": int(sandbox.cpus * 100_000)}
    if sandbox.network:
        options["network_mode"] = sandbox.network
    if sandbox.runtime:
        options["runtime"] = sandbox.runtime
    config: dict[str, Any] = client.create_host_config(
        cap_drop=["ALL"],
        cap_add=list(CAPABILITIES),
        security_opt=["no-new-privileges"],
        pids_limit=sandbox.pids,
        ipc_mode="private",
        # What it prints is read while it runs; a log file of the engine's would fill the disk.
        log_config=LogConfig(type="none"),
        **options,
    )
    return config


def without_triggers(client: Any, image: str, name: str) -> str:
    """The image without its ONBUILD lines, so that the engine's builder does not run them itself."""
    config = client.inspect_image(image)
    note = cache_note(image, ["without triggers"], "", "")
    if known := cached(client, image, note):
        return known
    _remove(client, name)
    made = client.create_container(image, entrypoint=["true"], name=name, network_disabled=True)["Id"]
    try:
        plain = {**config["Config"], "OnBuild": None, "Entrypoint": config["Config"].get("Entrypoint") or []}
        params = {"container": made, "pause": 0, "comment": note, "author": config.get("Author") or ""}
        body = client._post_json(client._url("/commit"), data=plain, params=params, timeout=COMMIT_S)
        return str(client._result(body, json=True)["Id"])
    finally:
        _remove(client, made)


def cache_note(image: str, argv: Sequence[str], scope: str, network: str) -> str:
    """What an image that a command made says of itself: nothing that a Dockerfile can write."""
    what = json.dumps(["ds01-run", 1, image, list(argv), scope, network])
    return f"ds01-run {hashlib.sha256(what.encode()).hexdigest()}"


def cached(client: Any, parent: str, note: str) -> str:
    """The newest image on ``parent`` that was made by the same command in the same scope, or nothing."""
    rows = [row for row in client.images(all=True) if row.get("ParentId") == parent]
    for row in sorted(rows, key=lambda r: r.get("Created", 0), reverse=True):
        with suppress(docker_errors.ImageNotFound):
            if client.inspect_image(row["Id"]).get("Comment") == note:
                return str(row["Id"])
    return ""


def clear_leftovers(client: Any, known: Callable[[str], bool]) -> int:
    """Remove what a crash left running of builds that are ``known`` as ours; returns how many."""
    removed = 0
    for row in client.containers(all=True, filters={"name": f"^/?{NAME}"}):
        name = str((row.get("Names") or [""])[0]).lstrip("/")
        if name.startswith(NAME) and known(name.removeprefix(NAME).rpartition("-")[0]):
            _remove(client, row["Id"])
            removed += 1
    return removed


def _follow(client: Any, container: str, say: Callable[[str], None], wanted: Callable[[], bool]) -> None:
    connection = client.attach_socket(container, params={"stdout": 1, "stderr": 1, "stream": 1})
    try:
        client.start(container)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for chunk in frames(_receiver(connection, wanted)):
            say(decoder.decode(chunk))
        say(decoder.decode(b"", final=True))
    finally:
        connection.close()
    _ended(client, container, wanted)


def _receiver(connection: Any, wanted: Callable[[], bool]) -> Callable[[int], bytes]:
    plain = getattr(connection, "_sock", connection)
    plain.settimeout(0.5)

    def receive(size: int) -> bytes:
        while True:
            if not wanted():
                raise Cancelled
            try:
                return bytes(plain.recv(min(size, CHUNK)))
            except TimeoutError:
                continue

    return receive


def _ended(client: Any, container: str, wanted: Callable[[], bool]) -> None:
    """Wait for the end also of a command that has closed its output."""
    while client.inspect_container(container)["State"]["Running"]:
        if not wanted():
            raise Cancelled
        time.sleep(0.2)


def _left_behind(client: Any, container: str) -> int:
    url = client._url("/containers/{0}/json", container)
    data = client._result(client._get(url, params={"size": 1}), json=True)
    return int(data.get("SizeRw") or 0)


def _remove(client: Any, container: str) -> None:
    with suppress(docker_errors.NotFound):
        client.remove_container(container, force=True, v=True)

"""The container in which git fetches a new project: made, looked at, removed. Blocking.

It is a session's container without a session: the same image, identity, network and hardening (`finalise`
has the last word here too), no GPU, the limits of the policy, and the new project's folder alone. Its labels
are not a session's, so it counts as nobody's; `sweep` removes what a dead hub left behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import docker.errors

from ...core.errors import EngineError
from ...core.installation import Installation
from ...core.labels import CONTAINER, CREATED_AT, FETCH, FETCH_SIGNED, HUB, PROJECT, USER, SessionLabels
from ...policy.sources import GitSource
from .bounded import log_tail
from .create import WORKSPACE, ContainerSpec, Resources, finalise

NO_GIT = 90
"""Exit code of the script below where the image has no git."""
HOME = "/tmp"  # noqa: S108
READ_BYTES = 256 * 1024
READ_LINES = 30
# A time limit inside too: a hub that dies must not leave git waiting for a server for ever.
SCRIPT = f"""\
command -v git >/dev/null 2>&1 || exit {NO_GIT}
if command -v timeout >/dev/null 2>&1; then exec timeout -s KILL "$0" "$@"; fi
exec "$@"
"""
# A server that sends nothing for a minute is given up.
GIT_SETTINGS = (
    "credential.helper=",
    "advice.detachedHead=false",
    "http.lowSpeedLimit=1",
    "http.lowSpeedTime=60",
)
PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})
"""Variables of a session, in any case of letters, that git needs as well."""


@dataclass(frozen=True)
class FetchSpec:
    """One repository to fetch. Plain values."""

    source: GitSource
    token: str
    """The session for which it is fetched, or another unique name; names the container."""
    user: str
    project: str
    hub: str
    installation: Installation
    image: str
    """Immutable id of the image."""
    uid: int
    gid: int
    folder: str
    """The folder to fill, as the engine sees it."""
    seconds: int
    max_bytes: int
    schemes: tuple[str, ...]
    created_at: str
    """ISO 8601 time of the start."""
    resources: Resources = field(default_factory=Resources)
    network: str = "bridge"
    host: Mapping[str, Any] = field(default_factory=dict)
    """What else docker-py's ``create_host_config`` is told, as the sessions' network needs (``dns``, …)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The session's environment, of which only the web proxies are used."""
    image_path: str = ""
    log_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The container's name."""
        return f"ds01-fetch-{self.token[:32]}"


@dataclass(frozen=True)
class Look:
    """How a fetch stands: ``code`` None while it runs."""

    code: int | None
    output: str
    oom: bool = False


def git_command(spec: FetchSpec) -> list[str]:
    """The clone as an argument list. Whole history, as people expect of a project; no submodules."""
    branch = ["--branch", spec.source.branch] if spec.source.branch else []
    options = [part for setting in GIT_SETTINGS for part in ("-c", setting)]
    return [
        *("git", *options, "clone", "--progress", "--no-recurse-submodules", *branch),
        *("--", spec.source.url, WORKSPACE),
    ]


def create_kwargs(client: Any, spec: FetchSpec) -> dict[str, Any]:
    """The arguments of ``docker create``."""
    env = {k: v for k, v in spec.env.items() if k.lower() in PROXIES}
    env |= {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "",
        # Redirects too: nothing but these, whatever the image's or a server's git settings say.
        "GIT_ALLOW_PROTOCOL": ":".join(spec.schemes),
        "LC_ALL": "C",
    }
    ulimits = {**spec.resources.ulimits, "fsize": (spec.max_bytes, spec.max_bytes)}
    container = ContainerSpec(
        labels=SessionLabels(spec.user, "", spec.project, spec.hub, spec.token),
        installation=spec.installation,
        image=spec.image,
        uid=spec.uid,
        gid=spec.gid,
        user_name="user",
        home=HOME,
        workspace=spec.folder,
        resources=replace(spec.resources, ulimits=ulimits, cgroup_parent=""),
        env=env,
        image_path=spec.image_path,
        hostname="fetch",
        stop_timeout=1,
        log_config=spec.log_config,
    )
    given = {
        "name": spec.name,
        "entrypoint": ["/bin/sh", "-c", SCRIPT, str(spec.seconds)],
        "command": git_command(spec),
        "host_config": client.create_host_config(**{"network_mode": spec.network, **spec.host}),
    }
    final = finalise(given, container)
    told = {
        FETCH: spec.token,
        USER: spec.user,
        PROJECT: spec.project,
        HUB: spec.hub,
        CREATED_AT: spec.created_at,
        CONTAINER: spec.name,
    }
    final["labels"] = spec.installation.sign(told, FETCH_SIGNED)
    return final


def begin(client: Any, spec: FetchSpec) -> str:
    """Create and start the container; returns its id. `EngineError` says why it cannot run."""
    try:
        container = str(client.create_container(**create_kwargs(client, spec))["Id"])
        client.start(container)
    except docker.errors.APIError as error:
        raise EngineError(f"git cannot be run in this environment: {error.explanation or error}") from error
    return container


def look(client: Any, container: str) -> Look:
    """Whether it still runs, how it ended, and the last of what git said."""
    state = client.inspect_container(container)["State"]
    raw = log_tail(client, container, READ_BYTES, tail=READ_LINES)
    # Created is not ended: its exit code means nothing yet.
    code = int(state.get("ExitCode") or 0) if state.get("Status") in ("exited", "dead") else None
    return Look(code, raw.decode(errors="replace"), bool(state.get("OOMKilled")))


def remove(client: Any, token: str) -> None:
    """Remove the container of a fetch, if there is one. Idempotent; its label is read again first."""
    name = f"ds01-fetch-{token[:32]}"
    try:
        found = client.inspect_container(name)
        if (found["Config"].get("Labels") or {}).get(FETCH) != token:
            return
        client.remove_container(found["Id"], force=True, v=True)
    except docker.errors.NotFound:
        return
    except docker.errors.APIError as error:
        if error.status_code != 409:  # a removal is under way already
            raise


def forgotten(
    client: Any, installation: Installation, now: datetime, older_than: timedelta
) -> list[tuple[str, str]]:
    """(user, token) of this installation's fetches that are older than any start may take.

    With a forged one, a build step could have the new project of another user thrown away.
    """
    found = []
    for row in client.containers(all=True, filters={"label": [FETCH]}):
        labels = row.get("Labels") or {}
        if not any(installation.made_fetch(labels, n.lstrip("/")) for n in row.get("Names") or ()):
            continue
        try:
            created = datetime.fromisoformat(labels.get(CREATED_AT, ""))
        except ValueError:
            continue
        if now - created > older_than:
            found.append((labels.get(USER, ""), labels[FETCH]))
    return found

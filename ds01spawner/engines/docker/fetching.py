"""Fetch a git repository in a container of its own, and watch time, space and the wish to go on.

Never in the hub's process: the server's answers and the repository's content are strangers' work, so they
meet only a container that is locked up as a session is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import docker.errors
import requests

from ... import messages
from ...core.errors import EngineError, Refused
from ...policy.resolve import Person
from ...policy.sources import GitSource
from ...policy.units import format_duration, say_size
from ...site import Site
from ...workspace import gitwords, staging
from ...workspace.projects import Workspace
from ...workspace.used_space import measure
from . import fetch as container
from .create import WORKSPACE, Resources, log_bound
from .engine import docker_of
from .fetch import FetchSpec, Look
from .image_store import Resolved
from .mount_sources import MountSources, compare, hold_of, shares_mounts

log = logging.getLogger(__name__)
POLL_S = 0.4
MEASURE_S = 1.0
"""Seconds between two looks at the space it takes; longer where looking takes long."""
MEASURE_BUDGET_S = 10.0
AT_ONCE = 8
"""Repositories that one hub fetches at a time, one for each person: a slow server holds up its own people."""
SIGKILLED = 137

Tell = Callable[[str, float], None]
"""Called with what git is doing, and how far it is."""


class FetchFailed(Refused):
    """A repository that could not be fetched; ``log_tail`` are git's last lines, as plain text."""

    def __init__(self, refusal: Any, log_tail: str = "") -> None:
        super().__init__(refusal)
        self.log_tail = log_tail


def spec_for(
    site: Site,
    person: Person,
    project: str,
    source: GitSource,
    staged: Workspace,
    image: Resolved,
    token: str,
    now: datetime,
    **more: Any,
) -> FetchSpec:
    """A fetch under the person's limits. ``more`` are further fields of `FetchSpec`. Blocking."""
    settings, session, installation = site.settings, site.limits(person, now).session, site.installation
    if installation is None:
        raise Refused(messages.no_installation(str(settings.state_dir)))
    info = docker_of(site.engine).info()
    count = int(info.get("NCPU") or 0)
    cpus = min(session.cpus, float(count)) if session.cpus and count else session.cpus
    values = {
        "source": source,
        "token": token,
        "user": person.name,
        "project": project,
        "hub": settings.hub_id,
        "installation": installation,
        "image": image.image_id,
        "uid": staged.identity.uid,
        "gid": staged.identity.gid,
        "folder": docker_of(site.engine).host_path(staged.path),
        "seconds": settings.git_time,
        "max_bytes": settings.git_size,
        "schemes": tuple(settings.git_schemes),
        "created_at": now.isoformat(timespec="seconds"),
        "resources": Resources(
            cpus=cpus,
            memory=session.memory,
            swap=session.swap or 0,
            pids=session.pids,
            ulimits=session.ulimits,
        ),
        "network": settings.network,
        "image_path": image.facts.env.get("PATH", ""),
        "log_config": log_bound(info),
    }
    return FetchSpec(**{**values, **more})


async def fetch(
    site: Site, spec: FetchSpec, folder: Path, tell: Tell, *, key: str = "", environment: str = ""
) -> None:
    """Fill ``folder`` with the repository; `FetchFailed` says why not.

    ``key`` keeps order with other engine calls; ``environment`` names the image for people. Whoever calls
    it calls `clear` when it fails or is cancelled, which stops it.
    """
    engine, began, measured = docker_of(site.engine), time.monotonic(), 0.0
    shown = ""
    try:
        made = await engine.run(partial(_begin, site=site, spec=spec, folder=folder), key=key or spec.name)
        while (found := await engine.run(partial(container.look, container=made), pool="read")).code is None:
            text, fraction = gitwords.progress(found.output)
            if text != shown:
                tell(text, fraction)
                shown = text
            if time.monotonic() - began > spec.seconds:
                raise _failed(messages.fetch_too_long(str(spec.source), _duration(spec), "git_time"), found)
            if time.monotonic() >= measured:
                measured = time.monotonic()
                await _check_size(spec, folder, found)
                measured += max(MEASURE_S, 5 * (time.monotonic() - measured))
            await asyncio.sleep(POLL_S)
        await engine.run(partial(container.remove, token=spec.token), pool="stop", key=key or spec.name)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(f"the container engine failed while git was fetching: {error}") from error
    judge(spec, found, environment)
    await _check_size(spec, folder, found)


def _begin(client: Any, site: Site, spec: FetchSpec, folder: Path) -> str:
    """Start the container on the very folder that was made for it; `Refused` when that was exchanged."""
    root, docker_host = site.settings.workspace_root, site.settings.docker_host
    sources = MountSources(
        f"{spec.token}-fetch", shares_mounts=shares_mounts(docker_host), hold=hold_of(site.installation)
    )
    try:
        try:
            held = sources.below(root, folder.relative_to(root).parts, WORKSPACE, spec.folder)
        except OSError as error:
            raise Refused(messages.folder_swapped([spec.project])) from error
        if sources.owner(WORKSPACE) != spec.uid:
            raise Refused(messages.folder_swapped([spec.project]))
        made = container.begin(client, replace(spec, folder=held))
        pid = int(client.inspect_container(made)["State"].get("Pid") or 0)
        if pid:
            compare(docker_of(site.engine), made, pid, sources)
        return made
    finally:
        sources.close()


def judge(spec: FetchSpec, found: Look, environment: str = "") -> None:
    """Nothing when git ended well, else `FetchFailed`."""
    source = str(spec.source)
    if found.code == 0:
        return
    if found.code == container.NO_GIT:
        raise _failed(messages.no_git(environment or "chosen"))
    if gitwords.is_too_large(found.output):
        raise _failed(messages.fetch_too_large(source, say_size(spec.max_bytes), "git_size"), found)
    if found.oom:
        why = "it needs more memory than you may use"
        do = "clone it with --depth 1 in a terminal of the session"
    elif found.code == SIGKILLED:
        raise _failed(messages.fetch_too_long(source, _duration(spec), "git_time"), found)
    else:
        why, do = gitwords.reason(found.output)
    raise _failed(messages.fetch_failed(source, why, gitwords.last_word(found.output), do), found)


async def _check_size(spec: FetchSpec, folder: Path, found: Look) -> None:
    size = await asyncio.to_thread(measure, folder, MEASURE_BUDGET_S)
    # What cannot be counted in time, or lies deeper than anybody's project, counts as too large.
    if size is None or not size.complete or size.bytes > spec.max_bytes:
        limit = say_size(spec.max_bytes)
        raise _failed(messages.fetch_too_large(str(spec.source), limit, "git_size"), found)


def _failed(refusal: Any, found: Look | None = None) -> FetchFailed:
    return FetchFailed(refusal, "\n".join(gitwords.lines(found.output)) if found else "")


def _duration(spec: FetchSpec) -> str:
    return format_duration(spec.seconds)


def clear(site: Site, user: str, token: str) -> None:
    """Stop and remove a fetch, and throw away what it brought. Idempotent, blocking."""
    try:
        container.remove(docker_of(site.engine).client, token)
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(f"the container that fetched a project stays: {error}") from error
    finally:
        staging.abandon(site.workspaces, user, token)


def sweep(site: Site, now: datetime) -> list[str]:
    """Clear what fetches of a dead hub left behind; returns their tokens. Blocking."""
    older = timedelta(seconds=site.settings.start_timeout)
    client, installation = docker_of(site.engine).client, site.installation
    if installation is None:
        return []
    try:
        found = container.forgotten(client, installation, now, older)
        for user, token in found:
            clear(site, user, token)
            log.warning("Removed what fetching a new project of %s left behind", user)
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"what old fetches left behind stays: {error}") from error
    return [token for _, token in found]


# --- taking turns -----------------------------------------------------------------------------------


class _Turns:
    def __init__(self) -> None:
        self.all = asyncio.Semaphore(AT_ONCE)
        self.each: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()


@asynccontextmanager
async def turn(user: str) -> AsyncIterator[None]:
    """Wait until it is this person's turn to make a new project: one at a time each."""
    turns = _turns.setdefault(asyncio.get_running_loop(), _Turns())
    lock = turns.each.setdefault(user, asyncio.Lock())
    async with lock, turns.all:  # the lock goes with the last who holds or awaits it
        yield


NETWORK = {
    "NetworkMode": "network_mode",
    "Dns": "dns",
    "DnsSearch": "dns_search",
    "DnsOptions": "dns_opt",
    "ExtraHosts": "extra_hosts",
}
"""What of a container's host settings says how it reaches the network, and its name in the SDK."""


def as_session(spec: FetchSpec, native: Mapping[str, Any]) -> FetchSpec:
    """The fetch on the network settings and web proxies of a session that is created so."""
    given, env = native.get("host_config") or {}, native.get("environment") or {}
    host = {NETWORK[name]: value for name, value in given.items() if name in NETWORK and value}
    network = str(host.pop("network_mode", "") or spec.network)
    return replace(spec, network=network, host=host, env=env if isinstance(env, Mapping) else {})

"""What is wrong with a site, why it matters and what mends it. Reads everything, changes nothing.

Each area is a function from the settings to findings; an area that cannot be looked at is itself a
finding, so one broken part never hides the others. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from .engines.docker.findings import Finding, Level, check_gpus
from .engines.docker.network import ICC, unfit
from .engines.docker.retire import leftovers
from .errors import DS01Error
from .images.catalogue import load_catalogue
from .images.engine import ImageMissing, Images
from .images.preflight import Host, check, needs_probe
from .pages import text
from .policy.lint import lint
from .policy.load import Policy, load_policy
from .settings import Settings
from .site import Site
from .store import Store
from .workspace.disk import free_bytes
from .workspace.templates import templates

LOW_SPACE = 5 * 2**30
IMAGE_LEVELS: dict[str, tuple[Level, str]] = {
    "refuse": ("error", "it cannot run as a session"),
    "gpu": ("warning", "sessions with a GPU cannot use it"),
    "note": ("warning", ""),
}


def diagnose(settings: Settings, areas: Iterable[str]) -> list[dict[str, Any]]:
    """Findings of the chosen areas, as JSON-able rows in the order of `AREAS`."""
    chosen, rows = set(areas), []
    for area, look in AREAS.items():
        if area not in chosen:
            continue
        try:
            found = list(look(settings))
        except DS01Error as error:
            found = [Finding("error", f"it cannot be checked: {error}")]
        rows += [{"area": area, **asdict(f)} for f in found]
    return rows


def _settings(settings: Settings) -> Iterator[Finding]:
    path = settings.state_dir / "settings.json"
    if path.exists():
        yield Finding("ok", f"settings of the hub {settings.hub_id!r} are read from {path}")
    else:
        yield Finding(
            "warning",
            f"there is no {path}: built-in settings are used",
            "the command may look at other files than the hub does",
            "start the hub once, or set DS01_STATE_DIR to its state folder",
        )

    if settings.project_templates is not None:
        found = templates(settings.project_templates)
        what = f"{text.plural(len(found), 'template')} of new projects in {settings.project_templates}"
        mend = "put a folder for each there, readable by the hub" if not found else ""
        yield Finding("ok" if found else "warning", what, mend=mend)


def _policy(settings: Settings) -> Iterator[Finding]:
    policy = load_policy(settings.policy)
    shown = str(settings.policy) if settings.policy else "the built-in defaults"
    yield Finding("ok", f"{shown}: {text.plural(len(policy.groups), 'group')}, no fault")
    for sentence in lint(policy, datetime.now(timezone.utc)):
        yield Finding("warning", sentence)


def _engine(settings: Settings) -> Iterator[Finding]:
    site = Site(settings)
    info = site.engine_info(site.engine.client)
    cgroup = f"cgroup v{info.get('CgroupVersion', '1')} ({info.get('CgroupDriver', 'unknown driver')})"
    yield Finding("ok", f"Docker {info.get('ServerVersion', '?')}, {info.get('Driver', '?')}, {cgroup}")
    for flag, what in (
        ("MemoryLimit", "memory limits"),
        ("SwapLimit", "swap limits"),
        ("PidsLimit", "limits on the number of processes"),
        ("CpuCfsQuota", "CPU limits"),
    ):
        if info.get(flag) is False:
            yield Finding(
                "error",
                f"the engine cannot enforce {what}",
                "one session could take what all need",
                "switch the cgroup controller on in the kernel's command line, then reboot",
            )
    for warning in info.get("Warnings") or []:
        yield Finding("warning", str(warning))
    if why := site.capabilities(info).reasons.get("aggregate", ""):
        yield Finding(
            "warning" if _has_ceiling(site.policy.current()) else "ok",
            f"a ceiling over all sessions of a person (aggregate) is not enforced here: {why}",
            "several sessions of one person together may take what each may take",
            "run the hub as root on the machine itself, or mount /sys/fs/cgroup into its container, writable",
        )
    yield from _networks(site)


def _has_ceiling(policy: Policy) -> bool:
    """Whether any layer of the policy sets a ceiling that a cgroup must hold."""
    layers = [policy.defaults, *(g.layer for g in policy.groups), *(o.layer for o in policy.users.values())]
    keys = {f"aggregate.{k}" for k in ("cpus", "memory", "memory_high", "pids")}
    return any(k in keys and v.value is not None for layer in layers for k, v in layer.items())


def _networks(site: Site) -> Iterator[Finding]:
    for network in site.engine.client.networks(filters={"label": "ds01.hub"}):
        inspected = site.engine.client.inspect_network(network["Id"])
        trouble = unfit(inspected)
        if trouble:
            mend = (
                f"remove it when no session runs (docker network rm {network['Name']}); the hub makes it anew"
            )
            yield Finding(
                "error", f"network {network['Name']}: {trouble}", f"{ICC} keeps sessions apart", mend
            )
        else:
            yield Finding("ok", f"network {network['Name']} keeps sessions apart")


def _gpus(settings: Settings) -> Iterator[Finding]:
    site = Site(settings)
    yield from check_gpus(settings, site.engine_info(site.engine.client))


def _store(settings: Settings) -> Iterator[Finding]:
    Store.open(settings.store).check()
    yield Finding("ok", f"the store answers ({settings.store.split('@')[-1]})")


def _disk(settings: Settings) -> Iterator[Finding]:
    places = [("workspaces", settings.workspace_root), ("state", settings.state_dir)]
    site = Site(settings)
    try:
        site.engine_info(site.engine.client)
        if site.engine_root:
            places.append(("engine", Path(site.engine_root)))
    except DS01Error:
        pass  # the engine's own area says so
    for name, path in places:
        free = free_bytes(path)
        if free is None:
            mend = "make the folder, or mount its disk"
            yield Finding("error", f"{name}: {path} cannot be read", "no session can start", mend)
        elif free < LOW_SPACE:
            why = "starts are refused when the policy's minimum is reached"
            yield Finding("warning", f"{name}: {text.size(free)} free at {path}", why, "make space")
        else:
            yield Finding("ok", f"{name}: {text.size(free)} free at {path}")
    if not os.access(settings.workspace_root, os.W_OK):
        yield Finding("error", f"{settings.workspace_root} cannot be written", "no project can be made")


def _images(settings: Settings) -> Iterator[Finding]:
    if settings.environments is None:
        yield Finding("ok", "there is no catalogue: the spawner's one image is offered")
        return
    images = Images(settings.docker_host)
    engine = images.engine()
    reading = Site(settings).gpu(0).inventory
    host = Host(architecture=engine.architecture, hub_version=_hub_version(), cuda=reading.cuda)
    for environment in load_catalogue(settings.environments):
        try:
            facts = images.inspect(environment.pinned or environment.image)
        except ImageMissing:
            what = f"{environment.id}: {environment.image} is not on this machine"
            mend = f"docker pull {environment.image}, or build it"
            yield Finding("warning", what, "its first start fetches it, or fails", mend)
            continue
        faults = [f for f in check(facts, host).findings if f.level in IMAGE_LEVELS]
        for fault in faults:
            level, why = IMAGE_LEVELS[fault.level]
            yield Finding(level, f"{environment.id}: {fault.message}", why, fault.mend)
        if not faults:
            hint = " (its command was not tried)" if needs_probe(facts) else ""
            yield Finding("ok", f"{environment.id}: {environment.image}{hint}")


def _hub_version() -> str:
    import jupyterhub

    return str(jupyterhub.__version__)


def _sessions(settings: Settings) -> Iterator[Finding]:
    site = Site(settings)
    found = site.holdings().sessions
    mine = [r for r in found if r.labels.hub == settings.hub_id]
    yield Finding(
        "ok", f"{text.plural(len(mine), 'session')} of this hub, {len(found) - len(mine)} of others"
    )
    older = timedelta(seconds=settings.start_timeout + 120)
    for record in leftovers(mine, settings.hub_id, datetime.now(timezone.utc), older):
        why = f"it is {record.state} and still holds {', '.join(record.labels.gpu_uuids) or 'its name'}"
        mend = f"is the service running? ds01 retire {record.labels.address} --reason leftover"
        yield Finding("error", f"{record.name} was left behind by a start", why, mend)


AREAS: dict[str, Callable[[Settings], Iterable[Finding]]] = {
    "settings": _settings,
    "policy": _policy,
    "engine": _engine,
    "gpus": _gpus,
    "store": _store,
    "disk": _disk,
    "images": _images,
    "sessions": _sessions,
}
"""What can be looked at, in the order it is shown."""

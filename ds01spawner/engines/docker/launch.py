"""One launch on Docker: create under the lock, account, start, verify, discard. Blocking; run in threads.

`claim` is the whole of the exclusive part. The create is the commit: before it nothing exists, after it the
container is the record, whoever dies when.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import docker.errors

from ... import messages
from ...core.errors import EngineError, Refused
from ...core.installation import Installation
from ..base import Attach, Claim, Claimed, ClaimRequest, EngineState, ImageGone
from . import limit_check
from .account import install_account
from .answers import InfoJson
from .attach import attach_kwargs, gpu_env
from .claim import claim as claim_under_lock
from .create import WORKSPACE, ContainerSpec, Resources, finalise, log_bound
from .layers import bounds_layers
from .mount_sources import MountSources, compare, hold_of, shares_mounts
from .neighbours import networks_of_others, sessions_of_others
from .retire import verify_gone

if TYPE_CHECKING:
    from .engine import Docker

log = logging.getLogger(__name__)
ANY_AGE_S = 60.0
READING_MAX_AGE_S = 1.0
"""How old the GPU reading of a claim may be. Who holds what is always read anew, under the lock."""


@dataclass(frozen=True)
class DockerClaimed(Claimed):
    """A created container, with what it was made from."""

    spec: ContainerSpec
    sources: MountSources
    """The folders it mounts, held until it has started."""


def claim(engine: Docker, request: ClaimRequest) -> DockerClaimed:
    """See `Engine.claim`."""
    settings, installation, client = engine.settings, engine.installation, engine.client
    if installation is None:
        raise Refused(messages.no_installation(str(settings.state_dir)))
    _refuse_neighbours(settings.hub_id, networks_of_others(client, settings.hub_id, installation))
    # The driver is read before the lock is taken, so that a slow one never holds up everybody's claims.
    reading = engine.inventory(READING_MAX_AGE_S if request.wants_gpu else ANY_AGE_S)
    info = engine.info()
    attach = engine.attach(reading.inventory)
    specs: list[ContainerSpec] = []
    sources = MountSources(
        request.session, shares_mounts=shares_mounts(settings.docker_host), hold=hold_of(installation)
    )

    def choose(state: EngineState) -> Claim:
        _refuse_neighbours(settings.hub_id, sessions_of_others(state, settings.hub_id))
        return request.choose(state, attach.blocks)

    def create(chosen: Claim) -> str:
        parent = engine.cgroup_parent(chosen.labels.user, chosen.plan)
        spec = spec_of(chosen, installation, attach, info, parent, request.grace)
        specs.append(
            _hold(engine, chosen, sources, replace(spec, workspace=engine.host_path(chosen.workspace)))
        )
        return _create(engine, request, specs[-1])

    try:
        chosen, container = claim_under_lock(
            settings.lock_path,
            partial(engine.look_with, reading),
            choose,
            create,
            timeout=request.timeout,
            again=partial(engine.look_with, replace(reading, processes=())),
            undo=partial(_undo, client),
        )
    except BaseException:
        sources.close()
        raise
    return DockerClaimed(container, chosen, attach.mode == "simulated", specs[-1], sources)


def _undo(client: Any, container: str) -> None:
    try:
        client.remove_container(container, force=True, v=True)
    except docker.errors.DockerException as error:
        raise EngineError(f"a container that must not stay could not be removed: {error}") from error


def _refuse_neighbours(hub_id: str, found: list[str]) -> None:
    if found:
        raise Refused(messages.hub_id_taken(hub_id, found))


def _hold(engine: Docker, chosen: Claim, sources: MountSources, spec: ContainerSpec) -> ContainerSpec:
    """The spec with sources that cannot be exchanged any more: the very folders that may be mounted."""
    path, root = chosen.workspace, engine.settings.workspace_root
    try:
        workspace = sources.below(root, path.relative_to(root).parts, WORKSPACE, spec.workspace)
        mounts = tuple(
            {**m, "Source": sources.plain(str(m["Source"]), str(m["Target"]))} for m in spec.mounts
        )
    except OSError as error:
        log.error("A folder of %s changed while it started: %s", spec.labels.address, error)
        raise Refused(
            messages.folder_swapped([WORKSPACE, *(str(m["Target"]) for m in spec.mounts)])
        ) from error
    if sources.owner(WORKSPACE) != chosen.identity.uid:
        raise Refused(messages.folder_swapped([WORKSPACE]))
    return replace(spec, workspace=workspace, mounts=mounts)


def _create(engine: Docker, request: ClaimRequest, spec: ContainerSpec) -> str:
    try:
        made = engine.client.create_container(**finalise(request.native, spec))
    except docker.errors.ImageNotFound as error:
        raise ImageGone(f"the image {spec.image} is not on this machine") from error
    except docker.errors.APIError as error:
        if error.status_code == 409:
            raise Refused(messages.name_taken(request.name)) from error
        if spec.layer is not None and "storage-opt" in str(error.explanation):
            # The mount says that it has project quotas and the engine that it cannot use them.
            engine.say_once(f"files outside projects are not bounded: {error.explanation}")
            return _create(engine, request, replace(spec, layer=None))
        raise EngineError(f"the container could not be created: {error.explanation or error}") from error
    for warning in made.get("Warnings") or []:
        log.warning("Engine at create of %s: %s", request.session, warning)
    return str(made["Id"])


def spec_of(
    chosen: Claim,
    installation: Installation,
    attach: Attach,
    info: InfoJson,
    cgroup_parent: str = "",
    grace: int = 30,
) -> ContainerSpec:
    """A claim in Docker's terms; its folder is still as this process sees it. Pure."""
    plan, uuids = chosen.plan, chosen.labels.gpu_uuids
    return ContainerSpec(
        labels=chosen.labels,
        installation=installation,
        image=chosen.image,
        uid=chosen.identity.uid,
        gid=chosen.identity.gid,
        user_name=chosen.identity.name,
        home=chosen.identity.home,
        workspace=str(chosen.workspace),
        resources=Resources(
            cpus=plan.cpus,
            memory=plan.memory,
            swap=plan.swap or 0,
            shm=plan.shm,
            pids=plan.pids,
            io_weight=plan.io_weight,
            ulimits=plan.ulimits,
            cgroup_parent=cgroup_parent,
        ),
        env={**gpu_env(uuids), **chosen.env},
        image_path=chosen.image_path,
        has_init=chosen.has_init,
        hostname=chosen.hostname,
        attach=attach_kwargs(attach.mode, uuids),
        stop_timeout=grace,
        mounts=chosen.mounts,
        log_config=log_bound(info),
        layer=plan.layer if bounds_layers(info) else None,
    )


def prepare(client: Any, container: str, spec: ContainerSpec) -> None:
    """Everything between create and start."""
    install_account(client, container, spec)


def verify(engine: Docker, claimed: DockerClaimed) -> None:
    """Read from the kernel that a started session has the folders that were checked and the limits that were
    set; `Refused` when not.

    A container that has ended already, and files that cannot be read, are judged by none here.
    """
    spec, client, container = claimed.spec, engine.client, claimed.container
    pid = int(client.inspect_container(container)["State"].get("Pid") or 0)
    if not pid:
        return
    compare(engine, container, pid, claimed.sources)
    info = engine.info()
    found = limit_check.read(pid, container, 2 if str(info.get("CgroupVersion")) == "2" else 1)
    if not found.readable:
        engine.say_once("limits are not verified: the cgroups of containers cannot be read from here")
        return
    missing = limit_check.shortfalls(spec.resources, found, swap=bool(info.get("SwapLimit", True)))
    if missing:
        log.error("Limits of %s are not in force: %s", spec.labels.address, "; ".join(missing))
        raise Refused(messages.limits_not_in_force(missing))


def discard(engine: Docker, name: str, session: str) -> bool:
    """Remove what a start made under this name, if it is that very session's. Idempotent."""
    client = engine.client
    try:
        found = client.inspect_container(name)
    except docker.errors.NotFound:
        return False
    labels = engine.session_in(found)
    if labels is None or labels.session != session:
        return False
    try:
        client.remove_container(found["Id"], force=True, v=True)
    except docker.errors.NotFound:
        return False
    except docker.errors.APIError as error:
        if error.status_code != 409:  # a removal is under way already
            raise
    verify_gone(client, found["Id"])
    return True

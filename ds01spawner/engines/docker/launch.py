"""One launch on Docker: claim and create under the lock, account, discard. Blocking; run in threads.

`launch` is the whole of the exclusive part: read who holds what, check the quota again with fresh
numbers, place, create with labels. The create is the commit: before it nothing exists, after it the
container is the record, whoever dies when.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import docker.errors

from ... import messages
from ...admission.check import entitle
from ...admission.situation import of
from ...core.errors import EngineError, Refusal, Refused
from ...core.labels import SessionLabels
from ...core.names import dns_label
from ...placement import merge_blocks
from ...placement.model import Block, Device, GpuRequest, Inventory, Placement
from ...policy.options import LaunchOptions
from ...policy.plan import LaunchPlan
from ...policy.resolve import Person
from ...workspace.projects import Workspace
from ..base import Attach, EngineState
from . import inforce
from .account import install_account
from .attach import attach_kwargs, gpu_env
from .claim import claim
from .create import WORKSPACE, ContainerSpec, Resources, finalise, log_bound
from .layers import bounds_layers
from .mount_sources import MountSources, compare, hold_of, shares_mounts
from .neighbours import networks_of_others, sessions_of_others
from .retire import verify_gone

if TYPE_CHECKING:
    from ...images.engine import Resolved
    from ...site import Site

log = logging.getLogger(__name__)
ANY_AGE_S = 60.0
INITS = frozenset({"tini", "dumb-init", "catatonit", "s6-svscan", "init"})
RESCUE_ENV = {"JUPYTER_RUNTIME_DIR": "/tmp/jupyter/runtime", "JUPYTER_DATA_DIR": "/tmp/jupyter/data"}  # noqa: S108
"""A rescue session writes its own files where there is room: in its container, not in the workspace."""
READING_MAX_AGE_S = 1.0
"""How old the GPU reading of a claim may be. Who holds what is always read anew, under the lock."""


@dataclass(frozen=True)
class LaunchRequest:
    """What a claim needs to know. Plain values, and the site's shared parts."""

    site: Site
    person: Person
    options: LaunchOptions
    workspace: Workspace
    create_kwargs: Mapping[str, Any]
    session: str
    server: str
    image: Resolved
    clock: Callable[[], datetime]
    stop_timeout: int = 30
    lock_timeout: float = 20
    avoid: frozenset[str] = frozenset()
    """Devices on which this very start has failed already."""
    keys: frozenset[str] = frozenset()
    """What lifts blocks for this person: ``user:…``, ``group:…``, ``ticket:…``."""
    mounts: tuple[Mapping[str, Any], ...] = ()
    """Read-only mounts that the environment brings."""


@dataclass(frozen=True)
class Claimed:
    """A created container and what it holds."""

    container: str
    spec: ContainerSpec
    plan: LaunchPlan
    devices: tuple[Device, ...] = ()
    attach_mode: str = "none"
    groups: tuple[str, ...] = ()
    course: str = ""
    sources: MountSources | None = None
    """The folders it mounts, held until it has started."""

    @property
    def uuids(self) -> tuple[str, ...]:
        """UUIDs of the devices held."""
        return tuple(d.uuid for d in self.devices)

    @property
    def sentence(self) -> str:
        """What was reserved, for the start's progress."""
        notes = "".join(f"; {note}" for note in self.plan.notes)
        if not self.devices:
            return f"CPU only: no GPU is reserved{notes}"
        names = ", ".join(f"{_size(d)} on {d.name.split(' MIG ')[0]}" for d in self.devices)
        hint = " (simulated)" if self.attach_mode == "simulated" and "simulated" not in names else ""
        return f"Reserved {names}{hint}{notes}"


def _size(device: Device) -> str:
    return "a whole GPU," if device.profile == "full" else device.profile


def launch(client: Any, request: LaunchRequest) -> Claimed:
    """Choose devices and create the container; `Refused` says why not. Leaves nothing when it raises."""
    site, settings = request.site, request.site.settings
    if site.installation is None:
        raise Refused(messages.no_installation(str(settings.state_dir)))
    _refuse_neighbours(settings.hub_id, networks_of_others(client, settings.hub_id, site.installation))
    # The driver is read before the lock is taken, so that a slow one never holds up everybody's claims.
    reading = site.engine.inventory(READING_MAX_AGE_S if request.options.gpu != "none" else ANY_AGE_S)
    info = site.engine.info()
    attach = site.engine.attach(reading.inventory)
    plans: list[LaunchPlan] = []
    specs: list[ContainerSpec] = []

    def wanted(snapshot: EngineState) -> GpuRequest:
        _refuse_neighbours(settings.hub_id, sessions_of_others(snapshot, settings.hub_id))
        plans.append(fit(_replan(request, reading.inventory, snapshot), info))
        return plans[-1].gpu

    sources = MountSources(
        request.session, shares_mounts=shares_mounts(settings.docker_host), hold=hold_of(site)
    )

    def create(placement: Placement) -> str:
        specs.append(_hold(request, sources, _spec(request, plans[-1], placement, attach, info)))
        return _create(client, request, specs[-1])

    try:
        placement, container = claim(
            settings.lock_path,
            site.engine.ledger,
            lambda: reading,
            lambda: merge_blocks(attach.blocks, _blocks(request)),
            wanted,
            create,
            strategy=settings.strategy,
            keys=request.keys,
            timeout=request.lock_timeout,
            undo=partial(_undo, client),
        )
    except BaseException:
        sources.close()
        raise
    return Claimed(
        container,
        specs[-1],
        plans[-1],
        placement.devices,
        attach.mode,
        groups=tuple(sorted(request.person.groups)),
        course=request.image.environment.course,
        sources=sources,
    )


def _undo(client: Any, container: str) -> None:
    try:
        client.remove_container(container, force=True, v=True)
    except docker.errors.DockerException as error:
        raise EngineError(f"a container that must not stay could not be removed: {error}") from error


def _refuse_neighbours(hub_id: str, found: list[str]) -> None:
    if found:
        raise Refused(messages.hub_id_taken(hub_id, found))


def _hold(request: LaunchRequest, sources: MountSources, spec: ContainerSpec) -> ContainerSpec:
    """The spec with sources that cannot be exchanged any more: the very folders that may be mounted."""
    path, root = request.workspace.path, request.site.settings.workspace_root
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
    if sources.owner(WORKSPACE) != request.workspace.identity.uid:
        raise Refused(messages.folder_swapped([WORKSPACE]))
    return replace(spec, workspace=workspace, mounts=mounts)


def fit(launch_plan: LaunchPlan, info: Mapping[str, Any]) -> LaunchPlan:
    """The plan with no more CPUs than the machine has, because Docker refuses more. Pure."""
    count = int(info.get("NCPU") or 0)
    if not count or launch_plan.cpus is None or launch_plan.cpus <= count:
        return launch_plan
    return replace(launch_plan, cpus=float(count))


def _replan(request: LaunchRequest, inventory: Inventory, snapshot: EngineState) -> LaunchPlan:
    """The plan again, with what is held at this moment: two starts at once cannot both use one quota."""
    site, person, now = request.site, request.person, request.clock()
    situation = of(site, person, now, inventory, snapshot)
    answer = entitle(situation, request.options, request.server)
    if isinstance(answer, Refusal):
        raise Refused(answer)
    return answer


def _blocks(request: LaunchRequest) -> dict[str, Block]:
    blocks = dict(request.site.blocks(request.clock()))
    for uuid in request.avoid:
        blocks[uuid] = Block("unready", "the engine could not start a session on it a moment ago")
    return blocks


def _create(client: Any, request: LaunchRequest, spec: ContainerSpec) -> str:
    environment = request.image.environment
    try:
        made = client.create_container(**finalise(request.create_kwargs, spec))
    except docker.errors.ImageNotFound as error:
        raise Refused(
            messages.image_missing(environment.name, environment.image, environment.kind == "mine")
        ) from error
    except docker.errors.APIError as error:
        if error.status_code == 409:
            raise Refused(messages.name_taken(str(request.create_kwargs.get("name")))) from error
        if spec.layer is not None and "storage-opt" in str(error.explanation):
            # The mount says that it has project quotas and the engine that it cannot use them.
            request.site.engine.say_once(f"files outside projects are not bounded: {error.explanation}")
            return _create(client, request, replace(spec, layer=None))
        raise EngineError(f"the container could not be created: {error.explanation or error}") from error
    for warning in made.get("Warnings") or []:
        log.warning("Engine at create of %s: %s", request.session, warning)
    return str(made["Id"])


def _spec(
    request: LaunchRequest,
    launch_plan: LaunchPlan,
    placement: Placement,
    attach: Attach,
    info: Mapping[str, Any],
) -> ContainerSpec:
    now = request.clock()
    identity, uuids = request.workspace.identity, tuple(d.uuid for d in placement.devices)
    labels = SessionLabels(
        user=request.person.name,
        server=request.server,
        project=request.options.project,
        hub=request.site.settings.hub_id,
        session=request.session,
        image=request.image.image_id,
        environment=request.image.environment.id,
        gpu_uuids=uuids,
        gpu_equivalents=sum(d.equivalents for d in placement.devices),
        created_at=now.isoformat(timespec="milliseconds"),
        expires_at=launch_plan.expires_at.isoformat(timespec="seconds") if launch_plan.expires_at else "",
        limits=launch_plan.limits_json(),
        preemptible=launch_plan.preemptible,
        course=request.image.environment.course,
        profile=placement.devices[0].profile if placement.devices else "",
        groups=tuple(sorted(request.person.groups)),
    )
    installation = request.site.installation
    assert installation is not None  # `launch` asked
    return ContainerSpec(
        labels=labels,
        installation=installation,
        image=request.image.image_id,
        uid=identity.uid,
        gid=identity.gid,
        user_name=identity.name,
        home=identity.home,
        workspace=request.site.engine.host_path(request.workspace.path),
        resources=Resources(
            cpus=launch_plan.cpus,
            memory=launch_plan.memory,
            swap=launch_plan.swap or 0,
            shm=launch_plan.shm,
            pids=launch_plan.pids,
            io_weight=launch_plan.io_weight,
            ulimits=launch_plan.ulimits,
            cgroup_parent=request.site.engine.cgroup_parent(request.person.name, launch_plan),
        ),
        env={**gpu_env(uuids), **(RESCUE_ENV if launch_plan.rescue else {})},
        image_path=request.image.facts.env.get("PATH", ""),
        has_init=any(word.rsplit("/", 1)[-1] in INITS for word in request.image.facts.entrypoint[:1]),
        hostname=dns_label(request.options.project),
        attach=attach_kwargs(attach.mode, uuids),
        stop_timeout=request.stop_timeout,
        mounts=request.mounts,
        log_config=log_bound(info),
        layer=launch_plan.layer if bounds_layers(info) else None,
    )


def prepare(client: Any, container: str, spec: ContainerSpec) -> None:
    """Everything between create and start."""
    install_account(client, container, spec)


def verify(client: Any, container: str, claimed: Claimed, site: Site) -> None:
    """Read from the kernel that a started session has the folders that were checked and the limits that were
    set; `Refused` when not.

    A container that has ended already, and files that cannot be read, are judged by none here.
    """
    spec = claimed.spec
    pid = int(client.inspect_container(container)["State"].get("Pid") or 0)
    if not pid:
        return
    if claimed.sources is not None:
        compare(client, container, pid, claimed.sources, site)
    info = site.engine.info()
    found = inforce.read(pid, container, 2 if str(info.get("CgroupVersion")) == "2" else 1)
    if not found.readable:
        site.engine.say_once(
            "limits are set but not verified: the cgroups of containers cannot be read from here"
        )
        return
    missing = inforce.shortfalls(spec.resources, found, swap=bool(info.get("SwapLimit", True)))
    if missing:
        log.error("Limits of %s are not in force: %s", spec.labels.address, "; ".join(missing))
        raise Refused(messages.limits_not_in_force(missing))


def discard(client: Any, site: Site, name: str, session: str) -> bool:
    """Remove what a start made under this name, if it is that very session's. Idempotent."""
    try:
        found = client.inspect_container(name)
    except docker.errors.NotFound:
        return False
    labels = site.engine.session_in(found)
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

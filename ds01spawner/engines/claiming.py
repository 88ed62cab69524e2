"""What a claim chooses, the same on every engine: the plan again, devices, and what the session is told.

The adapter sees to it that none else chooses meanwhile (`Engine.claim`), and creates; so two starts at once
cannot use up one quota, nor one device, twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import messages
from ..admission.check import entitle
from ..admission.situation import of
from ..core.errors import Refusal, Refused
from ..core.labels import SessionLabels
from ..core.names import dns_label
from ..placement import merge_blocks
from ..placement.devices import Block, GpuRequest, Placement
from ..placement.place import place, refusal
from ..placement.strategies import DEFAULT_STRATEGY
from ..policy.options import LaunchOptions
from ..policy.plan import LaunchPlan
from ..policy.resolve import Person
from ..workspace.projects import Workspace
from .base import Claim, Claimed, ClaimRequest, EngineState, ImageGone

if TYPE_CHECKING:
    from ..site import Site
    from .docker.image_store import Resolved

INITS = frozenset({"tini", "dumb-init", "catatonit", "s6-svscan", "init"})
RESCUE_ENV = {"JUPYTER_RUNTIME_DIR": "/tmp/jupyter/runtime", "JUPYTER_DATA_DIR": "/tmp/jupyter/data"}  # noqa: S108
"""A rescue session writes its own files where there is room: in its container, not in the workspace."""
FAILED = Block("unready", "the engine could not start a session on it a moment ago")


@dataclass(frozen=True)
class LaunchRequest:
    """What a claim needs to know. Plain values, and the site's shared parts."""

    site: Site
    person: Person
    options: LaunchOptions
    workspace: Workspace
    create_kwargs: Mapping[str, Any]
    """What the engine's spawner class would create by its settings, in the engine's words."""
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


def claim(request: LaunchRequest) -> Claimed:
    """Claim devices and create the session; `Refused` says why not. Blocking; see `Engine.claim`."""
    wish = ClaimRequest(
        choose=partial(choose, request),
        wants_gpu=request.options.gpu != "none",
        name=str(request.create_kwargs.get("name") or ""),
        session=request.session,
        native=request.create_kwargs,
        grace=request.stop_timeout,
        timeout=request.lock_timeout,
    )
    try:
        return request.site.engine.claim(wish)
    except ImageGone as error:
        of = request.image.environment
        raise Refused(messages.image_missing(of.name, of.image, of.kind == "mine")) from error


def choose(request: LaunchRequest, state: EngineState, obstacles: Mapping[str, Block]) -> Claim:
    """The session to create, on what is held at this moment; `Refused` where there can be none."""
    return claim_of(request, *place_for(request, state, obstacles))


def place_for(
    request: LaunchRequest, state: EngineState, obstacles: Mapping[str, Block]
) -> tuple[LaunchPlan, Placement]:
    """The plan again, and its devices; `Refused` where either is denied now."""
    site = request.site
    situation = of(site, request.person, request.clock(), state.reading.inventory, state)
    plan = entitle(situation, request.options, request.server)
    if isinstance(plan, Refusal):
        raise Refused(plan)
    blocks = merge_blocks(obstacles, blocks_for(request))
    return fit(plan, site.engine.capacity().cpus), pick(
        plan.gpu, state, blocks, site.settings.strategy, request.keys
    )


def fit(plan: LaunchPlan, cpus: int) -> LaunchPlan:
    """The plan with no more CPUs than the machine has, because engines refuse more; 0: not known. Pure."""
    if not cpus or plan.cpus is None or plan.cpus <= cpus:
        return plan
    return replace(plan, cpus=float(cpus))


def blocks_for(request: LaunchRequest) -> dict[str, Block]:
    """What the store keeps from being granted, and where this start has failed."""
    return {**request.site.blocks(request.clock()), **dict.fromkeys(request.avoid, FAILED)}


def pick(
    wanted: GpuRequest,
    state: EngineState,
    blocks: Mapping[str, Block],
    strategy: str = DEFAULT_STRATEGY,
    keys: frozenset[str] = frozenset(),
) -> Placement:
    """Devices for a request, or none where none are asked for; `Refused` says why there are none. Pure."""
    if not wanted.wants_gpu:
        return Placement()
    placed = place(wanted, state.reading.inventory, state.holdings, blocks, strategy=strategy, keys=keys)
    if not placed.ok:
        raise Refused(refusal(wanted, placed))
    return placed


def claim_of(request: LaunchRequest, plan: LaunchPlan, placed: Placement) -> Claim:
    """A plan and its devices as the session to create."""
    image, devices = request.image, placed.devices
    labels = SessionLabels(
        user=request.person.name,
        server=request.server,
        project=request.options.project,
        hub=request.site.settings.hub_id,
        session=request.session,
        image=image.image_id,
        environment=image.environment.id,
        gpu_uuids=tuple(d.uuid for d in devices),
        gpu_equivalents=sum(d.equivalents for d in devices),
        created_at=request.clock().isoformat(timespec="milliseconds"),
        expires_at=plan.expires_at.isoformat(timespec="seconds") if plan.expires_at else "",
        limits=plan.limits_json(),
        preemptible=plan.preemptible,
        course=image.environment.course,
        profile=devices[0].profile if devices else "",
        groups=tuple(sorted(request.person.groups)),
    )
    return Claim(
        labels=labels,
        plan=plan,
        devices=devices,
        image=image.image_id,
        image_path=image.facts.env.get("PATH", ""),
        has_init=any(word.rsplit("/", 1)[-1] in INITS for word in image.facts.entrypoint[:1]),
        identity=request.workspace.identity,
        workspace=request.workspace.path,
        hostname=dns_label(request.options.project),
        env=RESCUE_ENV if plan.rescue else {},
        mounts=request.mounts,
    )

"""From (policy, person, options, usage) to a launch plan or a refusal. Pure; the same on every engine.

The plan carries GPU class and count, never a UUID: which device it becomes is the engine adapter's
business. Whatever the options say, no number of a plan is above the person's limits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .. import messages
from ..core.errors import Refusal
from ..core.labels import SessionLabels
from ..core.text import stamp
from ..placement.devices import WHOLE_GPU_SLICES, GpuRequest
from ..placement.place import describe, sevenths
from .image_use import allows, kinds_of
from .model import Aggregate, Idle
from .options import LaunchOptions
from .resolve import Limits, Person
from .units import format_duration, say_size


@dataclass(frozen=True)
class SessionUse:
    """What one of a person's present sessions (or claims) takes."""

    user: str
    server: str = ""
    project: str = ""
    gpu_equivalents: float = 0.0
    gpu_devices: int = 0
    cpus: float | None = None
    """None is unlimited or unknown."""
    memory: int | None = None
    """Bytes; None is unlimited or unknown, and then counts as much as a session may have."""
    pids: int | None = None
    preemptible: bool = False
    layer: int | None = None
    """Bytes that it may write outside its project."""
    layer_retire: bool = False

    @property
    def title(self) -> str:
        """The session as its owner knows it: the project, and the server's name where it says more."""
        if not self.server or self.server == self.project:
            return self.project or "the default session"
        return f"{self.project} ({self.server})" if self.project else self.server

    @classmethod
    def from_labels(cls, labels: SessionLabels) -> SessionUse:
        """What a session takes, as its container's labels tell it."""
        try:
            known = json.loads(labels.limits)
        except ValueError:
            known = {}
        known = known if isinstance(known, dict) else {}
        memory, pids, layer = (_number(known.get(k)) for k in ("memory", "pids", "layer"))
        return cls(
            user=labels.user,
            server=labels.server,
            project=labels.project,
            gpu_equivalents=labels.gpu_equivalents,
            gpu_devices=len(labels.gpu_uuids),
            cpus=_number(known.get("cpus")),
            memory=None if memory is None else int(memory),
            pids=None if pids is None else int(pids),
            preemptible=labels.preemptible,
            layer=None if layer is None else int(layer),
            layer_retire=known.get("layer_retire") is True,
        )


@dataclass(frozen=True)
class Usage:
    """What a person uses at this moment. None is unknown (or, for disks, not asked)."""

    sessions: tuple[SessionUse, ...] = ()
    """Every claim of the person, whatever state its container is in."""
    gpu_hours: float | None = 0.0
    """GPU-hours used in the policy's window."""
    gpu_hours_when: datetime | None = None
    """When use falls below the budget again, where it is known."""
    workspace_free: int | None = None
    workspace_used: int | None = None
    host_free: int | None = None
    engine_free: int | None = None


@dataclass(frozen=True)
class LaunchPlan:
    """One session to be made, in plain numbers: bytes, seconds, CPUs; None is no limit."""

    user: str
    project: str
    environment: str
    gpu: GpuRequest
    server: str = ""
    cpus: float | None = None
    memory: int | None = None
    swap: int | None = 0
    shm: int = 64 * 2**20
    pids: int | None = None
    layer: int | None = None
    """Bytes that it may write outside its project."""
    layer_retire: bool = False
    io_weight: int | None = None
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Soft and hard value by name; -1 is unlimited."""
    lifetime_s: int | None = None
    expires_at: datetime | None = None
    idle: Idle = field(default_factory=Idle)
    aggregate: Aggregate | None = None
    """Ceiling over all sessions of the person, or None where the policy sets none."""
    priority: int = 0
    preemptible: bool = False
    wait: bool = False
    rescue: bool = False
    """A small session for deleting files: its runtime files must not go to the workspace."""
    notes: tuple[str, ...] = ()
    """What the person should know though nothing is refused."""

    def limits_json(self) -> str:
        """The value of the label ``ds01.limits``."""
        data = {
            "cpus": self.cpus,
            "memory": self.memory,
            "pids": self.pids,
            "idle": self.idle.timeout,
            "lifetime": self.lifetime_s,
            "layer": self.layer,
            **({"layer_retire": True} if self.layer_retire else {}),
        }
        return json.dumps(data, separators=(",", ":"))


def plan(
    person: Person,
    limits: Limits,
    options: LaunchOptions,
    usage: Usage,
    now: datetime,
    *,
    server: str = "",
) -> LaunchPlan | Refusal:
    """What to launch, or the first rule that stands against it.

    ``options`` are validated but not trusted; ``now`` has a zone. The environment is checked here only
    by the id asked for; where the id is empty, check what the catalogue chose with `may_use`.
    """
    mine = tuple(s for s in usage.sessions if s.user == person.name)
    request, refusal = gpu_request(limits, options, mine)
    refusal = refusal or _sessions(limits, mine)
    if refusal is None and options.environment:
        refusal = may_use(limits, options.environment)
    if refusal is None and request.wants_gpu:
        refusal = _hours(limits, usage)
    if refusal is None:
        refusal = _disks(limits, usage)
    if refusal is not None:
        return refusal
    rescue, refusal = _rescue(limits, request, usage)
    if refusal is not None:
        return refusal
    ready = _fill(person, limits, options, request, now, server, rescue)
    refusal = _memory(limits, mine, ready.memory)
    if refusal is not None:
        return refusal
    notes = ready.notes + _notes(limits, usage, request)
    return ready if notes == ready.notes else _with_notes(ready, notes)


def gpu_request(
    limits: Limits, options: LaunchOptions, mine: tuple[SessionUse, ...]
) -> tuple[GpuRequest, Refusal | None]:
    """The device request with what the policy allows, or why there is none. Used by pages too."""
    if options.preemptible and not limits.queue.preemptible:
        return GpuRequest(), messages.preemptible_not_allowed(limits.source("queue.preemptible"))
    if options.gpu == "none":
        return GpuRequest(preemptible=options.preemptible), None
    gpu = limits.gpu
    most = gpu.max_devices_per_session
    if most is not None and options.gpu_count > most:
        source = limits.source("gpu.max_devices_per_session")
        return GpuRequest(), messages.too_many_devices(options.gpu_count, most, source)
    if options.gpu == "full" and not gpu.full_gpu:
        return GpuRequest(), messages.full_gpu_not_allowed(limits.source("gpu.full_gpu"))
    if gpu.profiles is not None and options.gpu not in (*gpu.profiles, "full", "auto"):
        source = limits.source("gpu.profiles")
        return GpuRequest(), messages.profile_not_allowed(options.gpu, gpu.profiles, source)
    left, refusal = _quota(limits, options, mine)
    request = GpuRequest(
        profile=options.gpu,
        count=options.gpu_count,
        allowed=_allowed(limits),
        full_gpu=gpu.full_gpu,
        max_equivalents=left,
        preemptible=options.preemptible,
    )
    return request, refusal


def may_use(limits: Limits, environment: str) -> Refusal | None:
    """Why a person may not start an environment, or None where they may."""
    patterns = limits.images.use
    if allows(patterns, environment, kinds_of(environment)):
        return None
    return messages.environment_not_allowed(environment, limits.source("images.use"))


def equivalents_of(profile: str) -> float:
    """GPU-equivalents of one device of a profile by its name; ``auto`` counts as the smallest slice."""
    if profile == "none":
        return 0.0
    if profile == "full":
        return 1.0
    slices = int(profile[0]) if profile != "auto" else 1
    return slices / WHOLE_GPU_SLICES


def quota_left(limits: Limits, mine: tuple[SessionUse, ...], preemptible: bool = False) -> float | None:
    """GPU-equivalents a person may still take, in whole sevenths; None is no limit.

    The quota counts normal sessions; the aggregate ceiling counts all, and alone holds for a
    preemptible one.
    """
    rules = []
    if limits.gpu.max_equivalents is not None and not preemptible:
        rules.append((limits.gpu.max_equivalents, _held(s for s in mine if not s.preemptible)))
    if limits.aggregate.gpu_equivalents is not None:
        rules.append((limits.aggregate.gpu_equivalents, _held(mine)))
    left = [sevenths(limit) - used for limit, used in rules]
    return max(0, min(left)) / WHOLE_GPU_SLICES if left else None


def _held(sessions: Any) -> int:
    # A label has four decimals; anything more than a rounding fault above a seventh counts as the next.
    return -int(-(sum(s.gpu_equivalents for s in sessions) * WHOLE_GPU_SLICES - 0.04) // 1)


def _quota(
    limits: Limits, options: LaunchOptions, mine: tuple[SessionUse, ...]
) -> tuple[float | None, Refusal | None]:
    left = quota_left(limits, mine, options.preemptible)
    weight = equivalents_of(options.gpu) * options.gpu_count
    if left is None or sevenths(left) >= round(weight * WHOLE_GPU_SLICES):
        return left, None
    aggregate = limits.aggregate.gpu_equivalents
    quota = None if options.preemptible else limits.gpu.max_equivalents
    by_quota = quota is not None and (aggregate is None or quota <= aggregate)
    holders = [s for s in mine if s.gpu_equivalents and (not by_quota or not s.preemptible)]
    return left, messages.gpu_quota(
        asked=describe(GpuRequest(options.gpu, options.gpu_count)),
        weight=weight,
        used=sum(s.gpu_equivalents for s in holders),
        limit=float((quota if by_quota else aggregate) or 0),
        holders=[f"{s.title} {s.gpu_equivalents:.2f}" for s in holders],
        source=limits.source("gpu.max_equivalents" if by_quota else "aggregate.gpu_equivalents"),
    )


def _allowed(limits: Limits) -> frozenset[str] | None:
    if limits.gpu.profiles is None:
        return None
    return frozenset(limits.gpu.profiles) | (frozenset({"full"}) if limits.gpu.full_gpu else frozenset())


def _sessions(limits: Limits, mine: tuple[SessionUse, ...]) -> Refusal | None:
    most = limits.session.max
    if most is None or len(mine) < most:
        return None
    return messages.too_many_sessions([s.title for s in mine], most, limits.source("session.max"))


def _hours(limits: Limits, usage: Usage) -> Refusal | None:
    budget, window = limits.gpu.hours.budget, limits.gpu.hours.window
    if budget is None:
        return None
    if usage.gpu_hours is None:
        closed = limits.gpu.when_store_down == "closed"
        return messages.gpu_hours_unknown(limits.source("gpu.when_store_down")) if closed else None
    if usage.gpu_hours < budget:
        return None
    when = f"on {stamp(usage.gpu_hours_when)}" if usage.gpu_hours_when else ""
    source = limits.source("gpu.hours.budget")
    return messages.gpu_hours(usage.gpu_hours, budget, format_duration(window), when, source)


def _disks(limits: Limits, usage: Usage) -> Refusal | None:
    free = limits.storage.minimum_free
    for place, key, have, need in (
        ("the machine's disk", "host", usage.host_free, free.host),
        ("the container engine's disk", "engine", usage.engine_free, free.engine),
    ):
        if have is not None and have < need:
            source = limits.source(f"storage.minimum_free.{key}")
            return messages.host_full(place, say_size(have), say_size(need), source)
    return None


def _rescue(limits: Limits, request: GpuRequest, usage: Usage) -> tuple[bool, Refusal | None]:
    """Whether only a rescue session can be had, or the refusal where not even that."""
    storage = limits.storage
    room = [usage.workspace_free] if usage.workspace_free is not None else []
    if storage.quota is not None and usage.workspace_used is not None:
        room.append(max(0, storage.quota - usage.workspace_used))
    need = storage.minimum_free.workspace
    if not room or min(room) >= need:
        return False, None
    if storage.rescue.enabled and not request.wants_gpu:
        return True, None
    return False, messages.workspace_full(
        free=say_size(min(room)),
        minimum=say_size(need),
        used="" if usage.workspace_used is None else say_size(usage.workspace_used),
        quota="" if storage.quota is None else say_size(storage.quota),
        rescue=storage.rescue.enabled,
        source=limits.source("storage.minimum_free.workspace"),
    )


def _fill(
    person: Person,
    limits: Limits,
    options: LaunchOptions,
    request: GpuRequest,
    now: datetime,
    server: str,
    rescue: bool,
) -> LaunchPlan:
    session, aggregate, small = limits.session, limits.aggregate, limits.storage.rescue
    lifetime = _least(session.lifetime, options.lifetime, small.lifetime if rescue else None)
    memory = _least(session.memory, aggregate.memory, small.memory if rescue else None)
    text = "your workspace is full: this is a small session for deleting files"
    return LaunchPlan(
        user=person.name,
        server=server,
        project=options.project,
        environment=options.environment,
        gpu=request,
        cpus=_least(session.cpus, aggregate.cpus, small.cpus if rescue else None),
        memory=memory,
        swap=session.swap if memory is not None else None,
        shm=session.shm if memory is None else min(session.shm, memory),
        pids=_least(session.pids, aggregate.pids),
        layer=session.layer,
        layer_retire=session.layer_retire,
        io_weight=session.io_weight,
        ulimits=session.ulimits,
        lifetime_s=lifetime,
        expires_at=None if lifetime is None else now + timedelta(seconds=lifetime),
        idle=limits.idle,
        aggregate=aggregate if aggregate.for_the_kernel else None,
        priority=limits.queue.priority,
        preemptible=options.preemptible,
        wait=options.wait,
        rescue=rescue,
        notes=(text,) if rescue else (),
    )


def _memory(limits: Limits, mine: tuple[SessionUse, ...], asked: int | None) -> Refusal | None:
    """Memory cannot be shared out like CPU time: the sum of the sessions must fit under the ceiling."""
    ceiling = limits.aggregate.memory
    if ceiling is None or not mine or asked is None:
        return None
    unknown = asked if limits.session.memory is None else limits.session.memory
    each = [(s.title, unknown if s.memory is None else s.memory) for s in mine]
    used = sum(memory for _, memory in each)
    if used + asked <= ceiling:
        return None
    return messages.aggregate_memory(
        asked=say_size(asked),
        used=say_size(used),
        limit=say_size(ceiling),
        holders=[f"{title} {say_size(memory)}" for title, memory in each],
        source=limits.source("aggregate.memory"),
    )


def _notes(limits: Limits, usage: Usage, request: GpuRequest) -> tuple[str, ...]:
    if request.wants_gpu and limits.gpu.hours.budget is not None and usage.gpu_hours is None:
        return ("your used GPU-hours cannot be read at the moment; this session starts without that check",)
    return ()


def _with_notes(ready: LaunchPlan, notes: tuple[str, ...]) -> LaunchPlan:
    return LaunchPlan(**{**ready.__dict__, "notes": notes})


def _least(*values: Any) -> Any:
    """The smallest of the limits that are set; None when none is."""
    return min((v for v in values if v is not None), default=None)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return float(value)

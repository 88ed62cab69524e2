"""The policy file as typed, frozen models; unknown keys are refused. Pure.

The same section models serve three readers: a layer of the file (only the keys it names count), the
built-in defaults (the defaults below), and a person's merged limits. Sizes are bytes, durations
seconds and shares fractions once read. ``None`` (``null`` in the file) means *no limit*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from .value_types import (
    Command,
    Count,
    Cpus,
    Duration,
    Key,
    Memory,
    Moment,
    Positive,
    Profile,
    Share,
    Size,
    Switch,
    Text,
    Ulimit,
    Weight,
)

_ULIMITS = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
ULIMITS = frozenset(_ULIMITS.split())


class Section(BaseModel):
    """Base of every part of the file: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_nothing_said(cls, data: object) -> object:
        """``gpu:`` with nothing below it says nothing, rather than failing or switching limits off."""
        if not isinstance(data, Mapping):
            return data
        return {k: _nothing_said(cls, k) if v is None else v for k, v in data.items()}


def _nothing_said(model: type[BaseModel], key: object) -> Any:
    """What a key means with nothing written below it: no keys, no names; None where that is a value."""
    kind = model.model_fields[key].annotation if key in model.model_fields else None
    if isinstance(kind, type) and issubclass(kind, Section):
        return {}
    origin = get_origin(kind)
    return {} if origin is Mapping else () if origin is tuple else None


class GpuHours(Section):
    """A budget of GPU-hours (GPU-equivalents × hours) in a rolling window."""

    budget: Annotated[Weight | None, Key("GPU-hours", askable=True, mends=("gpu-hours",))] = None
    """GPU-hours that may have been used within ``window`` when a session starts."""
    window: Annotated[Annotated[Duration, Field(ge=3600)], Key("Window of the GPU-hours", narrows=True)] = (
        7 * 86400
    )
    """Length of the window, at least an hour; it moves with time."""


class Gpu(Section):
    """Which GPUs, and how much of them, over all of a person's sessions."""

    max_equivalents: Annotated[Weight | None, Key("GPUs at a time", askable=True, mends=("gpu-quota",))] = 1.0
    """Quota over all sessions of a person: a whole GPU is 1.0, a slice its compute slices / 7."""
    max_devices_per_session: Annotated[
        Count | None, Key("Devices in one session", askable=True, mends=("gpu-devices",))
    ] = 1
    """Devices in one session; most programs use only one slice."""
    profiles: Annotated[
        tuple[Profile, ...] | None,
        Key("GPU slices that may be chosen", askable=True, none="all", mends=("gpu-profile",)),
    ] = None
    """Slice profiles that may be chosen, such as ``1g.10gb``; null allows every slice."""
    full_gpu: Annotated[Switch, Key("Whole GPUs", askable=True, mends=("full-gpu",))] = True
    """Whether whole GPUs may be chosen; independent of ``profiles``."""
    hours: GpuHours = GpuHours()
    """Budget of GPU-hours."""
    when_store_down: Annotated[
        Literal["open", "closed"], Key("GPU sessions while used GPU-hours cannot be read")
    ] = "open"
    """Start GPU sessions (``open``) or not (``closed``) while used GPU-hours cannot be read."""

    @field_validator("profiles")
    @classmethod
    def _slices_only(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if name in ("full", "none", "auto"):
                raise ValueError(
                    f'{name!r} is not a slice profile; "full_gpu" is for whole GPUs, CPU is always allowed'
                )
        return value


class Session(Section):
    """One session: how many at once, and the limits its container gets."""

    max: Annotated[Count | None, Key("Sessions at a time", askable=True, mends=("sessions-max",))] = 3
    """Sessions of one person at the same time."""
    cpus: Annotated[Cpus | None, Key("CPUs of a session", askable=True)] = 4.0
    """CPU time of one session, in CPUs."""
    memory: Annotated[Memory | None, Key("Memory of a session", askable=True, mends=("out-of-memory",))] = (
        8 * 2**30
    )
    """Memory of one session; a process that passes it is ended."""
    swap: Annotated[Size | None, Key("Swap of a session")] = 0
    """Swap on top of ``memory``; 0 is none."""
    shm: Annotated[Size, Key("Shared memory of a session", askable=True)] = 2 * 2**30
    """Size of ``/dev/shm``; counts against ``memory`` as it fills."""
    pids: Annotated[Positive | None, Key("Processes of a session", askable=True)] = 4096
    """Processes and threads of one session."""
    layer: Annotated[
        Annotated[Size, Field(ge=2**20)] | None, Key("Files outside the project", askable=True)
    ] = 20 * 2**30
    """What a session may write outside its project, such as in ``/tmp``; where the engine's storage cannot
    bound it, its owner is told."""
    layer_retire: Annotated[Switch, Key("Retire a session that wrote more", narrows=True)] = False
    """Retire a session that wrote more than ``layer``, where the storage cannot bound it."""
    io_weight: Annotated[
        Annotated[int, Field(strict=True, ge=10, le=1000)] | None, Key("Share of busy disks")
    ] = None
    """Share of busy disks against other sessions, 10 to 1000; no effect where the kernel has no weights."""
    ulimits: Annotated[Mapping[str, Ulimit], Key("Limits of a session's processes")] = Field(
        default_factory=dict
    )
    """Soft and hard limits by name, such as ``nofile: "1024:65536"``; each name merges on its own."""
    lifetime: Annotated[
        Annotated[Duration, Field(ge=60)] | None, Key("Longest life of a session", askable=True)
    ] = 24 * 3600
    """Longest life of a session, counted from its claim; then it is retired."""

    @field_validator("ulimits")
    @classmethod
    def _known_ulimits(cls, value: Mapping[str, tuple[int, int]]) -> Mapping[str, tuple[int, int]]:
        for name in value:
            if name not in ULIMITS:
                raise ValueError(f"{name!r} is not a ulimit; known are {', '.join(sorted(ULIMITS))}")
        return value


class Aggregate(Section):
    """A ceiling over all sessions of one person together; null is none."""

    cpus: Annotated[Cpus | None, Key("CPUs of all sessions", askable=True)] = None
    """CPU time all sessions share; each may use what the others leave."""
    memory: Annotated[
        Memory | None, Key("Memory of all sessions", askable=True, mends=("aggregate-memory",))
    ] = None
    """Memory of all sessions; a start that would not fit is refused."""
    memory_high: Annotated[
        Memory | None, Key("Memory of all sessions before they slow down", askable=True)
    ] = None
    """Above this the kernel slows the person's sessions down (cgroup v2 only)."""
    pids: Annotated[Positive | None, Key("Processes of all sessions", askable=True)] = None
    """Processes and threads of all sessions."""
    gpu_equivalents: Annotated[
        Weight | None, Key("GPUs of all sessions, preemptible ones too", askable=True)
    ] = None
    """Hard ceiling on GPUs; holds for preemptible sessions too."""

    @property
    def for_the_kernel(self) -> bool:
        """Whether there is a ceiling that a cgroup must hold; the one on GPUs is held at the claim."""
        return any(v is not None for v in (self.cpus, self.memory, self.memory_high, self.pids))


class KeepAlive(Section):
    """How far a person may put an idle retire off; 0 switches the button and the file off."""

    per_session: Annotated[Duration, Key("Keeping one session alive", askable=True)] = 0
    """How long one session may be kept alive in all."""
    per_day: Annotated[Duration, Key("Keeping sessions alive in a day", askable=True)] = 0
    """How long all of a person's sessions may be kept alive within a day."""


class Pressure(Section):
    """When devices are scarce: above ``threshold`` busy, the idle timeout is multiplied by ``factor``."""

    threshold: Annotated[
        Annotated[Share, Field(le=1)], Key("Devices in use from which idle sessions end sooner")
    ] = 0.8
    """Share of the devices in use from which the rule counts."""
    factor: Annotated[Annotated[Share, Field(gt=0, le=1)], Key("Idle time while devices are scarce")] = 1.0
    """1 changes nothing; 0.5 halves the timeout, never the warning's lead."""


class Thresholds(Section):
    """A session counts as active on a ground when it is above that ground's threshold."""

    gpu: Annotated[Annotated[Share, Field(le=1)], Key("GPU activity that counts", narrows=True)] = 0.05
    """GPU utilisation."""
    gpu_memory: Annotated[Size, Key("Change of GPU memory that counts", narrows=True)] = 64 * 2**20
    """Change of GPU memory that counts as activity where utilisation cannot be measured."""
    cpu: Annotated[Share, Key("CPU activity that counts", narrows=True)] = 0.05
    """Share of one CPU: ``5%`` is a twentieth of a core."""
    network: Annotated[Size, Key("Network traffic that counts", narrows=True)] = 16 * 2**10
    """Bytes received and sent per second."""


class Idle(Section):
    """When an idle session is warned and retired."""

    timeout: Annotated[
        Annotated[Duration, Field(ge=1)] | None, Key("Idle time", askable=True, none="never")
    ] = 3600
    """Idle for this long and it is retired; null is never for idleness."""
    start_grace: Annotated[Duration, Key("Time after a start that never counts as idle")] = 30 * 60
    """A session is not idle before this long after its start."""
    warn_lead: Annotated[
        Annotated[Duration, Field(ge=1)], Key("Warning before an idle session is retired")
    ] = 10 * 60
    """A warning is visible for at least this long before an idle retire."""
    lifetime_lead: Annotated[
        Annotated[Duration, Field(ge=1)], Key("Warning before the end of the lifetime")
    ] = 30 * 60
    """A warning is visible for this long before the end of the lifetime."""
    keep_alive: KeepAlive = KeepAlive()
    """Putting an idle retire off."""
    pressure: Pressure = Pressure()
    """When devices are scarce."""
    thresholds: Thresholds = Thresholds()
    """What counts as activity."""


class Queue(Section):
    """A person's place in the queue."""

    max_wait: Annotated[Duration | None, Key("Longest wait in the queue", askable=True)] = 24 * 3600
    """A ticket older than this ends."""
    priority: Annotated[
        Annotated[int, Field(strict=True, ge=-1000, le=1000)], Key("Priority in the queue", askable=True)
    ] = 0
    """Higher is served first."""
    max_tickets: Annotated[
        Count | None, Key("Places in the queue", askable=True, mends=("queue-places",))
    ] = 2
    """Places one person may hold at a time; 0 is no queueing."""
    claim_window: Annotated[Annotated[Duration, Field(ge=1)], Key("Time a granted GPU is kept")] = 5 * 60
    """How long granted devices are kept for the person."""
    preemptible: Annotated[
        Switch, Key("Sessions beyond the quota that make room", askable=True, mends=("preemptible",))
    ] = False
    """May start sessions beyond the quota that are retired first when someone entitled waits."""


class Builds(Section):
    """Limits on building environments."""

    parallel: Annotated[Positive, Key("Builds at a time")] = 1
    """Builds of one person at a time."""
    queued: Annotated[Positive, Key("Builds waiting or under way", askable=True, mends=("builds-max",))] = 5
    """Builds of one person that may wait or be under way."""
    cpus: Annotated[Cpus | None, Key("CPUs of a build")] = 2.0
    """CPUs of one build."""
    memory: Annotated[Memory | None, Key("Memory of a build")] = 4 * 2**30
    """Memory of one build."""
    time: Annotated[Annotated[Duration, Field(ge=60)], Key("Longest time of a build")] = 30 * 60
    """Longest time of one build."""
    context: Annotated[Size, Key("Largest folder sent to a build")] = 500 * 2**20
    """Largest folder sent to a build."""
    size: Annotated[Size | None, Key("Largest image of a build")] = 20 * 2**30
    """Largest image that may come out."""
    keep: Annotated[Positive, Key("Former images kept")] = 3
    """Former images of an environment kept for going back."""


class Images(Section):
    """Who may start and build which environments."""

    use: Annotated[
        tuple[Text, ...] | None,
        Key("Environments that may be started", askable=True, none="all", mends=("environment-not-allowed",)),
    ] = None
    """Environments that may be started: ids, or kinds (``lab``, ``mine``, ``shared``), ``*`` and ``?`` as
    wildcards; null allows all a person sees. A course's environment is open to its roster and staff."""
    build: Annotated[Switch, Key("Building environments", askable=True)] = True
    """Whether own environments may be built."""
    commit: Annotated[Switch, Key("Keeping a session as an environment", askable=True)] = False
    """Whether a session may be kept as an image (not reproducible)."""
    share: Annotated[Switch, Key("Sharing environments", askable=True)] = True
    """Whether own environments may be shared with the groups one is in."""
    max: Annotated[Count | None, Key("Own environments", askable=True, mends=("too-many-environments",))] = 10
    """Own environments."""
    builds: Builds = Builds()
    """Limits of builds."""


class MinimumFree(Section):
    """Free space that must be left for a start, by place."""

    workspace: Annotated[Size, Key("Free space needed in the workspace", narrows=True)] = 2**30
    """Where the person's files are."""
    host: Annotated[Size, Key("Free space needed on the machine", narrows=True)] = 2 * 2**30
    """The machine's own disk, where the hub keeps its state."""
    engine: Annotated[Size, Key("Free space needed for containers", narrows=True)] = 2 * 2**30
    """Where the container engine keeps images and containers."""


class Rescue(Section):
    """The small CPU-only session for deleting files when the workspace is full."""

    enabled: Annotated[Switch, Key("A small session when the workspace is full")] = True
    """Whether a full workspace still gives a rescue session."""
    cpus: Annotated[Cpus, Key("CPUs of that small session")] = 1.0
    """CPUs of a rescue session."""
    memory: Annotated[Memory, Key("Memory of that small session")] = 2**30
    """Memory of a rescue session."""
    lifetime: Annotated[Annotated[Duration, Field(ge=60)], Key("Longest life of that small session")] = 3600
    """Longest life of a rescue session."""


class Storage(Section):
    """Disk space."""

    projects: Annotated[Count | None, Key("Projects", askable=True, mends=("projects-max",))] = 200
    """Projects of one person; a new one beyond them is not made, those that are there open as ever."""
    quota: Annotated[Size | None, Key("Size of the workspace", askable=True, mends=("workspace-full",))] = (
        None
    )
    """Size of a person's workspace, where the site enforces one; shown, and checked before a start."""
    quota_command: Annotated[Command | None, Key("Program that sets the workspace's quota", none="none")] = (
        None
    )
    """Program and arguments run for a new workspace, with ``{user}``, ``{uid}``, ``{path}``, ``{quota}``
    (bytes) and ``{quota_kib}`` filled in; no shell is involved."""
    minimum_free: MinimumFree = MinimumFree()
    """Free space needed for a start."""
    rescue: Rescue = Rescue()
    """The session for deleting files."""


class Sections(Section):
    """The sections a layer may have, and the built-in defaults of every value."""

    gpu: Gpu = Gpu()
    """GPUs."""
    session: Session = Session()
    """One session."""
    aggregate: Aggregate = Aggregate()
    """All sessions of a person together."""
    idle: Idle = Idle()
    """Idle sessions."""
    queue: Queue = Queue()
    """The queue."""
    images: Images = Images()
    """Environments."""
    storage: Storage = Storage()
    """Disk space."""


class Group(Sections):
    """One policy group: who is in it, and the values it sets."""

    description: Text = ""
    """What the group is, for people."""
    members: tuple[Text, ...] = ()
    """Names that belong to the group beside the members of the hub group of the same name."""
    members_file: Text | None = None
    """A file with one name per line, relative to the policy file; ``#`` starts a comment."""
    hub_admins: Switch = False
    """Whether every JupyterHub admin belongs to this group."""


class User(Sections):
    """One person's own values, if need be until a date."""

    expires: Moment | None = None
    """From this second on the values have no effect; a bare date is 00:00 UTC of that day."""
    reason: Text = ""
    """Why."""
    approved_by: Text = ""
    """Who agreed."""


class PolicyFile(Section):
    """A whole policy file."""

    version: Literal[1]
    """Version of the format."""
    default_group: Text | None = None
    """Group of everyone who is in no other group of this file."""
    defaults: Sections = Sections()
    """What everybody has."""
    groups: Mapping[str, Group] = Field(default_factory=dict)
    """In order: of two groups of one person, the later one's values win."""
    users: Mapping[str, User] = Field(default_factory=dict)
    """Exceptions of single people, by the hub's name."""

    @field_validator("groups", "users", mode="before")
    @classmethod
    def _empty_entries(cls, value: object) -> object:
        return {k: {} if v is None else v for k, v in value.items()} if isinstance(value, Mapping) else value


SECTION_NAMES: tuple[str, ...] = tuple(Sections.model_fields)

"""The policy file as typed, frozen models; unknown keys are refused. Pure.

The same section models serve three readers: a layer of the file (only the keys it names count), the
built-in defaults (the defaults below), and a person's merged limits. Sizes are bytes, durations
seconds and shares fractions once read. ``None`` (``null`` in the file) means *no limit*.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ..options import GPU_PATTERN
from . import units


def _schema(pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": pattern}, {"const": 0}], "examples": [example]}
    )


Size = Annotated[int, BeforeValidator(units.parse_size), _schema(units.SIZE_PATTERN, "32g")]
Duration = Annotated[int, BeforeValidator(units.parse_duration), _schema(units.DURATION_PATTERN, "90m")]
Share = Annotated[
    float,
    BeforeValidator(units.parse_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": units.SHARE_PATTERN},
                {"type": "number", "minimum": 0, "maximum": 1},
            ],
            "examples": ["5%"],
        }
    ),
]
Cpus = Annotated[
    float,
    BeforeValidator(units.parse_cpus),
    WithJsonSchema({"type": "number", "minimum": 0.01, "examples": [4]}),
]
Ulimit = Annotated[
    tuple[int, int],
    BeforeValidator(units.parse_ulimit),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": -1}, {"type": "string"}], "examples": ["1024:65536"]}
    ),
]
Count = Annotated[int, Field(strict=True, ge=0, le=10**9)]
Positive = Annotated[int, Field(strict=True, ge=1, le=10**9)]
Weight = Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)]
Memory = Annotated[Size, Field(ge=6 * 2**20)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, max_length=500)]
Profile = Annotated[str, Field(strict=True, pattern=rf"^(?:{GPU_PATTERN})$")]
_ULIMITS = "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack"
ULIMITS = frozenset(_ULIMITS.split())


_BRANCHES = (
    *("gpu", "session", "aggregate", "idle", "queue", "images", "storage"),
    *("hours", "keep_alive", "pressure", "thresholds", "builds", "minimum_free", "rescue"),
    *("defaults", "groups", "users", "ulimits"),
)
_EMPTY: dict[str, Any] = {**{key: {} for key in _BRANCHES}, "members": ()}
"""Keys that hold further keys (or names), and what they mean with nothing written below them."""


class Section(BaseModel):
    """Base of every part of the file: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_nothing_said(cls, data: object) -> object:
        """``gpu:`` with nothing below it says nothing, rather than failing or switching limits off."""
        if not isinstance(data, Mapping):
            return data
        return {k: _EMPTY[k] if v is None and k in _EMPTY else v for k, v in data.items()}


class GpuHours(Section):
    """A budget of GPU-hours (GPU-equivalents × hours) in a rolling window."""

    budget: Weight | None = None
    """GPU-hours that may have been used within ``window`` when a session starts."""
    window: Annotated[Duration, Field(ge=3600)] = 7 * 86400
    """Length of the window, at least an hour; it moves with time."""


class Gpu(Section):
    """Which GPUs, and how much of them, over all of a person's sessions."""

    max_equivalents: Weight | None = 1.0
    """Quota over all sessions of a person: a whole GPU is 1.0, a slice its compute slices / 7."""
    max_devices_per_session: Count | None = 1
    """Devices in one session; most programs use only one slice."""
    profiles: tuple[Profile, ...] | None = None
    """Slice profiles that may be chosen, such as ``1g.10gb``; null allows every slice."""
    full_gpu: Switch = True
    """Whether whole GPUs may be chosen; independent of ``profiles``."""
    hours: GpuHours = GpuHours()
    """Budget of GPU-hours."""
    when_store_down: Literal["open", "closed"] = "open"
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

    max: Count | None = 3
    """Sessions of one person at the same time."""
    cpus: Cpus | None = 4.0
    """CPU time of one session, in CPUs."""
    memory: Memory | None = 8 * 2**30
    """Memory of one session; a process that passes it is ended."""
    swap: Size | None = 0
    """Swap on top of ``memory``; 0 is none."""
    shm: Size = 2 * 2**30
    """Size of ``/dev/shm``; counts against ``memory`` as it fills."""
    pids: Positive | None = 4096
    """Processes and threads of one session."""
    io_weight: Annotated[int, Field(strict=True, ge=10, le=1000)] | None = None
    """Share of busy disks against other sessions, 10 to 1000; no effect where the kernel has no weights."""
    ulimits: Mapping[str, Ulimit] = Field(default_factory=dict)
    """Soft and hard limits by name, such as ``nofile: "1024:65536"``; each name merges on its own."""
    lifetime: Annotated[Duration, Field(ge=60)] | None = 24 * 3600
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

    cpus: Cpus | None = None
    """CPU time all sessions share; each may use what the others leave."""
    memory: Memory | None = None
    """Memory of all sessions; a start that would not fit is refused."""
    memory_high: Memory | None = None
    """Above this the kernel slows the person's sessions down (cgroup v2 only)."""
    pids: Positive | None = None
    """Processes and threads of all sessions."""
    gpu_equivalents: Weight | None = None
    """Hard ceiling on GPUs; holds for preemptible sessions too."""

    @property
    def for_the_kernel(self) -> bool:
        """Whether there is a ceiling that a cgroup must hold; the one on GPUs is held at the claim."""
        return any(v is not None for v in (self.cpus, self.memory, self.memory_high, self.pids))


class KeepAlive(Section):
    """How far a person may put an idle retire off; 0 switches the button and the file off."""

    per_session: Duration = 0
    """How long one session may be kept alive in all."""
    per_day: Duration = 0
    """How long all of a person's sessions may be kept alive within a day."""


class Pressure(Section):
    """When devices are scarce: above ``threshold`` busy, the idle timeout is multiplied by ``factor``."""

    threshold: Annotated[Share, Field(le=1)] = 0.8
    """Share of the devices in use from which the rule counts."""
    factor: Annotated[Share, Field(gt=0, le=1)] = 1.0
    """1 changes nothing; 0.5 halves the timeout, never the warning's lead."""


class Thresholds(Section):
    """A session counts as active on a ground when it is above that ground's threshold."""

    gpu: Annotated[Share, Field(le=1)] = 0.05
    """GPU utilisation."""
    gpu_memory: Size = 64 * 2**20
    """Change of GPU memory that counts as activity where utilisation cannot be measured."""
    cpu: Share = 0.05
    """Share of one CPU: ``5%`` is a twentieth of a core."""
    network: Size = 16 * 2**10
    """Bytes received and sent per second."""


class Idle(Section):
    """When an idle session is warned and retired."""

    timeout: Annotated[Duration, Field(ge=1)] | None = 3600
    """Idle for this long and it is retired; null is never for idleness."""
    start_grace: Duration = 30 * 60
    """A session is not idle before this long after its start."""
    warn_lead: Annotated[Duration, Field(ge=1)] = 10 * 60
    """A warning is visible for at least this long before an idle retire."""
    lifetime_lead: Annotated[Duration, Field(ge=1)] = 30 * 60
    """A warning is visible for this long before the end of the lifetime."""
    keep_alive: KeepAlive = KeepAlive()
    """Putting an idle retire off."""
    pressure: Pressure = Pressure()
    """When devices are scarce."""
    thresholds: Thresholds = Thresholds()
    """What counts as activity."""


class Queue(Section):
    """A person's place in the queue."""

    max_wait: Duration | None = 24 * 3600
    """A ticket older than this ends."""
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = 0
    """Higher is served first."""
    max_tickets: Count | None = 2
    """Places one person may hold at a time; 0 is no queueing."""
    claim_window: Annotated[Duration, Field(ge=1)] = 5 * 60
    """How long granted devices are kept for the person."""
    preemptible: Switch = False
    """May start sessions beyond the quota that are retired first when someone entitled waits."""


class Builds(Section):
    """Limits on building environments."""

    parallel: Positive = 1
    """Builds of one person at a time."""
    cpus: Cpus | None = 2.0
    """CPUs of one build."""
    memory: Memory | None = 4 * 2**30
    """Memory of one build."""
    time: Annotated[Duration, Field(ge=60)] = 30 * 60
    """Longest time of one build."""
    context: Size = 500 * 2**20
    """Largest folder sent to a build."""
    size: Size | None = 20 * 2**30
    """Largest image that may come out."""
    keep: Positive = 3
    """Former images of an environment kept for going back."""


class Images(Section):
    """Who may start and build which environments."""

    use: tuple[Text, ...] | None = None
    """Environments that may be started: ids, or kinds (``lab``, ``mine``, ``shared``), ``*`` and ``?`` as
    wildcards; null allows all a person sees. A course's environment is open to its roster and staff."""
    build: Switch = True
    """Whether own environments may be built."""
    commit: Switch = False
    """Whether a session may be kept as an image (not reproducible)."""
    share: Switch = True
    """Whether own environments may be shared with the groups one is in."""
    max: Count | None = 10
    """Own environments."""
    builds: Builds = Builds()
    """Limits of builds."""


class MinimumFree(Section):
    """Free space that must be left for a start, by place."""

    workspace: Size = 2**30
    """Where the person's files are."""
    host: Size = 2 * 2**30
    """The machine's own disk, where the hub keeps its state."""
    engine: Size = 2 * 2**30
    """Where the container engine keeps images and containers."""


class Rescue(Section):
    """The small CPU-only session for deleting files when the workspace is full."""

    enabled: Switch = True
    """Whether a full workspace still gives a rescue session."""
    cpus: Cpus = 1.0
    """CPUs of a rescue session."""
    memory: Memory = 2**30
    """Memory of a rescue session."""
    lifetime: Annotated[Duration, Field(ge=60)] = 3600
    """Longest life of a rescue session."""


class Storage(Section):
    """Disk space."""

    quota: Size | None = None
    """Size of a person's workspace, where the site enforces one; shown, and checked before a start."""
    quota_command: tuple[Text, ...] | None = None
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


def _moment(value: object) -> datetime:
    hint = "expected a date (2026-12-31) or a time with zone (2026-12-31T18:00+01:00)"
    text = value.isoformat() if isinstance(value, (date, datetime)) else value
    if not isinstance(text, str):
        raise ValueError(f"{hint}, not {value!r}")
    text = text.strip()
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), timezone.utc)
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text[-1:] in "Zz" else text)
    except ValueError:
        raise ValueError(f"{hint}, not {text[:40]!r}") from None
    if moment.tzinfo is None:
        raise ValueError(f"{hint}; {text!r} has no zone")
    return moment.astimezone(timezone.utc)


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-12-31", "2026-12-31T18:00+01:00"]}),
]


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

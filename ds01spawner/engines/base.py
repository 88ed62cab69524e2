"""The seam to what runs sessions: the `Engine` protocol, its types and its errors.

Everything outside ``engines/<name>/`` speaks to an engine through this module and knows no SDK. An engine
is a class that implements `Engine`, named by an entry point of the group ``ds01.engines`` and tried by
``tests/contract/``. What holds for every method, unless its text says otherwise:

* It *blocks* and is *thread-safe*: call it from a thread, never on an event loop. None takes longer than the
  engine's own time limit (a minute on Docker) for each request that it makes.
* It *fails closed*: `EngineAway` means that nothing is known, never that nothing is there. From a list that
  failed nothing follows. `EngineRefused` means that the engine answered no; both are `EngineError`.
* What *ends* something checks first that it is this installation's (`core.installation`), may be repeated,
  also side by side in several processes, and returns only when the engine says that it is gone.
* Device ids are *opaque* outside the adapter: compare them, show them nowhere, take nothing from their text.
* Containers, pods and the like are ids too: an ``EngineSession.container`` is good for giving back, no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from ..core.ending import Ended
from ..core.errors import EngineError
from ..core.installation import Standing
from ..core.labels import SessionLabels
from ..gpu.reading import GpuReading
from ..placement.devices import Block, Device, Holding, Inventory
from .ends import EndEvidence

if TYPE_CHECKING:
    from traitlets.config import Config

    from ..policy.plan import LaunchPlan
    from ..workspace.identity import Identity

T = TypeVar("T")
NO_END = EndEvidence()
NO_READING = GpuReading(Inventory("none"))
Pool = Literal["claim", "mutate", "stop", "read", "pull"]
"""Where work runs: ten slow stops must never delay a start, nor a pull a look."""


# --- errors -----------------------------------------------------------------------------------------


class EngineAway(EngineError):
    """The engine did not answer, or broke off: nothing is known, and what was asked for may have happened."""


class EngineRefused(EngineError):
    """The engine answered that it will not. Trying the very same again gives the same answer."""


class ImageGone(EngineRefused):
    """The image to start from is not on the engine (any more)."""


class NotThatSession(EngineError):
    """What an id or a name means now is another session, or none of ours; nothing was done to it."""


class DeviceUnusable(EngineRefused):
    """A session could not be started on its devices, though the engine is well: another device may do.

    ``sure`` where the engine's words are about a device. Where they are not, the next device that is tried
    shows it: if that does, it was this one.
    """

    def __init__(self, reason: str, devices: tuple[str, ...], sure: bool = True) -> None:
        super().__init__(reason)
        self.devices = devices
        self.sure = sure


# --- what an engine says of itself ------------------------------------------------------------------


@dataclass(frozen=True)
class Capabilities:
    """What one engine enforces by itself. A False here is shown to people as "not enforced"."""

    memory: bool = False
    cpus: bool = False
    pids: bool = False
    shm: bool = False
    swap: bool = False
    aggregate: bool = False
    devices: bool = False
    """Whether a session can be kept to exactly its own devices."""
    queue: bool = False
    """Whether the engine itself lets a session wait; where not, the ticket queue does."""
    deadline: bool = False
    """Whether the engine itself ends a session at its lifetime; where not, the idle service does."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why something is not enforced, by the name of the field above."""

    def unenforced(self) -> list[str]:
        """What is not enforced, one sentence each, for the doctor and the pages."""
        return [f"{TITLES.get(name, name)} not enforced: {why}" for name, why in self.reasons.items()]


TITLES = {
    "pids": "The limit on processes is",
    "shm": "The size of /dev/shm is",
    "swap": "The limit on swap is",
    "memory": "The limit on memory is",
    "cpus": "The limit on CPU time is",
    "aggregate": "The ceiling over all sessions of a person is",
}


@dataclass(frozen=True)
class Capacity:
    """What the engine's machines have together. 0 and an empty text where the engine does not tell."""

    cpus: int = 0
    storage: str = ""
    """The folder of the engine's own disk, where this process can see it."""
    per_session_files: bool = False
    """Whether what a session writes outside its project can be bounded."""


Level = Literal["ok", "site", "warning", "error"]
"""``site``: nothing is broken; how safe it is rests on what the site chose."""


@dataclass(frozen=True)
class Finding:
    """One result of a check of the host: what is so, why it matters, and what mends it."""

    level: Level
    what: str
    why: str = ""
    mend: str = ""


# --- what runs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EngineSession:
    """A session as the engine tells it, in whatever state. ``standing`` says how far it is true."""

    labels: SessionLabels
    container: str
    """The engine's id of what runs it."""
    name: str
    state: str
    """``running``, ``created``, ``exited``, … One that is listed in any state still holds its devices."""
    status: str
    """The engine's words for people, such as ``Up 3 hours``."""
    started_at: str = ""
    """ISO 8601 time of the last start, or empty when it never started."""
    standing: Standing = Standing.OURS
    addresses: tuple[str, ...] = ()
    """Where it can be reached from beside the hub, if the engine's list tells."""
    created: str = ""
    """ISO 8601 time at which the engine made what runs it, by its own clock; empty where it does not tell."""


@dataclass(frozen=True)
class EngineState:
    """Who holds what, and which sessions there are, true at one moment."""

    holdings: tuple[Holding, ...]
    """Every device that anything holds, ours or not; what cannot be told counts as held."""
    sessions: tuple[EngineSession, ...]
    """The sessions of this installation, and of no other."""
    others: tuple[EngineSession, ...] = ()
    """What else says that it is a session: of another installation, or forged. For admins alone."""
    reading: GpuReading = NO_READING
    """The devices as they were read for this look."""

    def holders(self, uuid: str) -> tuple[Holding, ...]:
        """Who holds the device ``uuid``."""
        return tuple(h for h in self.holdings if h.uuid == uuid)


def leftovers(sessions: Iterable[EngineSession], now: datetime, older_than: timedelta) -> list[EngineSession]:
    """What no session can come of any more: ours, not running, and older than any start takes. Pure.

    A running one never is, whatever the hub believes.
    """
    found = []
    for record in sessions:
        if record.standing is not Standing.OURS or record.state not in ("created", "exited", "dead"):
            continue
        try:
            created = datetime.fromisoformat(record.labels.created_at)
        except ValueError:
            continue
        if now - created > older_than:
            found.append(record)
    return found


@dataclass(frozen=True)
class Attach:
    """The way devices are attached, and why this one."""

    mode: Literal["cdi", "nvidia", "simulated", "none", "scheduler"]
    reason: str
    blocks: Mapping[str, Block] = field(default_factory=dict)
    """Devices that the engine could not attach now, with the command that mends it."""


@dataclass(frozen=True)
class Counters:
    """One look at a session's use of the machine; None where a value cannot be read, which is no zero."""

    cpu_seconds: float | None = None
    """Counts up from its start."""
    memory: float | None = None
    memory_limit: float | None = None


@dataclass(frozen=True)
class Found:
    """What has a server's name on the engine. ``labels`` None: it is another's, and must not be touched."""

    container: str
    labels: SessionLabels | None
    running: bool
    end: EndEvidence = NO_END
    """How it ended, where it did; its record alone, without what else the engine remembers."""
    env: Mapping[str, str] = field(default_factory=dict)
    """The variables that it was started with, so that a hub which lost it can take it up again."""


@dataclass(frozen=True)
class Retired:
    """What a retire did. ``log_tail`` are the session's last lines; ``labels`` None where it was gone."""

    labels: SessionLabels | None
    log_tail: str = ""
    ended: Ended | None = None
    """How it ended, where it had ended by itself or the engine told the time."""
    ran: bool = False
    """Whether it ran until it was ended here."""


# --- a claim ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Claim:
    """A session to be created, engine-free: what it is, what it holds, what it may use, what it sees."""

    labels: SessionLabels
    """Without the proof, which is the adapter's to add: it knows the final name."""
    plan: LaunchPlan
    devices: tuple[Device, ...]
    image: str
    """The immutable image."""
    image_path: str
    """``PATH`` as the image sets it."""
    has_init: bool
    """Whether the image brings its own process 1."""
    identity: Identity
    workspace: Path
    """The project's folder as this process sees it; the adapter knows how its engine does."""
    hostname: str
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mapping[str, Any], ...] = ()
    """Read-only folders that the environment brings."""


Choose = Callable[[EngineState, Mapping[str, Block]], Claim]
"""Choose devices on what is so at this moment; raises `errors.Refused`. See `engines.claiming`."""


@dataclass(frozen=True)
class ClaimRequest:
    """A wish for a session. ``choose`` runs where nothing else can take a device meanwhile."""

    choose: Choose
    wants_gpu: bool
    """False lets the adapter leave out what only devices need."""
    name: str
    """The engine's name for it, a DNS label: a second of that name is refused."""
    session: str
    native: Mapping[str, Any] = field(default_factory=dict)
    """What the engine's own spawner class and its settings say, in its own words; claims overrule it."""
    grace: int = 30
    """Seconds its processes get to end, where the engine itself ends it."""
    timeout: float = 20.0
    """Seconds to wait for others' claims; then `LockError`, and nothing is granted."""


@dataclass(frozen=True)
class Claimed:
    """A created session that has not been started, and what it holds from now on."""

    container: str
    claim: Claim
    simulated: bool
    """Whether its devices are only played."""

    @property
    def labels(self) -> SessionLabels:
        """What it is."""
        return self.claim.labels

    @property
    def sentence(self) -> str:
        """What was reserved, for the start's progress."""
        notes = "".join(f"; {note}" for note in self.claim.plan.notes)
        devices = self.claim.devices
        if not devices:
            return f"CPU only: no GPU is reserved{notes}"
        names = ", ".join(f"{_size(d)} on {d.name.split(' MIG ')[0]}" for d in devices)
        hint = " (simulated)" if self.simulated and "simulated" not in names else ""
        return f"Reserved {names}{hint}{notes}"


def _size(device: Device) -> str:
    return "a whole GPU," if device.profile == "full" else device.profile


# --- the protocol -----------------------------------------------------------------------------------


class Engine(Protocol):
    """What runs sessions. See the module's text for what holds for every method."""

    name: str
    """``docker``, ``kubernetes``, ``fake``; for logs and the doctor, never to decide by."""

    def prepare(self, hub: Config) -> None:
        """Called once by ``configure``, on ``c.JupyterHub``: make what sessions need to reach the hub.

        Says where the hub listens unless the site has; asks nothing of the engine then. May wait some tens of
        seconds for an engine that comes up beside the hub; `EngineError` ends the hub before it starts.
        """

    # What it is: cheap, cached for half a minute, asked by every page.

    def answers(self) -> None:
        """Return when the engine answers within seconds, else `EngineAway`.

        Ask it before a sequence of calls, each of which would wait its whole minute for an engine that
        hangs. It proves nothing about the next call.
        """

    def capabilities(self) -> Capabilities:
        """What is really enforced. An engine that does not say is believed: starts are verified anyway."""

    def capacity(self) -> Capacity:
        """How large the machines are, as last read: zeros before the first answer. Never blocks or raises."""

    def exposure(self) -> tuple[str, ...]:
        """How sessions reach each other's ports, as last tried; empty where they do not, or none can tell.

        Cheap: reads the last result and at most one fact about the network it was of. Starts nothing.
        """

    # Who holds what: the truth that quotas, queue, form and pages rest on.

    def inventory(self, max_age: float = ...) -> GpuReading:
        """The devices that exist and how they are, read at most ``max_age`` seconds ago (5 if not said).

        A reading costs up to some seconds with a slow driver, and holds up no other method. Never raises:
        a driver that fails is a reading whose state says why, and which offers nothing.
        """

    def look(self, max_age: float = ..., patience: float = ...) -> EngineState:
        """Holdings and sessions *now*; ``max_age`` is that of the inventory they are matched with.

        A container of which the engine cannot tell now, because it works on it, counts as holding every
        device until it does; ``patience`` is how many seconds to wait for that. Decisions leave it as it is.

        One list call, and one look at each container never seen before. True at the moment of the list,
        without trusting any event to have arrived. `EngineAway` rather than a partial answer.
        """

    def attach(self, inventory: Inventory) -> Attach:
        """How devices reach a session, and which of them could not be given now though nothing holds them."""

    def devices_lost(self, session: EngineSession) -> bool:
        """Whether a running session cannot open its devices any more, which only looking inside shows.

        False where that cannot be told. Cheap, except where the way of attaching makes it possible.
        """

    # One session, from claim to removal.

    def claim(self, request: ClaimRequest) -> Claimed:
        """Look, let ``request.choose`` choose, and create, as one step; the created session *is* the claim.

        Order: no other claim of this installation chooses between our look and our create, in whatever
        process. Where others can create on the engine too, it looks once more after the create, and gives
        way: of two that see each other both may, never neither. A request without devices may skip both.

        `Refused` (from ``choose``; a name that is taken; a folder exchanged meanwhile), `ImageGone`,
        `LockError` after ``request.timeout``, other `EngineError`. Whatever it raises, it leaves
        nothing: not even when this process dies inside it is anything to be released.
        """

    def start(self, claimed: Claimed) -> None:
        """Start what was claimed, and verify that limits and folders are really those of the claim.

        Once for each claim. `DeviceUnusable` where its devices are the reason; `Refused` where the kernel
        shows other limits or folders than were set, and then the session has been ended. After any failure
        the claim still holds its devices: `discard` it.
        """

    def let_go(self, claimed: Claimed) -> None:
        """Release what this process held for a start (locked folders), ended well or not. Idempotent."""

    def find(self, name: str, *, quick: bool = False) -> Found | None:
        """What has a name now. None: the engine says that nothing has. `EngineAway`: it cannot tell.

        ``quick`` waits some seconds for an engine that hangs, not a minute. Not ordered with other calls.
        """

    def log_tail(self, container: str) -> str:
        """Its last lines as plain text, bounded; empty where they cannot be read. Never raises."""

    def retire(self, target: str, session: str, grace: int) -> Retired:
        """End a session by its id or name: ask its processes, wait ``grace`` seconds, remove it, verify.

        Its labels are read again first. Gone already is success (``Retired(None)``). `NotThatSession` where
        ``target`` is another by now, `EngineError` while it may still be there: then its devices are held.
        """

    def discard(self, name: str, session: str) -> bool:
        """Remove at once what a start made under this name, if it is that very session's; whether it was.

        For starts that failed or were cancelled; queue it by `in_order` behind the claim.
        """

    # Ends, use and care: what the services ask, every some seconds.

    def how_ended(self, container: str) -> EndEvidence:
        """How a session ended that is listed and does not run, by the engine's clock and all it remembers.

        Empty where it runs. An engine that does not answer tells nothing; it never raises.
        """

    def how_vanished(self, session: str, since: datetime, now: datetime) -> EndEvidence:
        """How a session ended of which nothing is left; empty where the engine forgot it. Never raises."""

    def counters(self, sessions: Iterable[EngineSession]) -> Mapping[str, Counters]:
        """A look at each session's use, by container. One that cannot be asked has empty `Counters`.

        Never raises. Some 10 ms a session on Docker; ask a few times a minute, not for every page.
        """

    def tidy(self, now: datetime) -> list[str]:
        """Remove what belongs to nobody any more; names of what went. Never a session. Idempotent."""

    # Order.

    def in_order(self, pool: Pool, name: str | None, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``work`` in the engine's threads, behind all earlier work of the same ``name``.

        Does not block; the answer is awaitable on the running loop. Order is that of the calls, whatever
        becomes of the coroutines that made them: a discard behind a cancelled claim finds what it made.
        Work without a name, and work of other names, runs side by side.
        """

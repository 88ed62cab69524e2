"""Build environments: what a build is, which one is next, and the queue that outlives nothing by accident.

queued → building → checking → ready | failed | cancelled. States and logs are in the store, so a page
can be refreshed and another process can look. The work itself is in this process: after a restart every
build that was under way is failed, never "building" for ever, and what was half built is never offered.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import messages
from ...core.errors import DS01Error, EngineError, Refused
from ...engines.docker.image_store import Images, asking
from ...engines.docker.runstep import clear_leftovers
from ...store.catalogue import ACTIVE
from ...store.store import Store
from ...workspace.projectfiles import ProjectFiles
from ..catalogue import Environment
from ..naming import HALF_BUILT_NAMESPACE
from ..preflight import Host
from ..registries import Registries
from ..resolver import Resolver
from ..rights import Reader
from .dockerfile import SiteBuild
from .recipe import Recipe
from .room import Room, admit_build

if TYPE_CHECKING:
    from .job import Job

FINAL = ("ready", "failed", "cancelled")
RESTARTED = "the service was restarted while this build was under way; build again"


@dataclass(frozen=True)
class BuildLimits:
    """What one person's builds may use; the fields of the policy's ``images.builds``."""

    parallel: int = 1
    queued: int = 5
    """Waiting or under way, of one person."""
    cpus: float | None = 2.0
    memory: int | None = 4 * 2**30
    """Bytes."""
    pids: int = 2048
    """Processes and threads of one step."""
    time: int = 1800
    """Seconds for the whole build."""
    context: int = 500 * 2**20
    """Bytes sent."""
    size: int | None = 20 * 2**30
    """Bytes of the image that comes out."""
    keep: int = 3
    """Former images kept for going back."""


@dataclass(frozen=True)
class BuildRequest:
    """A build that is allowed: whoever makes one has asked the policy.

    ``environment`` is the id people see, ``reference`` what is tagged in the end (the same for own
    environments). ``base`` is the image to start from, chosen and checked; empty for a Dockerfile.
    """

    owner: str
    environment: str
    reference: str
    recipe: Recipe
    base: str = ""
    limits: BuildLimits = BuildLimits()
    project: ProjectFiles | None = None
    kind: str = "mine"
    course: str = ""
    groups: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    by: str = ""
    """Who asked, where that is not the owner."""
    reader: Reader | None = None
    """Whose rights hold for the images it takes from; the owner's own where not given."""
    notes: tuple[str, ...] = ()
    """Lines that begin the log, such as what came of keeping the recipe."""


@dataclass(frozen=True)
class Site:
    """What builds need to know of the site."""

    host: Host
    build: SiteBuild = field(default_factory=SiteBuild)
    network: str = ""
    """Network mode of the build's steps: empty for the engine's default, ``none`` for no network."""
    ready: Callable[[], str] = lambda: ""
    """Called before each build: the network of its steps, seen to; empty for ``network``."""
    runtime: str = ""
    """The engine's plain runtime, where its default one may hand GPUs to whoever asks by a variable."""
    listed: Callable[[], Iterable[Environment]] = tuple
    """The site's own environments, whose images everybody they are listed for may build from."""
    registries: Registries = field(default_factory=Registries)
    """Those that the engine may be sent to for an image that is not here."""
    free_bytes: Callable[[], int | None] = lambda: None
    """Free space where the engine keeps images, or None when it is not known."""
    minimum_free: int = 2 * 2**30
    secrets: tuple[str, ...] = ()
    probe_cache: Path | None = None


def next_builds(
    queued: Sequence[tuple[str, str]], running: Mapping[str, int], limits: Mapping[str, int], free: int
) -> list[str]:
    """Which builds to start now: oldest first, nobody beyond their own limit, at most ``free`` in all.

    ``queued`` are ``(build, owner)`` in order of arrival, ``running`` and ``limits`` numbers by owner.
    """
    count = dict(running)
    chosen: list[str] = []
    for build, owner in queued:
        if len(chosen) == free:
            break
        if count.get(owner, 0) < limits.get(owner, 1):
            count[owner] = count.get(owner, 0) + 1
            chosen.append(build)
    return chosen


class BuildRunner:
    """The queue of builds and the threads that work on it. One for each site, in the service."""

    def __init__(
        self,
        store: Store,
        images: Images,
        site: Site,
        workers: int = 2,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self.store = store
        self.images = images
        self.site = site
        self.clock = clock
        self.resolver = Resolver(images, lambda: store, site.listed, site.registries)
        self._workers = workers
        self._lock = threading.Lock()
        self._queue: dict[str, BuildRequest] = {}
        self._jobs: dict[str, Job] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._closed = False

    def recover(self) -> list[str]:
        """After a start: fail what nobody works on, and drop what was half built. Returns the builds."""
        stale = self.store.builds.fail(ACTIVE, RESTARTED, self.clock())
        for image in self.images.list():
            for tag in image.tags:
                space, _, rest = tag.partition("/")
                # Another hub on this engine may be building now: what this store does not know is not ours.
                if space == HALF_BUILT_NAMESPACE and self.store.builds.get(rest.partition(":")[0]):
                    drop(self.images, tag)
        with asking("removing what builds left running"):
            clear_leftovers(self.images.client(), lambda build: self.store.builds.get(build) is not None)
        return stale

    def submit(self, request: BuildRequest, room: Room | None = None) -> str:
        """Queue a build and return its id.

        `Refused` when the environment is being built already, or there is no room for one more build or
        environment (``room``; None is for whoever may do everything).
        """
        with self._lock:
            if self._closed:
                raise DS01Error("the service is stopping; build again in a moment")
            for other in (*self._queue.values(), *(j.request for j in self._jobs.values())):
                if other.reference == request.reference:
                    raise Refused(messages.build_running(request.environment))
            build = f"b-{secrets.token_hex(6)}"
            data = {
                "reference": request.reference,
                "recipe": request.recipe.model_dump(mode="json", exclude_defaults=True),
                "base": request.base,
                "kind": request.kind,
                "course": request.course,
                "by": request.by or request.owner,
            }
            self.store.builds.claim(
                build,
                request.owner,
                request.environment,
                data,
                self.clock(),
                partial(admit_build, request, room),
            )
            self._queue[build] = request
        self._dispatch()
        return build

    def cancel(self, build: str, reason: str = "cancelled") -> bool:
        """Stop a build, queued or running; False when it is over already."""
        with self._lock:
            if self._queue.pop(build, None) is not None:
                return self.store.builds.move(
                    build, "cancelled", self.clock(), expected=("queued",), reason=reason
                )
            job = self._jobs.get(build)
        if job is None:
            return False
        job.stop("cancelled", reason)
        return True

    def position(self, build: str) -> int | None:
        """How many builds are before this one, or None when it is not waiting."""
        with self._lock:
            waiting = list(self._queue)
        return waiting.index(build) if build in waiting else None

    def wait(self, build: str, timeout_s: float) -> str:
        """Wait for a build's end (the command line does); returns its state."""
        deadline = threading.Event()
        step = 0.2
        for _ in range(max(1, int(timeout_s / step))):
            known = self.store.builds.get(build)
            if known is None or known.state in FINAL:
                break
            deadline.wait(step)
        known = self.store.builds.get(build)
        return str(known.state) if known else "failed"

    def close(self, timeout_s: float = 10) -> None:
        """Stop everything; what was under way is failed with the reason."""
        with self._lock:
            self._closed = True
            queued, jobs = list(self._queue), list(self._jobs.values())
            self._queue.clear()
            threads = list(self._threads.values())
        for build in queued:
            self.store.builds.move(build, "failed", self.clock(), expected=("queued",), reason=RESTARTED)
        for job in jobs:
            job.stop("failed", RESTARTED)
        for thread in threads:
            thread.join(timeout_s)

    def _dispatch(self) -> None:
        from .job import Job

        with self._lock:
            if self._closed:
                return
            running: dict[str, int] = {}
            for job in self._jobs.values():
                running[job.request.owner] = running.get(job.request.owner, 0) + 1
            chosen = next_builds(
                [(build, r.owner) for build, r in self._queue.items()],
                running,
                {r.owner: r.limits.parallel for r in self._queue.values()},
                self._workers - len(self._jobs),
            )
            for build in chosen:
                job = Job(build, self._queue.pop(build), self.store, self.resolver, self.site, self.clock)
                self._jobs[build] = job
                thread = threading.Thread(target=self._work, args=(job,), name=build, daemon=True)
                self._threads[build] = thread
                thread.start()

    def _work(self, job: Job) -> None:
        try:
            job.run()
        finally:
            with self._lock:
                self._jobs.pop(job.build, None)
                self._threads.pop(job.build, None)
            self._dispatch()


def drop(images: Images, reference: str) -> None:
    """Remove a tag of ours; one that is in use, or an engine that does not answer, is left for later."""
    try:
        images.remove(reference)
    except EngineError:
        return


def limits_from(section: Any) -> BuildLimits:
    """`BuildLimits` out of the policy's ``images.builds``, as a mapping or a model with these fields."""
    names: Iterable[str] = BuildLimits.__dataclass_fields__
    if not isinstance(section, Mapping):
        section = {name: getattr(section, name) for name in names if hasattr(section, name)}
    return BuildLimits(**{name: section[name] for name in names if name in section})

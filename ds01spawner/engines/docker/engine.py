"""The `Engine` of one Docker host: who holds what is read from its containers, devices from the driver."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import docker.errors
import requests

from ...core.errors import EngineError
from ...core.installation import Installation, InstallationFile, session_in
from ...core.labels import SessionLabels
from ...gpu import GpuReading, read_gpu
from ...placement.devices import Inventory
from ..base import (
    Attach,
    Capabilities,
    Capacity,
    Claimed,
    ClaimRequest,
    Counters,
    DeviceUnusable,
    Engine,
    EngineAway,
    EngineRefused,
    EngineSession,
    EngineState,
    Found,
    Pool,
    Retired,
)
from ..ends import EndEvidence
from . import endings, launch, retire
from .answers import EventJson, InfoJson, StateJson
from .attach import choose_attach
from .capabilities import capabilities
from .cgroups import Ceiling, Parents
from .client import DockerEngine
from .counters import counters_of
from .endings import session_of_event
from .isolation_record import ways_now
from .launch import DockerClaimed
from .layers import bounds_layers
from .ledger import PATIENCE_S, Ledger
from .lock import claim_lock
from .reach import gpu_lost
from .start_faults import SERVER_ERROR, Fault, fault

if TYPE_CHECKING:
    from traitlets.config import Config

    from ...core.settings import Settings
    from ...policy.plan import LaunchPlan

T = TypeVar("T")
EVENTS_BACK = timedelta(hours=1)
"""How far back the engine is asked for what happened to a container; it keeps less in any case."""
TIDY_LOCK_S = 5.0
INFO_TTL_S = 30.0
GPU_TTL_S = 5.0
"""How old a GPU reading may be for pages. A claim always reads anew under the lock."""
log = logging.getLogger(__name__)


class Docker:
    """See the module's text. Made for one set of settings and shared by the threads of a process."""

    name = "docker"

    def __init__(self, settings: Settings, clients: DockerEngine | None = None) -> None:
        """``clients`` are those of an engine that is reached in another way than the settings say."""
        extra: dict[str, Any] = {"base_url": settings.docker_host} if settings.docker_host else {}
        self.settings = settings
        self.clients = clients if clients is not None else DockerEngine(**extra)
        self._installation = InstallationFile(settings.state_dir)
        self._lock = threading.RLock()
        self._gpu_lock = threading.Lock()
        self._reading: tuple[float, GpuReading] | None = None
        self._info: tuple[float, InfoJson] = (0.0, {})
        self._said: set[str] = set()

    def prepare(self, hub: Config) -> None:
        from .prepare import prepare  # of a hub alone, which the command is not

        prepare(hub, self.settings)

    # --- what it is -----------------------------------------------------------------------------

    def answers(self) -> None:
        self.clients.answers()

    def info(self) -> InfoJson:
        """What the engine says about itself, read every half minute."""
        with self._lock:
            read_at, known = self._info
            if not known or time.monotonic() - read_at > INFO_TTL_S:
                try:
                    known = self.clients.client.info()
                except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                    raise EngineAway(f"the Docker engine does not answer: {error}") from error
                self._info = (time.monotonic(), known)
            return known

    def capabilities(self) -> Capabilities:
        return capabilities(self.info(), self.parents().problem())

    def capacity(self) -> Capacity:
        info = self._info[1]
        root = str(info.get("DockerRootDir") or "")
        return Capacity(
            cpus=int(info.get("NCPU") or 0),
            storage=root if root and Path(root).is_dir() else "",
            per_session_files=bool(info) and bounds_layers(info),
        )

    def exposure(self) -> tuple[str, ...]:
        return () if self.settings.allow_open_network else ways_now(self.settings, self.clients.client)

    # --- who holds what -------------------------------------------------------------------------

    @property
    def installation(self) -> Installation | None:
        """Which installation this is, as its file says now; None before the hub's set-up made one."""
        return self._installation.now

    def session_in(self, inspected: Mapping[str, object]) -> SessionLabels | None:
        """The session of this installation that an inspected container is, or None."""
        return session_in(self.installation, inspected)

    def session_in_event(self, event: EventJson) -> SessionLabels | None:
        """The session of this installation that one of the engine's events is about, or None."""
        return session_of_event(self.installation, event)

    @cached_property
    def ledger(self) -> Ledger:
        """Who holds what, read from every container of the engine."""
        return Ledger(
            lambda: self.clients.client,
            self.settings.exempt,
            inspect_client=lambda: self.clients.quick,
            installation=lambda: self.installation,
        )

    def inventory(self, max_age: float = GPU_TTL_S) -> GpuReading:
        with self._gpu_lock:  # its own: a driver that hangs must not hold up anything else
            if self._reading and time.monotonic() - self._reading[0] <= max_age:
                return self._reading[1]
            reading = read_gpu(self.settings)
            self._reading = (time.monotonic(), reading)
            return reading

    def look(self, max_age: float = GPU_TTL_S, patience: float = PATIENCE_S) -> EngineState:
        return self.look_with(self.inventory(max_age), patience)

    def look_with(self, reading: GpuReading, patience: float = PATIENCE_S) -> EngineState:
        """`look` on a reading of the devices that is there already."""
        state = self.ledger.read(reading.inventory, reading.processes, reading.former, patience)
        return replace(state, reading=reading)

    def attach(self, inventory: Inventory) -> Attach:
        return choose_attach(self.info(), inventory, self.settings.attach)

    def devices_lost(self, session: EngineSession) -> bool:
        # Only a device given behind systemd's back can be taken away by its daemon-reload.
        if self.info().get("CgroupDriver") != "systemd":
            return False
        if self.attach(self.inventory().inventory).mode != "nvidia":
            return False
        return gpu_lost(self.clients.client, session.container) is True

    # --- sessions -------------------------------------------------------------------------------

    def claim(self, request: ClaimRequest) -> DockerClaimed:
        try:
            return launch.claim(self, request)
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise EngineAway(f"the Docker engine did not answer: {error}") from error

    def start(self, claimed: Claimed) -> None:
        assert isinstance(claimed, DockerClaimed)
        client, uuids = self.clients.client, claimed.labels.gpu_uuids
        prepared = False
        try:
            launch.prepare(client, claimed.container, claimed.spec)
            prepared = True
            client.start(claimed.container)
        except docker.errors.APIError as error:
            reason = str(error.explanation or error)
            of = claimed.labels
            names = (of.user, of.project, of.server, of.environment)
            found = fault(int(error.status_code or SERVER_ERROR), reason, uuids, names)
            if prepared and claimed.claim.devices and found is not Fault.ENGINE:
                raise DeviceUnusable(reason, uuids, found is Fault.DEVICE) from error
            raise EngineRefused(reason) from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineAway(f"the Docker engine did not answer: {error}") from error
        launch.verify(self, claimed)

    def let_go(self, claimed: Claimed) -> None:
        assert isinstance(claimed, DockerClaimed)
        claimed.sources.close()

    def discard(self, name: str, session: str) -> bool:
        try:
            return launch.discard(self, name, session)
        except docker.errors.APIError as error:
            raise EngineRefused(f"{name} could not be removed: {error.explanation or error}") from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineAway(f"the Docker engine did not answer: {error}") from error

    def retire(self, target: str, session: str, grace: int) -> Retired:
        return retire.end(self.clients.client, target, session, self.session_in, grace)

    # --- order ----------------------------------------------------------------------------------

    def in_order(self, pool: Pool, name: str | None, work: Callable[[], T]) -> asyncio.Future[T]:
        return asyncio.wrap_future(self.clients.executor.submit(pool, name, work))

    # --- for what knows that it is Docker ------------------------------------------------------------

    @property
    def client(self) -> Any:
        """The calling thread's low-level client."""
        return self.clients.client

    def run(self, work: Any, **kwargs: Any) -> Any:
        """See `DockerEngine.run`."""
        return self.clients.run(work, **kwargs)

    # --- ends, use and care ---------------------------------------------------------------------

    def find(self, name: str, *, quick: bool = False) -> Found | None:
        try:
            client = self.clients.quick if quick else self.clients.client
            found = client.inspect_container(name)
        except docker.errors.NotFound:
            return None
        except endings.FAILURES as error:
            raise EngineAway(f"the container engine did not answer: {error}") from error
        state: StateJson = found.get("State") or StateJson()
        lines = (found.get("Config") or {}).get("Env") or ()
        env = {key: value for key, _, value in (line.partition("=") for line in lines)}
        labels, running = self.session_in(found), bool(state.get("Running"))
        return Found(found["Id"], labels, running, endings.of_state(state), env)

    def log_tail(self, container: str) -> str:
        return retire.tail_of(self.clients.client, container)

    def how_ended(self, container: str) -> EndEvidence:
        now = datetime.now(timezone.utc)  # the engine's events follow no clock of ours
        return endings.read(self.clients.client, container, now - EVENTS_BACK, now)

    def how_vanished(self, session: str, since: datetime, now: datetime) -> EndEvidence:
        # Events until a time to come are followed until then.
        until = min(now, datetime.now(timezone.utc))
        return endings.read_session(self.clients.client, session, self.session_in_event, since, until)

    def counters(self, sessions: Iterable[EngineSession]) -> Mapping[str, Counters]:
        client, found = self.clients.client, {}
        for record in sessions:
            try:
                stats = client.stats(record.container, stream=False, one_shot=True)
                found[record.container] = counters_of(stats)
            except endings.FAILURES as error:
                log.debug("No statistics of %s: %s", record.name, error)
                found[record.container] = Counters()
        return found

    def tidy(self, now: datetime) -> list[str]:
        parents = self.parents()

        def unused() -> set[str]:
            return parents.listed() - {parents.name(r.labels.user) for r in self.look().sessions}

        if not parents.listed() or not unused():
            return []
        # A claim makes the parent before the container, under this lock: without it the parent could go in
        # between and come back without limits.
        with claim_lock(self.settings.lock_path, TIDY_LOCK_S):
            return [name for name in unused() if parents.remove(name)]

    # --- what only this engine has --------------------------------------------------------------

    def parents(self) -> Parents:
        """The cgroups that carry the ceilings of people over all their sessions."""
        return Parents(self.info(), self.settings.hub_id)

    def cgroup_parent(self, user: str, plan: LaunchPlan) -> str:
        """Cgroup that carries the ceiling over all of a person's sessions, made now; call under the lock.

        Empty where the policy sets no ceiling or this machine cannot enforce one, which is logged and shown
        (`capabilities`). `EngineError` where it can and did not.
        """
        if plan.aggregate is None:
            return ""
        parents = self.parents()
        if problem := parents.problem():
            self.say_once(f"the ceiling over all sessions of a person is not enforced: {problem}")
            return ""
        return parents.ensure(user, Ceiling.of(plan.aggregate))

    def host_path(self, path: Path) -> str:
        """A workspace folder as the engine sees it."""
        host_root = self.settings.workspace_host_root
        if host_root is None:
            return str(path)
        return str(host_root / path.relative_to(self.settings.workspace_root))

    def say_once(self, text: str) -> None:
        """Log a standing defect of the site once in this process."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text[0].upper() + text[1:])


def docker_of(engine: Engine) -> Docker:
    """The adapter, for what only Docker has; `EngineError` on another engine."""
    if not isinstance(engine, Docker):
        raise EngineError(f"that can be told of Docker alone, and this is {engine.name}")
    return engine


if TYPE_CHECKING:
    _conforms: type[Engine] = Docker

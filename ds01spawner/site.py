"""The parts of a site that one process shares: policy, engine, ledger, store, workspaces.

Built once for each set of settings and reused by every spawner of the hub, and by the service and the
CLI. Methods named without ``async`` block; call them from a thread in a process with an event loop.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import docker.errors
import requests

from . import messages
from .core.errors import EngineError, Refused, StoreError
from .core.installation import Installation, session_in
from .core.installation import load as load_installation
from .core.installation import stamp as installation_stamp
from .core.labels import SessionLabels
from .core.names import folder_name
from .core.settings import Settings
from .endings import Endings
from .engines.base import Capabilities, EngineState
from .engines.docker.attach import Attach, choose_attach
from .engines.docker.capabilities import capabilities
from .engines.docker.cgroups import Ceiling, Parents
from .engines.docker.client import DockerEngine
from .engines.docker.endings import session_of_event
from .engines.docker.isolation_record import ways_now
from .engines.docker.ledger import Ledger
from .environments import Environments
from .gpu import GpuReading, read_gpu
from .images.engine import Images
from .intents.carry import Carrier
from .intents.files import Intents
from .maintenance import Maintenance, longest_lead
from .placement import merge_blocks
from .placement.model import Block, Inventory
from .policy.load import Override, PolicyWatcher
from .policy.plan import LaunchPlan, SessionUse, Usage
from .policy.requests import overrides_from
from .policy.resolve import Limits, Person, resolve
from .policy.storage import quota_command
from .queue.turns import Turns, pace_for
from .store import Store
from .store.accounting import falls_below
from .workspace.disk import free_bytes, workspace_free
from .workspace.projects import Workspace, Workspaces
from .workspace.quota import QuotaError, Quotas
from .workspace.usage import UsedSpace

GPU_TTL_S = 5.0
"""How old a GPU reading may be for pages. A claim always reads anew under the lock."""
STORE_RETRY_S = 30.0
OVERRIDES_TTL_S = 5.0
INFO_TTL_S = 30.0
QUARANTINE_AFTER = 2
QUARANTINE_WINDOW_S = 3600.0
QUARANTINE_S = 1800.0

log = logging.getLogger(__name__)


class Site:
    """See the module's text."""

    _sites: ClassVar[dict[str, Site]] = {}
    _lines: ClassVar[dict[tuple[str, str], Turns]] = {}
    _sites_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.policy = PolicyWatcher(settings.policy)
        self.workspaces = Workspaces(settings.workspace_root, settings.identity)
        self.endings = Endings(self.store, settings.state_dir)
        self.maintenance = Maintenance(self.store)
        self.intents = Intents(settings.intents)
        self.carrier = Carrier(self, lambda: datetime.now(timezone.utc))
        self._lock = threading.RLock()
        self._gpu_lock = threading.Lock()
        self._reading: tuple[float, GpuReading] | None = None
        self._store: Store | None = None
        self._installation: tuple[tuple[int, ...], Installation | None] | None = None
        self._store_failed_at = -STORE_RETRY_S
        self._overrides: tuple[float, tuple[Override, ...]] = (-OVERRIDES_TTL_S, ())
        self._blocks: dict[str, Block] = {}
        self._info: tuple[float, dict[str, Any]] = (0.0, {})
        self._said: set[str] = set()
        self.used_space = UsedSpace()
        self.quotas = Quotas(self.store)

    @classmethod
    def for_settings(cls, fields: Mapping[str, Any]) -> Site:
        """The process's one site for these settings."""
        settings = Settings.model_validate(dict(fields))
        key = settings.model_dump_json()
        with cls._sites_lock:
            if key not in cls._sites:
                cls._sites[key] = cls(settings)
            return cls._sites[key]

    # --- engine and devices ---------------------------------------------------------------------

    @cached_property
    def engine(self) -> DockerEngine:
        """The Docker engine of this process."""
        extra: dict[str, Any] = {"base_url": self.settings.docker_host} if self.settings.docker_host else {}
        return DockerEngine(**extra)

    @cached_property
    def ledger(self) -> Ledger:
        """Who holds what, read from every container of the engine."""
        return Ledger(
            lambda: self.engine.client,
            self.settings.exempt,
            inspect_client=lambda: self.engine.quick,
            installation=lambda: self.installation,
        )

    @property
    def installation(self) -> Installation | None:
        """Which installation this is, as its file says now; None before the hub's set-up made one."""
        with self._lock:
            stamp = installation_stamp(self.settings.state_dir)
            if self._installation is None or stamp != self._installation[0]:
                self._installation = (stamp, load_installation(self.settings.state_dir))
            return self._installation[1]

    def session_in_event(self, event: Mapping[str, Any]) -> SessionLabels | None:
        """The session of this installation that one of the engine's events is about, or None."""
        return session_of_event(self.installation, event)

    def session_in(self, inspected: Mapping[str, Any]) -> SessionLabels | None:
        """The session of this installation that an inspected container is, or None."""
        return session_in(self.installation, inspected)

    @cached_property
    def environments(self) -> Environments:
        """What may be started."""
        images = Images(self.settings.docker_host, installation=lambda: self.installation)
        return Environments(self.settings, images, self.store, lambda: self.gpu(60).inventory.cuda)

    def gpu(self, max_age: float = GPU_TTL_S) -> GpuReading:
        """A reading of the GPUs, at most ``max_age`` seconds old."""
        with self._gpu_lock:  # its own: a driver that hangs must not hold up store and engine
            if self._reading and time.monotonic() - self._reading[0] <= max_age:
                return self._reading[1]
            reading = read_gpu(self.settings)
            self._reading = (time.monotonic(), reading)
            return reading

    def holdings(self, max_age: float = GPU_TTL_S) -> EngineState:
        """Who holds what now."""
        reading = self.gpu(max_age)
        return self.ledger.read(reading.inventory, reading.processes, reading.former)

    # --- store ----------------------------------------------------------------------------------

    def store(self) -> Store:
        """The open store; `StoreError` when it cannot be opened (tried again after half a minute)."""
        with self._lock:
            if self._store is None:
                waited = time.monotonic() - self._store_failed_at
                if waited < STORE_RETRY_S:
                    raise StoreError("the store could not be opened a moment ago")
                try:
                    self._store = Store.open(self.settings.store)
                except StoreError:
                    self._store_failed_at = time.monotonic()
                    raise
            return self._store

    def blocks(self, now: datetime) -> dict[str, Block]:
        """What the store keeps from being granted, and what a maintenance soon will; the last known answer
        while the store is down."""
        with suppress(StoreError):
            self._blocks = self.store().blocks(now)
        near = self.maintenance.ahead(now, longest_lead(self.policy.current()))
        return merge_blocks(self._blocks, near)

    def obstacles(self, inventory: Inventory, now: datetime) -> dict[str, Block]:
        """Everything but a holder that keeps a device from being granted: what the store says, and what
        the engine could not attach."""
        attach = self.attach(self.engine_info(self.engine.client), inventory)
        return merge_blocks(attach.blocks, self.blocks(now))

    # --- policy ---------------------------------------------------------------------------------

    def limits(self, person: Person, now: datetime) -> Limits:
        """What a person gets now, approved exceptions included."""
        return resolve(self.policy.current(), person, now, self.overrides(now))

    def overrides(self, now: datetime) -> tuple[Override, ...]:
        """Approved requests, read every few seconds; none while the store is down (never wider)."""
        read_at, known = self._overrides
        if time.monotonic() - read_at > OVERRIDES_TTL_S:
            try:
                known = overrides_from(self.store().overrides(now))
            except StoreError:
                known = ()
            self._overrides = (time.monotonic(), known)
        return known

    def usage_of(self, person: Person, snapshot: EngineState, now: datetime, limits: Limits) -> Usage:
        """What a person uses now: sessions from the engine, GPU-hours from the store, disk."""
        root = self.settings.workspace_root
        hours, when = self.gpu_hours(person, now, limits)
        return Usage(
            sessions=tuple(
                SessionUse.from_labels(record.labels)
                for record in snapshot.sessions
                if record.labels.user == person.name
            ),
            gpu_hours=hours,
            gpu_hours_when=when,
            workspace_free=workspace_free(root, person.name),
            workspace_used=self.workspace_used(person, limits),
            host_free=free_bytes(self.settings.state_dir),
            engine_free=free_bytes(self.engine_root) if self.engine_root else None,
        )

    def gpu_hours(
        self, person: Person, now: datetime, limits: Limits
    ) -> tuple[float | None, datetime | None]:
        """GPU-hours used in the policy's window (None when the store cannot tell), and when they fall
        below the budget again where they are not."""
        budget = limits.gpu.hours.budget
        if budget is None:
            return 0.0, None
        window = timedelta(seconds=limits.gpu.hours.window)
        try:
            used = self.store().gpu_hours(person.name, now - window, now)
            if used < budget:
                return used, None
            return used, falls_below(
                self.store().gpu_uses(person.name, now - window, now), budget, window, now
            )
        except StoreError:
            return None, None

    def workspace_used(self, person: Person, limits: Limits) -> int | None:
        """Bytes in a person's workspace where it has a quota; None without one, or while it is unknown."""
        quota = limits.storage.quota
        if quota is None:
            return None
        return self.used_space.of(self.settings.workspace_root / folder_name(person.name), enough=quota)

    def give_quota(self, person: Person, workspace: Workspace, now: datetime) -> None:
        """Run the site's quota command for a new workspace or a changed quota; `Refused` when it fails."""
        path = str(workspace.path.parent)
        argv = quota_command(self.limits(person, now), person.name, workspace.identity.uid, path)
        if argv is None:
            return
        try:
            self.quotas.ensure(person.name, argv, now)
        except QuotaError as error:
            log.error("The quota of %s could not be set: %s", person.name, error)
            raise Refused(messages.quota_not_set(str(error))) from error

    def turns(self, fixed: int = 0) -> Turns:
        """The line in which this process's starts boot. Of the event loop; never blocks.

        ``fixed`` boots at once where it is above 0, else by the processors of the engine's machine.
        """
        # Sites of one process may differ in small things; what boots shares the machine all the same.
        machine = (self.settings.docker_host, self.settings.hub_id)
        if machine not in self._lines:
            cpus = int(self._info[1].get("NCPU") or os.cpu_count() or 1)
            self._lines[machine] = Turns(pace_for(cpus, fixed))
        return self._lines[machine]

    def parents(self, info: Mapping[str, Any]) -> Parents:
        """The cgroups that carry the ceilings of people over all their sessions."""
        return Parents(info, self.settings.hub_id)

    def cgroup_parent(self, person: Person, launch_plan: LaunchPlan, info: Mapping[str, Any]) -> str:
        """Cgroup that carries the ceiling over all of a person's sessions, made now; call under the lock.

        Empty where the policy sets no ceiling or this machine cannot enforce one, which is logged and shown
        (`capabilities`). `EngineError` where it can and did not.
        """
        if launch_plan.aggregate is None:
            return ""
        parents = self.parents(info)
        if problem := parents.problem():
            self.say_once(f"the ceiling over all sessions of a person is not enforced: {problem}")
            return ""
        return parents.ensure(person.name, Ceiling.of(launch_plan.aggregate))

    def capabilities(self, info: Mapping[str, Any]) -> Capabilities:
        """What is really enforced on this engine, and why the rest is not."""
        return capabilities(info, self.parents(info).problem())

    def unenforced_ceiling(self) -> str:
        """Why a ceiling over all sessions is not enforced; empty where it is, or while nobody can tell."""
        try:
            return self.capabilities(self.engine_info(self.engine.client)).reasons.get("aggregate", "")
        except EngineError:
            return ""

    def say_once(self, text: str) -> None:
        """Log a standing defect of the site once in this process."""
        if text not in self._said:
            self._said.add(text)
            log.warning("%s", text[0].upper() + text[1:])

    # --- containers -----------------------------------------------------------------------------

    def engine_info(self, client: Any) -> dict[str, Any]:
        """What the engine says about itself, read every half minute."""
        with self._lock:
            read_at, known = self._info
            if not known or time.monotonic() - read_at > INFO_TTL_S:
                try:
                    known = client.info()
                except (docker.errors.DockerException, requests.RequestException, OSError) as error:
                    raise EngineError(f"the Docker engine does not answer: {error}") from error
                self._info = (time.monotonic(), known)
            return known

    @property
    def engine_root(self) -> str:
        """The engine's data folder, where this process can see it; empty when unknown."""
        root = str(self._info[1].get("DockerRootDir") or "")
        return root if root and Path(root).is_dir() else ""

    def attach(self, info: Mapping[str, Any], inventory: Inventory) -> Attach:
        """How devices reach a container on this engine."""
        return choose_attach(info, inventory, self.settings.attach)

    def network_open(self) -> tuple[str, ...]:
        """How sessions reach each other's ports by the last probe, where that forbids starts; else empty."""
        if self.settings.allow_open_network:
            return ()
        return ways_now(self.settings, self.engine.client)

    def host_path(self, path: Path) -> str:
        """A workspace folder as the engine sees it."""
        host_root = self.settings.workspace_host_root
        if host_root is None:
            return str(path)
        return str(host_root / path.relative_to(self.settings.workspace_root))

    def device_failed(self, uuids: Iterable[str], reason: str, now: datetime) -> None:
        """Count a failed start on devices; after some in a row they are quarantined for a while."""
        try:
            for uuid in uuids:
                self.store().device_failed(
                    uuid,
                    f"starts on it failed: {reason}"[:300],
                    now,
                    after=QUARANTINE_AFTER,
                    window=QUARANTINE_WINDOW_S,
                    until=now + timedelta(seconds=QUARANTINE_S),
                )
        except StoreError as error:
            log.warning("A failed start on %s could not be counted: %s", ",".join(uuids), error)

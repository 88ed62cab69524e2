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
from typing import Any, ClassVar

from . import messages
from .admission.maintenance import Maintenance, longest_lead
from .core.errors import EngineError, Refused, StoreError
from .core.installation import Installation, InstallationFile
from .core.names import folder_name
from .core.settings import Settings
from .engines import engine_for
from .engines.base import Engine, EngineState
from .engines.docker.image_store import Images
from .environments.offered import Environments
from .intents.carry import Carrier
from .intents.files import Intents
from .placement import merge_blocks
from .placement.devices import Block, Inventory
from .policy.load import Override, PolicyWatcher
from .policy.plan import SessionUse, Usage
from .policy.requested import overrides_from
from .policy.resolve import Limits, Person, resolve
from .policy.storage import quota_command
from .queue.turns import Turns, pace_for
from .store import Store
from .store.accounting import falls_below
from .store.ending_log import Endings
from .workspace.disk import free_bytes, workspace_free
from .workspace.projects import Workspace, Workspaces
from .workspace.quota import QuotaError, Quotas
from .workspace.used_space import UsedSpace

STORE_RETRY_S = 30.0
OVERRIDES_TTL_S = 5.0
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
        self._installation = InstallationFile(settings.state_dir)
        self._lock = threading.RLock()
        self._store: Store | None = None
        self._store_failed_at = -STORE_RETRY_S
        self._overrides: tuple[float, tuple[Override, ...]] = (-OVERRIDES_TTL_S, ())
        self._blocks: dict[str, Block] = {}
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
    def engine(self) -> Engine:
        """What runs the sessions of this site, as this process reaches it."""
        return engine_for(self.settings)

    @property
    def installation(self) -> Installation | None:
        """Which installation this is, as its file says now; None before the hub's set-up made one."""
        return self._installation.now

    @cached_property
    def environments(self) -> Environments:
        """What may be started."""
        images = Images(self.settings.docker_host, installation=lambda: self.installation)
        return Environments(
            self.settings, images, self.store, lambda: self.engine.inventory(60).inventory.cuda
        )

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
            self._blocks = self.store().blocks.at(now)
        near = self.maintenance.ahead(now, longest_lead(self.policy.current()))
        return merge_blocks(self._blocks, near)

    def obstacles(self, inventory: Inventory, now: datetime) -> dict[str, Block]:
        """Everything but a holder that keeps a device from being granted: what the store says, and what
        the engine could not attach."""
        return merge_blocks(self.engine.attach(inventory).blocks, self.blocks(now))

    # --- policy ---------------------------------------------------------------------------------

    def limits(self, person: Person, now: datetime) -> Limits:
        """What a person gets now, approved exceptions included."""
        return resolve(self.policy.current(), person, now, self.overrides(now))

    def overrides(self, now: datetime) -> tuple[Override, ...]:
        """Approved requests, read every few seconds; none while the store is down (never wider)."""
        read_at, known = self._overrides
        if time.monotonic() - read_at > OVERRIDES_TTL_S:
            try:
                known = overrides_from(self.store().requests.overrides(now))
            except StoreError:
                known = ()
            self._overrides = (time.monotonic(), known)
        return known

    def usage_of(self, person: Person, snapshot: EngineState, now: datetime, limits: Limits) -> Usage:
        """What a person uses now: sessions from the engine, GPU-hours from the store, disk."""
        root = self.settings.workspace_root
        hours, when = self.gpu_hours(person, now, limits)
        storage = self.engine.capacity().storage
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
            engine_free=free_bytes(storage) if storage else None,
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
            used = self.store().usage.gpu_hours(person.name, now - window, now)
            if used < budget:
                return used, None
            return used, falls_below(
                self.store().usage.gpu_uses(person.name, now - window, now), budget, window, now
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
            cpus = self.engine.capacity().cpus or os.cpu_count() or 1
            self._lines[machine] = Turns(pace_for(cpus, fixed))
        return self._lines[machine]

    def unenforced_ceiling(self) -> str:
        """Why a ceiling over all sessions is not enforced; empty where it is, or while nobody can tell."""
        try:
            return self.engine.capabilities().reasons.get("aggregate", "")
        except EngineError:
            return ""

    def device_failed(self, uuids: Iterable[str], reason: str, now: datetime) -> None:
        """Count a failed start on devices; after some in a row they are quarantined for a while."""
        try:
            for uuid in uuids:
                self.store().blocks.device_failed(
                    uuid,
                    f"starts on it failed: {reason}"[:300],
                    now,
                    after=QUARANTINE_AFTER,
                    window=QUARANTINE_WINDOW_S,
                    until=now + timedelta(seconds=QUARANTINE_S),
                )
        except StoreError as error:
            log.warning("A failed start on %s could not be counted: %s", ",".join(uuids), error)

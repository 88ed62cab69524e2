"""What every container on the host holds, read from the engine. Nothing is kept that Docker does not say.

One list call tells which containers exist, their names and states; what a container could touch never
changes for its id, so each id is inspected once and remembered until the list no longer has it. Each
read is therefore true at the moment of its list call, without trusting any event to have arrived, and
under the claim lock it stays true for everybody who takes that lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from ...core.errors import EngineError
from ...core.installation import Installation, Standing
from ...placement.devices import Holding, Inventory
from ..base import EngineSession, EngineState, Finding
from . import pids, unlisted
from .claims import ContainerState, Process, Resolver, container_holdings, is_exempt, process_holdings
from .device_access import Evidence, evidence_of, unknown_evidence

INSPECT_THREADS = 16
"""Containers looked at side by side: more than builds and saves can lock at a time, so that one that is not
locked is never behind them for long."""
PATIENCE_S = 4.0
"""Seconds that a decision waits for containers of which the engine does not tell."""


@dataclass(frozen=True)
class _Seen:
    evidence: Evidence
    state: str
    started_at: str
    certain: bool = True


class Ledger:
    """Reads one engine; thread-safe. ``client_factory`` gives a docker-py low-level client for the thread.

    ``exempt`` names infrastructure that may see GPUs without holding them, by name or ``label=value``.
    ``inspect_client`` gives a client with a short time limit for looking at single containers: the engine
    locks a container for as long as it makes an image of it, which is seconds to minutes in a build. Such
    a container counts as holding every device until the engine tells. It is asked about once at a time,
    however many read meanwhile, and each reader waits as long as it says: a page hardly, a decision longer.
    ``installation`` gives the one whose sessions are ours; without it none is.
    """

    def __init__(
        self,
        client_factory: Callable[[], docker.APIClient],
        exempt: Iterable[str] = (),
        inspect_client: Callable[[], docker.APIClient] | None = None,
        installation: Callable[[], Installation | None] = lambda: None,
    ) -> None:
        self._client = client_factory
        self._inspect_client = inspect_client or client_factory
        self._exempt = tuple(exempt)
        self._installation = installation
        self._judged_by: Installation | None = None
        self._seen: dict[str, _Seen] = {}
        self._groups = unlisted.Groups()
        self._run_on: dict[str, Evidence] = {}
        """What runs and is not listed any more."""
        self._asked: dict[tuple[str, str], Future[_Seen | None]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(INSPECT_THREADS, thread_name_prefix="ds01-inspect")

    def read(
        self,
        inventory: Inventory,
        processes: Iterable[Process] = (),
        former: Mapping[str, str] | None = None,
        patience: float = PATIENCE_S,
    ) -> EngineState:
        """All holdings and sessions now. `EngineError` when anything but a removed container is in the way.

        ``processes`` are the driver's compute processes, ``former`` the cards of slices that are gone;
        ``patience`` is how many seconds to wait for containers that the engine has locked, after it told of
        the last that it has not.
        """
        there = self._groups.running()
        client, listed = self._list()
        run_on = self._unlisted(there, listed)
        seen = self._inspect_new(listed, patience)
        rows = [(c, seen[c["Id"]]) for c in listed if c["Id"] in seen]
        containers = tuple(ContainerState(s.evidence, _name(c), str(c.get("State") or "")) for c, s in rows)
        resolver = Resolver(inventory, former)
        holdings: list[Holding] = []
        for container in containers:
            holdings += container_holdings(container, resolver, exempt=self._exempt)
        for ident, evidence in run_on.items():
            name = f"{ident[:12]}, which the engine does not list"
            holdings += container_holdings(ContainerState(evidence, name), resolver)
        processes = tuple(processes)
        if processes:
            holdings += self._unexplained(client, processes, holdings, containers, inventory)
        told = _sessions(rows)
        ours = tuple(r for r in told if r.standing is Standing.OURS)
        others = tuple(r for r in told if r.standing is not Standing.OURS)
        return EngineState(tuple(holdings), ours, others)

    def _list(self) -> tuple[docker.APIClient, list[dict[str, Any]]]:
        try:
            client = self._client()
            return client, client.containers(all=True)
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            raise EngineError(f"the Docker engine does not list its containers: {error}") from error

    def _unlisted(self, there: Mapping[str, Path], listed: list[dict[str, Any]]) -> dict[str, Evidence]:
        """What runs on although the engine does not list it, by what was known of it; see `unlisted`."""
        with self._lock:
            remembered = {**self._run_on, **{i: s.evidence for i, s in self._seen.items()}}
        mine = self._installation()
        found = unlisted.still_there(there, {c["Id"] for c in listed}, remembered, mine.id if mine else "")
        with self._lock:
            gone = {i for i in self._run_on if i not in found}
            self._run_on = {i: e for i, e in {**self._run_on, **found}.items() if i not in gone}
        return found

    def unlisted(self) -> list[Finding]:
        """What an administrator should know of containers that the engine does not list. Blocking."""
        there = unlisted.running()
        _, listed = self._list()
        runs = [c["Id"] for c in listed if c.get("State") == "running"]
        return list(unlisted.findings(there, runs, self._unlisted(there, listed)))

    def _inspect_new(self, listed: list[dict[str, Any]], patience: float) -> dict[str, _Seen]:
        installation = self._installation()
        with self._lock:
            if installation != self._judged_by:
                self._seen, self._asked, self._judged_by = {}, {}, installation
            known = self._seen
            asked = {c["Id"]: self._ask(c, installation) for c in listed if _stale(known.get(c["Id"]), c)}
        _wait(asked.values(), patience)
        found = {
            c["Id"]: asked[c["Id"]].result() if asked[c["Id"]].done() else self._untold(c, installation)
            for c in listed
            if c["Id"] in asked
        }
        fresh = {i: s for i, s in found.items() if s is not None}
        current = {c["Id"] for c in listed if found.get(c["Id"], True) is not None}
        seen = {i: s for i, s in {**known, **fresh}.items() if i in current}
        with self._lock:
            if installation == self._judged_by:
                merged = {**self._seen, **{i: s for i, s in seen.items() if s.certain}}
                self._seen = {i: s for i, s in merged.items() if i in current}
        return seen

    def _ask(self, listed: dict[str, Any], installation: Installation | None) -> Future[_Seen | None]:
        """The look at one container that is under way, or one that begins now. Under the lock."""
        key = (listed["Id"], str(listed.get("State") or ""))
        if key not in self._asked:
            self._asked[key] = self._threads.submit(self._look, key, listed, installation)
        return self._asked[key]

    def _look(
        self, key: tuple[str, str], listed: dict[str, Any], installation: Installation | None
    ) -> _Seen | None:
        """`_inspect`, and keep what it finds also where no reader waits for it any more."""
        try:
            seen = self._inspect(listed, installation)
            with self._lock:
                if seen is not None and seen.certain and installation == self._judged_by:
                    self._seen = {**self._seen, listed["Id"]: seen}
            return seen
        finally:
            with self._lock:
                self._asked.pop(key, None)

    def _untold(self, listed: dict[str, Any], installation: Installation | None) -> _Seen:
        """What a container counts as while the engine does not tell: what it was found to be before, which
        does not change; nothing, where its name proves that we made it without a device; else everything."""
        state, name = str(listed.get("State") or ""), _name(listed)
        if (before := self._seen.get(listed["Id"])) is not None:
            return replace(before, state=state, certain=False)
        evidence = unknown_evidence(listed["Id"], listed.get("Labels"), name, installation)
        if installation is not None and installation.named_without_devices(name):
            evidence = replace(evidence, tokens=(), claim=None, standing=None)
        return _Seen(evidence, state, "", certain=False)

    def _inspect(self, listed: dict[str, Any], installation: Installation | None) -> _Seen | None:
        """One container's evidence, or None when it was removed since the list."""
        try:
            inspect = self._inspect_client().inspect_container(listed["Id"])
        except NotFound:
            return None
        except requests.ReadTimeout:
            return self._untold(listed, installation)
        except (DockerException, requests.RequestException, OSError, ValueError) as error:
            name = _name(listed) or listed["Id"][:12]
            raise EngineError(f"the Docker engine does not tell about container {name}: {error}") from error
        started = str((inspect.get("State") or {}).get("StartedAt") or "")
        never = started.startswith("0001-")
        return _Seen(
            evidence_of(inspect, installation), str(listed.get("State") or ""), "" if never else started
        )

    def _unexplained(
        self,
        client: docker.APIClient,
        processes: tuple[Process, ...],
        holdings: list[Holding],
        containers: tuple[ContainerState, ...],
        inventory: Inventory,
    ) -> tuple[Holding, ...]:
        exempt = frozenset(c.evidence.container for c in containers if is_exempt(c, self._exempt))
        suspects = dict.fromkeys(h.container for h in holdings if h.container)
        alive = {c.evidence.container for c in containers if c.alive}
        where = pids.containers_of(
            client, [p.pid for p in processes], [c for c in (*suspects, *exempt) if c in alive]
        )
        return process_holdings(processes, holdings, inventory, lambda p: where.get(p.pid, ""), exempt)


def _wait(asked: Iterable[Future[_Seen | None]], patience: float) -> None:
    """Until all have ended, or none has for ``patience`` seconds: a busy engine tells of one by one."""
    left, ended = set(asked), {True}
    while left and ended:
        done, left = wait_for(left, patience, FIRST_COMPLETED)
        ended = {True for _ in done}


def _stale(seen: _Seen | None, listed: dict[str, Any]) -> bool:
    """Whether a container must be inspected: never seen, or a session whose start time may have changed."""
    if seen is None:
        return True
    return seen.evidence.claim is not None and seen.state != str(listed.get("State") or "")


def _name(listed: Mapping[str, Any]) -> str:
    """The container's own name; links of other containers to it contain a second slash."""
    own = [n.lstrip("/") for n in listed.get("Names") or () if n.count("/") <= 1]
    return own[0] if own else ""


def _second(since_epoch: Any) -> str:
    """A time of the engine's list, which has whole seconds."""
    at = datetime.fromtimestamp(since_epoch, timezone.utc) if isinstance(since_epoch, int) else None
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""


def _sessions(rows: Iterable[tuple[dict[str, Any], _Seen]]) -> tuple[EngineSession, ...]:
    return tuple(
        EngineSession(
            labels=s.evidence.claim,
            container=c["Id"],
            name=_name(c),
            state=str(c.get("State") or ""),
            status=str(c.get("Status") or ""),
            started_at=s.started_at,
            standing=s.evidence.standing or Standing.FORGED,
            created=s.evidence.created or _second(c.get("Created")),
        )
        for c, s in rows
        if s.evidence.claim is not None
    )

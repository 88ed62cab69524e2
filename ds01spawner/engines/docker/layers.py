"""What sessions write outside their projects: the size of a container's own layer, and its bound.

Such files (a cache, a data set in ``/tmp``) go with the session and fill the engine's disk for everybody.
Where the engine's storage can bound a layer it is bounded; everywhere else it is measured by ourselves, a
bounded walk that follows no link, and told. A layer that cannot be seen from here is not watched.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import docker.errors
import requests

from ...core.errors import EngineError
from ...workspace.safefs import Folder
from ...workspace.used_space import Measured, walk
from ..base import EngineSession
from .answers import InfoJson
from .mounts import mount_options

BUDGET_S = 2.0
"""Seconds of walking one session's layer; what is not counted by then makes the figure a lower bound."""
PASS_S = 20.0
"""Seconds of walking in one pass; the sessions that it did not reach come first in the next."""
FAILURES = (docker.errors.DockerException, requests.RequestException, OSError)
QUOTA_OPTIONS = frozenset({"pquota", "prjquota"})


def bounds_layers(info: InfoJson, mounts: str | None = None) -> bool:
    """Whether this engine's storage bounds a container's layer (``storage_opt``).

    ``info`` is the engine's answer, ``mounts`` the text of ``/proc/self/mounts``: overlay2 does so on XFS
    with project quotas alone, which only the mount options tell.
    """
    driver = str(info.get("Driver") or "")
    if driver in ("btrfs", "zfs"):
        return True
    backing = {str(k): str(v) for k, v in info.get("DriverStatus") or ()}.get("Backing Filesystem", "")
    if driver != "overlay2" or backing != "xfs":
        return False
    options = mount_options(str(info.get("DockerRootDir") or ""), mounts)
    return bool((options or frozenset()) & QUOTA_OPTIONS)


@dataclass(frozen=True)
class LayerUse:
    """What one session has written outside its project."""

    record: EngineSession
    used: Measured


class LayerWatch:
    """Measures the layers of running sessions in turn. Not thread-safe; `look` blocks for up to `PASS_S`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._folders: dict[str, str] = {}
        self._looked: dict[str, float] = {}
        self.unseen = False
        """Whether layers cannot be seen from here."""

    def look(self, client: Callable[[], Any], sessions: Iterable[EngineSession]) -> list[LayerUse]:
        """Measure those not looked at for longest; `EngineError` when the engine does not answer."""
        running = [r for r in sessions if r.state == "running"]
        known = {r.container for r in running}
        self._folders = {c: f for c, f in self._folders.items() if c in known}
        self._looked = {c: t for c, t in self._looked.items() if c in known}
        found, until = [], self._clock() + PASS_S
        for record in sorted(running, key=lambda r: self._looked.get(r.container, 0.0)):
            if self._clock() >= until:
                break
            self._looked[record.container] = self._clock()
            used = self._measure(client, record.container)
            if used is not None:
                found.append(LayerUse(record, used))
        return found

    def _measure(self, client: Callable[[], Any], container: str) -> Measured | None:
        if container not in self._folders:
            self._folders[container] = upper_folder(client, container)
        folder = self._folders[container]
        try:
            with Folder.open(folder, trusted=False) as top:
                self.unseen = False
                return walk(top, time.monotonic() + BUDGET_S, set())
        except OSError:
            self.unseen = True
            return None


def upper_folder(client: Callable[[], Any], container: str) -> str:
    """The folder of the host that holds a container's own layer; empty where the engine has none to tell."""
    try:
        driver = client().inspect_container(container).get("GraphDriver") or {}
    except docker.errors.NotFound:
        return ""
    except FAILURES as error:
        raise EngineError(f"the engine did not answer: {error}") from error
    return str((driver.get("Data") or {}).get("UpperDir") or "")

"""How sessions ended: what a person reads on their next page. Kept in memory, written to the store.

The store write happens in a thread of its own and never delays or fails a retire; when the store is
down the sentence is still shown until the hub restarts.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from .errors import StoreError
from .labels import SessionLabels
from .store import SessionRecord, Store

log = logging.getLogger(__name__)
MAX_KEPT = 2000
SHOWN_WAIT_S = 0.2


@dataclass(frozen=True)
class Ending:
    """One session's end. ``kind``: ``stopped`` (by its owner), ``idle``, ``lifetime``, ``admin``,
    ``crashed``, ``failed`` (never came up), ``refused`` or ``lost``."""

    user: str
    server: str
    project: str
    at: datetime
    reason: str
    kind: str
    log_tail: str = ""


class Endings:
    """The last ending of every server, newest known first."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._last: OrderedDict[tuple[str, str], Ending] = OrderedDict()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ds01-endings")
        self._reader = ThreadPoolExecutor(2, thread_name_prefix="ds01-endings-read")

    def started(self, record: SessionRecord) -> None:
        """A session began: the former ending of its server is no longer news."""
        self._last.pop((record.user, record.server), None)
        self._write(lambda store: store.session_started(record))

    def remember(
        self,
        *,
        user: str,
        server: str,
        project: str,
        at: datetime,
        reason: str,
        kind: str,
        log_tail: str = "",
    ) -> None:
        """Keep an ending of a session that has no record of its own (it never came up)."""
        self._keep(Ending(user, server, project, at, reason, kind, log_tail))

    def ended(self, labels: SessionLabels, at: datetime, reason: str, kind: str, log_tail: str = "") -> None:
        """A session ended. A reason that was noted before (by the idle service, an admin) is kept."""
        ending = Ending(labels.user, labels.server, labels.project, at, reason, kind, log_tail)
        self._keep(ending)

        def write(store: Store) -> None:
            store.session_ended(labels.session, at, reason, kind)
            noted = store.session(labels.session)
            if noted and noted["reason"]:
                self._keep(replace(ending, reason=noted["reason"], kind=noted["kind"] or kind))

        self._write(write)

    def last(self, user: str, server: str) -> Ending | None:
        """The last ending this process knows of a server, without blocking."""
        return self._last.get((user, server))

    def shown(self, user: str, server: str, wait: float = SHOWN_WAIT_S) -> Ending | None:
        """The last ending for a page that is being rendered: from the store only where it answers soon."""
        known = self.last(user, server)
        if known:
            return known
        try:
            return self._reader.submit(self.recall, user, server).result(wait)
        except TimeoutError:
            return None

    def recall(self, user: str, server: str) -> Ending | None:
        """The last ending of a server, from the store where memory has none. Blocking."""
        known = self.last(user, server)
        if known:
            return known
        try:
            row: dict[str, Any] | None = self._store().last_ended(user, server)
        except StoreError:
            return None
        if not row:
            return None
        return Ending(user, server, row["project"], row["ended_at"], row["reason"], row["kind"])

    def flush(self) -> None:
        """Wait until everything noted so far is written."""
        self._writer.submit(lambda: None).result()

    def _keep(self, ending: Ending) -> None:
        key = (ending.user, ending.server)
        self._last[key] = ending
        self._last.move_to_end(key)
        while len(self._last) > MAX_KEPT:
            self._last.popitem(last=False)

    def _write(self, work: Callable[[Store], Any]) -> None:
        def run() -> None:
            try:
                work(self._store())
            except StoreError as error:
                log.warning("Session history could not be written: %s", error)

        self._writer.submit(run)

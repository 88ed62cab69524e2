"""How sessions ended: the one way in which every process of an installation writes it, and reads it back.

A report goes to the store; while that is down, to a file in the state folder; while that cannot be
written either, it waits in memory. None is lost but by the end of the process in the last case. Which of
several reports about one session is believed says `core.ending`.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..core.ending import RANKS, Ended, rank
from ..core.errors import StoreError
from ..core.labels import SessionLabels
from ..messages import end_clauses
from . import SessionRecord, Store
from .spool import Finished, Noted, Report, Spool, Started

log = logging.getLogger(__name__)
SPOOL = "endings.spool"
MAX_KEPT = 2000
SHOWN_WAIT_S = 0.2


@dataclass(frozen=True)
class Ending:
    """One session's end as its owner's next page tells it. ``kind`` is one of `core.ending.RANKS`."""

    user: str
    server: str
    project: str
    at: datetime
    reason: str
    kind: str
    log_tail: str = ""
    session: str = ""


class Endings:
    """Writes reports in the order in which they come, and knows the last ending of every server."""

    def __init__(self, store: Callable[[], Store], folder: Path) -> None:
        """``folder`` is the state folder, which every process of the installation shares."""
        self._store = store
        self.spool = Spool(folder / SPOOL)
        self._waiting: deque[Report] = deque(maxlen=MAX_KEPT)
        self._last: OrderedDict[tuple[str, str], Ending] = OrderedDict()
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ds01-endings")
        self._reader = ThreadPoolExecutor(2, thread_name_prefix="ds01-endings-read")

    # --- writing --------------------------------------------------------------------------------

    def write(self, report: Report) -> Ended | None:
        """Write one report, wherever it can be kept; what history says of the end now. Blocking.

        What had to wait goes first: the end of a session whose begin waits would be one that none knows.
        """
        self.take_in()
        try:
            return report.write(self._store())
        except StoreError as error:
            log.warning("History waits for the store: %s", error)
            self._keep_for_later(report)
            return None

    def take_in(self) -> int:
        """Write what had to wait for the store, as far as it takes it; returns how much. Blocking."""
        taken = 0
        try:
            while self._waiting:
                self._waiting[0].write(self._store())
                self._waiting.popleft()
                taken += 1
            if self.spool.waiting():
                taken += self.spool.take_in(self._store())
        except (StoreError, IndexError) as error:
            log.warning("History waits for the store: %s", error)
        except OSError as error:
            log.warning("%s cannot be taken into history: %s", self.spool.path, error)
        return taken

    def _keep_for_later(self, report: Report) -> None:
        try:
            self.spool.add(report)
        except OSError as error:
            log.error("%s cannot be written, so history waits in memory: %s", self.spool.path, error)
            self._waiting.append(report)

    # --- what happens to sessions ---------------------------------------------------------------

    def started(self, record: SessionRecord) -> None:
        """A session was made: the former ending of its server is no longer news. Never blocks."""
        with self._lock:
            self._last.pop((record.user, record.server), None)
        self._writer.submit(self.write, Started(record))

    def note(self, session: str, at: datetime, reason: str, kind: str, by: str = "") -> None:
        """Note why a session is about to be retired, before it is. Blocking; kept while the store is down."""
        self.write(Noted(session, at, reason or end_clauses.UNRECORDED, kind, by))

    def noted(self, session: str, at: datetime, reason: str, kind: str, by: str = "") -> None:
        """`note`, without blocking."""
        self._writer.submit(self.note, session, at, reason, kind, by)

    def write_end(self, ended: Ended, labels: SessionLabels | None = None) -> Ended | None:
        """Write how a session ended. The one function for everybody who sees that. Blocking.

        A reason that is missing is said to be missing; a better report takes the place of a worse one.
        Returns what history says of it now, None while the store is down.
        """
        record = SessionRecord.from_labels(labels, ended.at) if labels else None
        return self.write(Finished(_with_reason(ended), record))

    def ended(self, ended: Ended, labels: SessionLabels) -> Future[Ended | None]:
        """`write_end`, without blocking, and the page that its owner sees next knows it at once."""
        ended = _with_reason(ended)
        self._show(_ending(ended, labels))

        def work() -> Ended | None:
            said = self.write_end(ended, labels)
            if said is not None:
                self._show(_ending(said, labels))
            return said

        return self._writer.submit(work)

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
        """Keep how a start ended that made no session; history knows nothing of it."""
        self._show(Ending(user, server, project, at, reason, kind, log_tail))

    # --- reading --------------------------------------------------------------------------------

    def last(self, user: str, server: str) -> Ending | None:
        """The last ending this process knows of a server, without blocking."""
        with self._lock:
            return self._last.get((user, server))

    def shown(self, user: str, server: str, wait: float = SHOWN_WAIT_S) -> Ending | None:
        """The last ending for a page that is being rendered: from the store only where it answers soon."""
        known = self.last(user, server)
        if known and (not known.session or rank(known.kind) == len(RANKS) - 1):
            return known  # nobody can know better
        try:
            return self._reader.submit(self.recall, user, server).result(wait)
        except TimeoutError:
            return known

    def recall(self, user: str, server: str) -> Ending | None:
        """The last ending of a server as history tells it, or as far as it is known here. Blocking."""
        known = self.last(user, server)
        try:
            row = self._store().ends.last(user, server)
        except StoreError:
            return known
        if (
            row is None
            or row.ended_at is None
            or (known and known.session != row.session and known.at > row.ended_at)
        ):
            return known
        tail = str((row.data.get("end") or {}).get("log_tail") or "")
        same = known is not None and known.session == row.session
        return Ending(
            user,
            server,
            row.project,
            row.ended_at,
            row.reason or end_clauses.UNRECORDED,
            row.kind,
            tail or (known.log_tail if same and known else ""),
            row.session,
        )

    def flush(self) -> None:
        """Wait until everything reported so far is written."""
        self._writer.submit(lambda: None).result()

    def _show(self, ending: Ending) -> None:
        key = (ending.user, ending.server)
        with self._lock:
            self._last[key] = ending
            self._last.move_to_end(key)
            while len(self._last) > MAX_KEPT:
                self._last.popitem(last=False)


def _ending(ended: Ended, labels: SessionLabels) -> Ending:
    return Ending(
        labels.user,
        labels.server,
        labels.project,
        ended.at,
        ended.reason,
        ended.kind,
        ended.log_tail,
        ended.session,
    )


def _with_reason(ended: Ended) -> Ended:
    if ended.reason:
        return ended
    kind = ended.kind if ended.kind in ("lost", "unknown") else "unknown"
    return replace(ended, kind=kind, reason=end_clauses.LOST if kind == "lost" else end_clauses.UNRECORDED)

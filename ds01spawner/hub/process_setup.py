"""What lets the hub's own process answer while a class starts. `configure` calls it, before the hub is up.

The hub commits to its database some ten times for each start, on its event loop. With SQLite's default
journal each commit waits two or three times for the disk, and starting containers keep the disk busy: sixty
starts at once kept a hub from answering anybody for two seconds, and for half of that with these settings.
"""

from __future__ import annotations

import contextlib
import gc
import sqlite3
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from tornado.ioloop import PeriodicCallback

from ..core.lag import publish
from ..pages.keys import LogOuts

THRESHOLDS = (10_000, 10, 10)
"""Objects made before the collector looks: Python's own 700 make it look some hundred times for one class."""


_databases: set[Path] = set()


def tune_hub_process(database: Path | None) -> None:
    """Change how this whole process works, for a hub that answers while a class starts. Idempotent.

    * SQLite connections to the hub's own ``database`` write ahead, and no other database's do.
    * Everything loaded so far is taken out of the garbage collector's rounds, which begin later from here on.
    * Tornado's periodic callbacks go on when the wall clock is set back.
    * The process's metrics tell how late its event loop is.
    """
    publish()
    keep_periods()
    if database is not None:
        _databases.add(database.resolve())
        if not event.contains(Engine, "connect", _write_ahead):
            event.listen(Engine, "connect", _write_ahead)
    # Modules, classes and mappings stay for ever. The collector need not walk all of them again, a fifth of
    # a second at a time, each time a class has made enough objects.
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()
        gc.set_threshold(*THRESHOLDS)


def keep_periods() -> None:
    """Let periodic work go on when the wall clock is set back. Idempotent.

    Tornado plans it by the wall clock: set back by an hour, nothing looks for an hour whether the proxy and
    the services are there and whether sessions still run.
    """
    plan = PeriodicCallback._update_next
    if getattr(plan, "keeps_periods", False):
        return

    def update(self: PeriodicCallback, now: float) -> None:
        if self._next_timeout > now + self.callback_time / 1000:
            self._next_timeout = now
        plan(self, now)

    update.keeps_periods = True  # type: ignore[attr-defined]
    setattr(PeriodicCallback, "_update_next", update)  # noqa: B010 - no name of its own to assign to


def end_keys_with_log_in(log_outs: LogOuts, clock: Callable[[], datetime]) -> None:
    """Let each log-out end the keys of the person's live pages. For this process; a second call replaces."""
    from jupyterhub.handlers.login import LogoutHandler

    plain = getattr(LogoutHandler, "_ds01_plain", None) or LogoutHandler._backend_logout_cleanup

    def cleanup(self: Any, name: str) -> None:
        plain(self, name)
        try:
            log_outs.note(name, clock())
        except OSError as error:
            self.log.error("The keys of %s's live pages end within an hour only: %s", name, error)

    LogoutHandler._ds01_plain = plain
    LogoutHandler._backend_logout_cleanup = cleanup


def _write_ahead(connection: Any, _record: Any) -> None:
    """A write-ahead log for the hub's SQLite database: a commit appends to one file.

    As safe as before against crashes of any process. After a loss of power the last commits may be missing,
    never half of one; the sessions they were about are gone then, too.
    """
    if not isinstance(connection, sqlite3.Connection):
        return
    with contextlib.suppress(sqlite3.OperationalError):  # a file system without it keeps the usual journal
        files = [row[2] for row in connection.execute("PRAGMA database_list") if row[1] == "main"]
        if files and files[0] and Path(files[0]).resolve() in _databases:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

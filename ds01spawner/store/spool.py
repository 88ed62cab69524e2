"""What history could not take while the store was down: a file of lines, taken in when it is back.

Every process of the installation may add and take in; a lock keeps them apart. Taking in may be repeated
without harm, so a line goes only after the store has it. The file is bounded: when it is full the oldest
half goes, and the log says so.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Annotated, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError

from ..core.ending import Ended
from .session_record import SessionRecord
from .store import Store

MOST_BYTES = 4 * 2**20
MOST_LINES_AT_A_TIME = 500
"""Lines taken in while the file is locked, so that whoever wants to add never waits long."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Started:
    """A session began."""

    record: SessionRecord
    what: Literal["started"] = "started"

    def write(self, store: Store) -> Ended | None:
        """Write it to history."""
        store.sessions.started(self.record)
        return None


@dataclass(frozen=True)
class Noted:
    """It was decided to retire a session."""

    session: str
    at: datetime
    reason: str
    kind: str
    by: str = ""
    data: Mapping[str, object] | None = None
    what: Literal["noted"] = "noted"

    def write(self, store: Store) -> Ended | None:
        """Write it to history."""
        store.ends.retiring(self.session, self.at, self.reason, self.kind, self.data, by=self.by)
        return None


@dataclass(frozen=True)
class Finished:
    """A session ended. ``record`` is its begin, in case history does not know it."""

    ended: Ended
    record: SessionRecord | None = None
    what: Literal["finished"] = "finished"

    def write(self, store: Store) -> Ended | None:
        """Write it to history; what history says of the end now."""
        return store.ends.record(self.ended, self.record)


Report: TypeAlias = Started | Noted | Finished
_LINE: TypeAdapter[Report] = TypeAdapter(Annotated[Started | Noted | Finished, Field(discriminator="what")])


class Spool:
    """One file of reports. Blocking; every failure is an `OSError`, or the store's own error."""

    def __init__(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        """``path`` is made when the first line is added, readable by the installation alone."""
        self.path, self.most_bytes = path, most_bytes

    def add(self, report: Report) -> None:
        """Append a report and make sure that it is on the disk."""
        line = _LINE.dump_json(report) + b"\n"
        with self._locked() as handle:
            handle.seek(0, os.SEEK_END)
            if handle.tell() + len(line) > self.most_bytes:
                self._drop_older(handle)
            handle.write(line)
            handle.flush()
            os.fsync(handle.fileno())

    def waiting(self) -> bool:
        """Whether there is anything to take in."""
        try:
            return self.path.stat().st_size > 0
        except OSError:
            return False

    def take_in(self, store: Store) -> int:
        """Write what waits to the store; returns how many lines went. `StoreError` leaves the rest."""
        taken = 0
        while self.waiting():
            with self._locked() as handle:
                lines = handle.read().splitlines(keepends=True)
                done = 0
                try:
                    for line in lines[:MOST_LINES_AT_A_TIME]:
                        _write(line, store)
                        done += 1
                finally:
                    _replace(handle, lines[done:])
                    taken += done
        return taken

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        with os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield handle

    def _drop_older(self, handle: IO[bytes]) -> None:
        handle.seek(0)
        lines = handle.read().splitlines(keepends=True)
        log.error("%s is full: its %d oldest lines are lost to history", self.path, len(lines) // 2 + 1)
        _replace(handle, lines[len(lines) // 2 + 1 :])


def _write(line: bytes, store: Store) -> None:
    try:
        report = _LINE.validate_json(line)
    except ValidationError:
        # Half a line, of a process that was killed while it wrote, or another version's.
        log.warning("A line that waited for history cannot be read and is left out: %r", line[:200])
        return
    report.write(store)


def _replace(handle: IO[bytes], lines: list[bytes]) -> None:
    handle.seek(0)
    handle.writelines(lines)
    handle.truncate()
    handle.flush()

"""Intents in the state folder: one file a session, written whole or not at all. Blocking, safe in any number
of processes, and cheap while there are none, which is nearly always."""

from __future__ import annotations

import fcntl
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from .intent import SESSION, Intent, IntentError, dump, load, troubled

MAX_OPEN = 4096
MAX_BYTES = 16 * 1024
STALE_S = 3600.0
"""Age at which an unfinished file of a process that died is removed."""
LOCK_S = 2.0
"""Longest wait for another process to change an intent; it takes milliseconds unless that one is stopped."""
SUFFIX = ".json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unreadable:
    """A file that is no intent this release can read. It is never acted on, and never removed."""

    path: Path
    why: str


class Intents:
    """The open intents of one site. ``folder`` is made when the first one is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._said: set[str] = set()

    def ask(self, intent: Intent) -> Intent:
        """Write an intent down; it is on the disk when this returns.

        The first one of a session stands, with its reason, unless it still waits for its time and the new
        one does not. `IntentError` when it cannot be written.
        """
        path = self._path(intent.session)
        try:
            with self._written(intent) as temporary, self._alone():
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    known = self._read(path)
                    if isinstance(known, Intent) and not known.waits(intent.asked_at):
                        return known
                    if isinstance(known, Unreadable):
                        raise IntentError(f"{path} is in the way: {known.why}") from None
                    os.replace(temporary, path)
            self._sync()
        except OSError as error:
            raise IntentError(f"the intent to retire {intent.address} cannot be written: {error}") from error
        return intent

    def get(self, session: str) -> Intent | None:
        """The open intent of a session, or None."""
        if not SESSION.fullmatch(session):
            return None
        found = self._read(self._path(session))
        return found if isinstance(found, Intent) else None

    def open(self) -> list[Intent]:
        """Every open intent, the oldest first. What cannot be read is said once and left alone."""
        found = [read for read in self._all() if isinstance(read, Intent)]
        return sorted(found, key=lambda i: (i.asked_at, i.session))

    def unreadable(self) -> list[Unreadable]:
        """Files that are no intents, for whoever looks after the site."""
        return [read for read in self._all() if isinstance(read, Unreadable)]

    def failed(self, intent: Intent, problem: str) -> None:
        """Note what stood in the way, for pages and reports. An intent that is gone stays gone."""
        path, changed = self._path(intent.session), troubled(intent, problem)
        with suppress(OSError, IntentError), self._written(changed) as temporary, self._alone():
            known = self.get(intent.session)
            if known == intent and known.problem != changed.problem:
                os.replace(temporary, path)

    def done(self, session: str) -> None:
        """The engine says that the container is gone: the intent has served."""
        try:
            self._path(session).unlink()
            self._sync()
        except FileNotFoundError:
            return
        except OSError as error:  # whoever looks next finds the container gone and tries again
            log.warning("The intent of session %s cannot be removed: %s", session, error)

    def withdraw(self, session: str, now: datetime) -> bool:
        """Take an intent back that still waits for its time; whether there was one."""
        with suppress(OSError), self._alone():
            known = self.get(session)
            if known is not None and known.waits(now):
                self.done(session)
                return True
        return False

    # --- files ----------------------------------------------------------------------------------

    def _path(self, session: str) -> Path:
        if not SESSION.fullmatch(session):
            raise IntentError("that is no id of a session")
        return self.folder / f"{session}{SUFFIX}"

    @contextmanager
    def _written(self, intent: Intent) -> Iterator[Path]:
        """A file with the intent, safely on the disk; gone afterwards unless it was moved."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if sum(1 for _ in os.scandir(self.folder)) >= MAX_OPEN:
            raise IntentError(f"there are {MAX_OPEN} intents in {self.folder} already")
        temporary = self.folder / f".{uuid.uuid4().hex}.tmp"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(dump(intent))
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Look and change in one piece. A process that was stopped in the middle holds up nobody for long:
        what it would change is read again, and every step may be repeated."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            deadline = time.monotonic() + LOCK_S
            while True:
                try:
                    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        break
                    time.sleep(0.01)
            yield
        finally:
            os.close(folder)

    def _sync(self) -> None:
        """Names are safe on the disk when their folder is."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _all(self) -> Iterator[Intent | Unreadable]:
        try:
            entries = list(os.scandir(self.folder))
        except FileNotFoundError:
            return
        except OSError as error:
            raise IntentError(f"the intents in {self.folder} cannot be read: {error}") from error
        for entry in entries[: 2 * MAX_OPEN]:
            path = Path(entry.path)
            if entry.name.endswith(".tmp"):
                self._sweep(path)
            elif (read := self._read(path)) is not None:
                yield read

    def _read(self, path: Path) -> Intent | Unreadable | None:
        """One file; None when it is gone."""
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
                raw = file.read(MAX_BYTES + 1)
            if len(raw) > MAX_BYTES:
                raise IntentError("it is too large for an intent")
            intent = load(raw.decode())
            if path.name != f"{intent.session}{SUFFIX}":
                raise IntentError("it is named after another session")
            return intent
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, IntentError) as error:
            if path.name not in self._said:
                self._said.add(path.name)
                log.error("%s is left alone: %s", path, error)
            return Unreadable(path, str(error))

    @staticmethod
    def _sweep(path: Path) -> None:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE_S:
                path.unlink()

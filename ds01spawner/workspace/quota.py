"""Gives a workspace its quota by the site's own command, once for each person and quota."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from ..core.errors import StoreError
from ..store import Store

TIMEOUT_S = 30.0
FACT = "quota:"


class QuotaError(Exception):
    """The command failed; the message is its last line, or why it could not be run."""


def run(argv: Sequence[str], timeout: float = TIMEOUT_S) -> None:
    """Run the command without a shell and without input; `QuotaError` unless it ends well in time."""
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise QuotaError(f"{argv[0]} did not end within {timeout:g} seconds") from None
    except (OSError, ValueError) as error:
        raise QuotaError(f"{argv[0]} could not be run: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise QuotaError(said[-1][:300] if said else f"{argv[0]} ended with code {done.returncode}")


class Quotas:
    """Remembers in the store which command was run for whom, so that a changed quota runs it again.

    While the store is down the command runs once in each process: setting a quota twice does no harm,
    and a workspace without one might.
    """

    def __init__(self, store: Callable[[], Store], run: Callable[[Sequence[str]], None] = run) -> None:
        self._store, self._run = store, run
        self._done: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def ensure(self, user: str, argv: list[str], now: datetime) -> bool:
        """Run ``argv`` unless it is what was run last for ``user``; `QuotaError` when it fails. Blocking."""
        with self._lock:
            if self._done.get(user) == argv or self._remembered(user) == argv:
                self._done[user] = argv
                return False
            self._run(argv)
            self._done[user] = argv
        with suppress(StoreError):
            self._store().facts.set(FACT + user, argv, now)
        return True

    def _remembered(self, user: str) -> object:
        try:
            return self._store().facts.get(FACT + user)
        except StoreError:
            return None

"""Typed refusals and errors. Pure: nothing here imports JupyterHub, Docker or a clock.

A *refusal* is an answer, not a fault: the product understood the request and says no. It is plain
data (`Refusal`), so the page, REST, the CLI and the spawner show the same sentence. `Refused` carries
one through code that raises.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Refusal:
    """Why something is not done, in the five parts a person needs.

    ``code`` is a short token from a small fixed set (it becomes a metric label and the HTTP reason
    phrase). ``asked`` says what was requested, ``limit`` what stands against it, ``rule`` who or what
    set that limit, ``when`` when it could change, and ``do`` what to do next. ``used`` is the
    present use where there is one. All are full clauses without a closing full stop, in plain text:
    they are escaped by whoever shows them.
    """

    code: str
    asked: str
    limit: str
    do: str
    used: str = ""
    rule: str = ""
    when: str = ""
    status: int = 403
    retry_after: int | None = None
    """Seconds after which trying again makes sense, or None where time does not help."""
    ticket: str = ""
    """The place in the queue that was given instead, where there is one."""

    @property
    def sentence(self) -> str:
        """The whole refusal as one short paragraph of plain text."""
        limit = self.limit + (f" ({self.rule})" if self.rule else "")
        parts = [self.asked, self.used, limit, self.when, self.do]
        return " ".join(p[0].upper() + p[1:].rstrip(".") + "." for p in parts if p)

    def as_dict(self) -> dict[str, object]:
        """The JSON form for REST and ``--json``; empty parts are left out."""
        data = {k: v for k, v in asdict(self).items() if v not in ("", None)}
        return {**data, "message": self.sentence}


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a file that people write: where it is, and a clause that says what to write instead.

    ``line`` counts from 1; 0 means the file as a whole.
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        """The problem as a compiler would print it."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"

    def as_dict(self) -> dict[str, object]:
        """The JSON form."""
        return asdict(self)


class DS01Error(Exception):
    """Base of every error this package raises on purpose."""


class Refused(DS01Error):
    """A `Refusal` on its way up to whoever asked."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.sentence)
        self.refusal = refusal


class EngineError(DS01Error):
    """The container engine failed or did not answer; the state of the thing asked about is unknown."""


class InventoryError(DS01Error):
    """The GPU inventory cannot be read or parsed; no device may be granted on its ground."""


class LockError(DS01Error):
    """The claim lock could not be taken in time; without it no device is granted."""


class StoreError(DS01Error):
    """The store cannot be read or written."""


class StoreLocked(StoreError):
    """Another process writes for longer than anybody should wait; trying again may help."""


class StoreReadOnly(StoreError):
    """The store's file or folder may not be written."""


class StoreFull(StoreError):
    """There is no room left where the store is."""


class StoreCorrupt(StoreError):
    """The store's file is no database any more, or a damaged one."""


class StoreReplaced(StoreError):
    """The store's file was removed or replaced while this was written; nothing of it is in the new one."""

"""Walks below a folder in which other people write; every one ends, by number, depth and time. Blocking."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from .safefs import Denied, Folder


class TooMuch(Denied):
    """A walk came to its end before the folder did. ``kind`` is ``entries``, ``depth`` or ``time``."""

    def __init__(self, kind: str, path: str) -> None:
        super().__init__(errno.E2BIG, f"the walk ends here by its bound on {kind}", path)
        self.kind = kind


@dataclass(frozen=True)
class Bounds:
    """Where a walk ends. ``until`` is a time of `time.monotonic`."""

    entries: int = 1_000_000
    depth: int = 64
    """Levels below the top; each holds a descriptor open."""
    until: float = float("inf")
    waiting: int = 10_000
    """Folders that a walk level by level remembers to look into."""


@dataclass
class Entry:
    """Something that a walk came by. Set ``enter`` to False to stay out of a folder."""

    folder: Folder
    name: str
    parts: tuple[str, ...]
    """Names from the top, this one included."""
    status: os.stat_result
    enter: bool = True

    @property
    def path(self) -> str:
        """The place below the top, for people."""
        return "/".join(self.parts)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, and no link to one."""
        return stat.S_ISDIR(self.status.st_mode)


class Walk:
    """Everything below an open folder, each once. What goes away meanwhile is left out.

    ``complete`` is False when a bound ended it or a folder could not be opened; with ``strict`` the bound
    raises `TooMuch`. Other file systems are named and not entered. ``admit`` is asked with what an opened
    folder is, before anything in it is named.
    """

    def __init__(
        self,
        top: Folder,
        bounds: Bounds,
        *,
        strict: bool = False,
        in_order: bool = False,
        by_level: bool = False,
        admit: Callable[[Entry, os.stat_result], bool] = lambda entry, status: True,
    ) -> None:
        self._top, self._bounds, self._strict, self._admit = top, bounds, strict, admit
        self._in_order, self._by_level = in_order, by_level
        self._device = top.status().st_dev
        self.seen = 0
        self.complete = True
        self.crossed: set[str] = set()
        """Where other file systems begin."""

    def __iter__(self) -> Iterator[Entry]:
        return self._levels() if self._by_level else self._branches()

    def _branches(self) -> Iterator[Entry]:
        """Into each folder as it is met."""
        top = self._top.again()
        open_: list[tuple[Folder, tuple[str, ...], Generator[str, None, None]]] = [
            (top, (), self._names(top))
        ]
        try:
            while open_:
                folder, parts, names = open_[-1]
                name = next(names, None)
                if name is None:
                    open_.pop()[0].close()
                    continue
                entry = self._entry(folder, (*parts, name))
                if entry is None:
                    continue
                yield entry
                below = self._below(entry)
                if below is not None:
                    open_.append((below, entry.parts, self._names(below)))
        finally:
            for folder, _, names in open_:
                names.close()
                folder.close()

    def _levels(self) -> Iterator[Entry]:
        """All of one depth before the next, with two descriptors: near things are seen whatever lies deep."""
        waiting: deque[tuple[str, ...]] = deque([()])
        while waiting:
            parts = waiting.popleft()
            try:
                folder = self._top.descend(parts)
            except OSError:
                self.complete = False
                continue
            names = self._names(folder)
            try:
                for name in names:
                    entry = self._entry(folder, (*parts, name))
                    if entry is None:
                        continue
                    yield entry
                    below = self._below(entry)
                    if below is not None:
                        below.close()
                        if len(waiting) < self._bounds.waiting:
                            waiting.append(entry.parts)
                        else:
                            self._end("entries", entry.path)
            finally:
                names.close()
                folder.close()

    def _names(self, folder: Folder) -> Generator[str, None, None]:
        """A folder's names; counted as they are read, so that none takes all memory."""

        def counted() -> Generator[str, None, None]:
            with os.scandir(folder.fd) as entries:
                for entry in entries:
                    if self.seen >= self._bounds.entries:
                        self._end("entries", entry.name)
                        return
                    if time.monotonic() > self._bounds.until:
                        self._end("time", entry.name)
                        return
                    self.seen += 1
                    yield entry.name

        if not self._in_order:
            yield from counted()
            return
        yield from sorted(counted())

    def _entry(self, folder: Folder, parts: tuple[str, ...]) -> Entry | None:
        try:
            return Entry(folder, parts[-1], parts, folder.look(parts[-1]))
        except OSError:
            return None  # gone meanwhile

    def _below(self, entry: Entry) -> Folder | None:
        if not entry.is_folder or not entry.enter:
            return None
        if len(entry.parts) > self._bounds.depth:
            self._end("depth", entry.path)
            return None
        try:
            below = entry.folder.child(entry.name)
        except FileNotFoundError:
            return None
        except OSError:  # not ours to read, or a link by now
            self.complete = False
            return None
        status = below.status()
        if status.st_dev != self._device:
            self.crossed.add(entry.path)
        elif self._admit(entry, status):
            return below
        below.close()
        return None

    def _end(self, kind: str, path: str) -> None:
        self.complete = False
        if self._strict:
            raise TooMuch(kind, path)

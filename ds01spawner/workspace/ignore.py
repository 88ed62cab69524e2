"""Which files a ``.dockerignore`` leaves out, by Docker's documented rules, in linear time. Pure.

A person writes both the patterns and the names they are held against, so no backtracking engine may see
them: ``*a*a*a*b`` against 120 times ``a`` never ends there, and holds the interpreter meanwhile. All
patterns are one automaton here, whose states are the bits of a number; a character of a name is a few
operations on it, whatever the patterns are. What a folder's name has led to is kept, so each name is read
once and not again for every file below.

The rules are those of the builder: the last pattern that matches a file or a folder above it counts,
``!`` takes back, ``*`` and ``?`` stay within a name, ``**`` is any number of folders, ``[a-c]`` is a class
and ``\\`` takes the next character as it is.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MAX_PATTERNS = 500
MAX_PATTERN = 400
MAX_TOTAL = 16_000
"""Characters of all patterns together: they bound the work for each character of a name."""
MAX_REMEMBERED = 256
"""Characters whose moves are kept: names may have any of the million that there are."""


class BadPattern(ValueError):
    """A pattern cannot be read; the message says which."""


@dataclass(frozen=True)
class State:
    """What a path has led to: where the automaton is, and which patterns matched a folder above."""

    at: int
    matched: int = 0


@dataclass
class Ignore:
    """All patterns of a ``.dockerignore``. `start` is the top folder; `below` goes one name further."""

    _literal: dict[str, int] = field(default_factory=dict)
    _classes: list[tuple[int, Callable[[str], bool]]] = field(default_factory=list)
    _any_but_slash: int = 0
    _stay: int = 0
    _stay_but_slash: int = 0
    _skip_one: int = 0
    _skip_two: int = 0
    _final: int = 0
    _taken_back: int = 0
    """The final states of patterns that begin with ``!``."""
    _size: int = 0
    _moves: dict[str, int] = field(default_factory=dict)
    start: State = State(0)

    @property
    def takes_back(self) -> bool:
        """Whether a pattern begins with ``!``: then an ignored folder may have files that are sent."""
        return bool(self._taken_back)

    def below(self, state: State, name: str) -> State:
        """The state of ``name`` in the folder that has led to ``state``."""
        at = state.at
        if state is not self.start:
            at = self._step(at, "/")
        for character in name:
            at = self._step(at, character)
            if not at:
                break
        return State(at, state.matched | (at & self._final))

    def ignored(self, state: State) -> bool:
        """Whether the file is left out: the last pattern that matched it, or a folder above it, counts."""
        if not state.matched:
            return False
        last = 1 << (state.matched.bit_length() - 1)
        return not last & self._taken_back

    def matches(self, path: str) -> bool:
        """Whether ``path``, relative to the context, is left out."""
        state = self.start
        for name in path.split("/"):
            state = self.below(state, name)
        return self.ignored(state)

    def _step(self, at: int, character: str) -> int:
        move = self._moves.get(character)
        if move is None:
            move = self._move(character)
            if len(self._moves) < MAX_REMEMBERED:
                self._moves[character] = move
        stay = self._stay if character == "/" else self._stay | self._stay_but_slash
        return self._skipped(((at & move) << 1) | (at & stay))

    def _move(self, character: str) -> int:
        move = self._literal.get(character, 0)
        if character != "/":
            move |= self._any_but_slash
        for position, holds in self._classes:
            if holds(character):
                move |= position
        return move

    def _skipped(self, at: int) -> int:
        # At most two states that may be skipped stand beside each other: `**` before `*`.
        for _ in range(3):
            at |= ((at & self._skip_one) << 1) | ((at & self._skip_two) << 2)
        return at

    def _add(self, pattern: str, takes_back: bool) -> None:
        first = 1 << self._size
        _Reader(self, pattern).read()
        final = 1 << self._size
        self._size += 1
        self._final |= final
        if takes_back:
            self._taken_back |= final
        self.start = State(self.start.at | first)


class _Reader:
    """Turns one pattern into states; each method adds one."""

    def __init__(self, ignore: Ignore, pattern: str) -> None:
        self.ignore = ignore
        self.pattern = pattern
        self.place = 0
        self.after_folders = False

    def read(self) -> None:
        while self.place < len(self.pattern):
            character = self._take()
            if character == "*":
                self._star()
                continue
            self.after_folders = False
            if character == "?":
                self.ignore._any_but_slash |= self._new()
            elif character == "[":
                self._class()
            elif character == "\\":
                self._one(self._take())
            else:
                self._one(character)

    def _take(self) -> str:
        if self.place >= len(self.pattern):
            raise BadPattern(f"the pattern {self.pattern[:80]!r} ends too early")
        self.place += 1
        return self.pattern[self.place - 1]

    def _next_is(self, character: str) -> bool:
        return self.pattern[self.place : self.place + 1] == character

    def _new(self) -> int:
        self.ignore._size += 1
        return 1 << (self.ignore._size - 1)

    def _one(self, character: str) -> None:
        self.ignore._literal[character] = self.ignore._literal.get(character, 0) | self._new()

    def _star(self) -> None:
        if not self._next_is("*"):
            state = self._new()
            self.ignore._stay_but_slash |= state
            self.ignore._skip_one |= state
            self.after_folders = False
            return
        self.place += 1
        if self._next_is("/"):
            self.place += 1
            plain = False
        else:  # `**end` is whatever ends so, as the builder has it, where no more signs follow
            plain = self.place == 2 and not set(self.pattern[2:]) & set("*?[]\\")
        if plain or self.place == len(self.pattern):  # at the end it is everything below
            state = self._new()
            self.ignore._stay |= state
            self.ignore._skip_one |= state
        elif not self.after_folders:  # `**/**/` says no more than `**/`
            self._folders()
            self.after_folders = True

    def _folders(self) -> None:
        """Any number of folders: nothing, or anything that ends with a slash."""
        nothing, inside = self._new(), self._new()
        self.ignore._skip_one |= nothing
        self.ignore._skip_two |= nothing
        self.ignore._stay |= inside
        self.ignore._literal["/"] = self.ignore._literal.get("/", 0) | inside

    def _class(self) -> None:
        negated = self._next_is("^")
        self.place += negated
        ranges: list[tuple[str, str]] = []
        while not self._next_is("]") or not ranges:
            low = self._class_character()
            high = low
            if self._next_is("-"):
                self.place += 1
                high = self._class_character()
            ranges.append((low, high))
        self.place += 1
        bounds = tuple(ranges)

        def holds(character: str) -> bool:
            return any(low <= character <= high for low, high in bounds) != negated

        self.ignore._classes.append((self._new(), holds))

    def _class_character(self) -> str:
        character = self._take()
        if character in "]-":
            raise BadPattern(f"the pattern {self.pattern[:80]!r} has a class that cannot be read")
        return self._take() if character == "\\" else character


def parse(text: str) -> Ignore:
    """The patterns of a ``.dockerignore``; `BadPattern` for one that cannot be read, or too many."""
    ignore = Ignore()
    for pattern, takes_back in _bounded(_lines(text)):
        ignore._add(pattern, takes_back)
    ignore.start = State(ignore._skipped(ignore.start.at))
    return ignore


def _lines(text: str) -> Iterable[tuple[str, bool]]:
    for line in text.split("\n"):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        takes_back = pattern.startswith("!")
        pattern = pattern[takes_back:].strip()
        if not pattern.strip("/"):
            if takes_back:
                raise BadPattern("a pattern is `!` alone")
            continue
        cleaned = posixpath.normpath(pattern)
        cleaned = cleaned.lstrip("/") if cleaned.strip("/") else "."
        if cleaned != ".":  # the folder itself: the builder takes no file out by it
            yield cleaned, takes_back


def _bounded(patterns: Iterable[tuple[str, bool]]) -> Iterable[tuple[str, bool]]:
    total = 0
    for count, (pattern, takes_back) in enumerate(patterns, 1):
        total += len(pattern)
        if count > MAX_PATTERNS or len(pattern) > MAX_PATTERN or total > MAX_TOTAL:
            raise BadPattern(
                f"there are more than {MAX_PATTERNS} patterns, {MAX_TOTAL} characters in all, or "
                f"{MAX_PATTERN} in one"
            )
        yield pattern, takes_back

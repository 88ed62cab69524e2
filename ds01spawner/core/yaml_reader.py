"""The one reader of the YAML that people write: policy, catalogue, recipe, course, GPU inventory. Pure.

Every problem names file, line and key, because "invalid configuration" helps nobody. Keys are always text
(``0123``, ``no`` and ``null`` are names people have), times stay text; a key written twice, merge keys and
tags are refused. How much a text may be is bounded before anything is built of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .errors import DS01Error, Problem
from .text import size

MAX_PLAIN = 2000
"""Characters of a value without quotes: what such a value means (a number, a time) is found by its signs."""
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_TIMESTAMP, _MERGE = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge"
_BINARY = "tag:yaml.org,2002:binary"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Model = TypeVar("Model", bound=BaseModel)
Loc = tuple[str | int, ...]


@dataclass(frozen=True)
class Bounds:
    """How much one text may be. Aliases count as often as they are used."""

    size: int = 256 * 1024
    depth: int = 24
    values: int = 10_000
    aliases: bool = False
    """A file of the site's own may use them; in another person's they blow a small file up to gigabytes."""


OF_PEOPLE = Bounds()
OF_THE_SITE = Bounds(size=4 * 2**20, values=200_000, aliases=True)


class FileProblems(DS01Error):
    """A file people wrote cannot be used; carries every problem found, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(p) for p in self.problems))


@dataclass(frozen=True)
class Document:
    """Plain data read from YAML, with the line each key was on."""

    name: str
    data: Any
    lines: dict[Loc, int]

    def line(self, loc: Loc) -> int:
        """The line of ``loc``, or of the nearest thing around it; 1 when nothing is known."""
        while loc not in self.lines and loc:
            loc = loc[:-1]
        return self.lines.get(loc, 1)

    def problem(self, loc: Loc, message: str) -> Problem:
        """A problem at ``loc``."""
        return Problem(self.name, self.line(loc), dotted(loc), message)


def dotted(loc: Loc) -> str:
    """A place for people: ``groups.students.session.memory``."""
    return ".".join(str(p) for p in loc)


def parse(text: str, name: str, bounds: Bounds = OF_PEOPLE) -> Document:
    """Read YAML text; ``name`` is how problems call the file. `FileProblems` where it cannot be used."""
    if len(text.encode("utf-8", "surrogatepass")) > bounds.size:
        raise FileProblems([Problem(name, 0, "", f"it is larger than {size(bounds.size)}")])
    reader = _Reader(name, bounds)
    try:
        _refuse_too_much(text, bounds)
        node = yaml.compose(text, Loader=_Loader)
        data = None if node is None else reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context
        at = min(mark.line, text.count("\n")) + 1 if mark else 0  # an end too early is after the last line
        raise FileProblems([Problem(name, at, "", f"not valid YAML: {problem}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileProblems([Problem(name, 0, "", f"not valid YAML: {line}")]) from None
    if reader.problems:
        raise FileProblems(reader.problems)
    return Document(name, data, reader.lines)


def read(path: Path, bounds: Bounds = OF_PEOPLE) -> Document:
    """Read a YAML file; a missing or unreadable one is a `FileProblems` too."""
    try:
        raw = _regular(path, bounds.size)
    except OSError as error:
        raise FileProblems([Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]) from error
    try:
        return parse(raw.decode("utf-8"), str(path), bounds)
    except UnicodeDecodeError as error:
        raise FileProblems([Problem(str(path), 0, "", f"is not UTF-8: {error.reason}")]) from None


def validate(document: Document, model: type[Model]) -> Model:
    """The document as ``model``; every violation becomes a `Problem` with its line."""
    if not isinstance(document.data, dict):
        raise FileProblems([document.problem((), "a set of `key: value` lines is expected here")])
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        known = ", ".join(model.model_fields)
        problems = [_problem(document, e, known) for e in error.errors(include_url=False)]
        raise FileProblems(sorted(problems, key=lambda p: p.line)) from None


def _regular(path: Path, most: int) -> bytes:
    """The bytes of a plain file, one too many where there are too many; a pipe is never waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        return file.read(most + 1)


def _refuse_too_much(text: str, bounds: Bounds) -> None:
    """Refuse what would take long to read, from the parser's events alone, which take next to nothing.

    Brackets in brackets take the square of their number, a number in base 60 the square of its digits.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_Loader):
        why = ""
        count += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.AliasEvent) and not bounds.aliases:
            why = "aliases are not allowed"
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and not event.style and len(event.value) > MAX_PLAIN:
            why = f"a value of more than {MAX_PLAIN} characters must stand in quotes or after a `|`"
        if depth > bounds.depth:
            why = f"it is nested more than {bounds.depth} levels deep"
        elif count > bounds.values:
            why = f"it has more than {bounds.values} values"
        if why:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=why, problem_mark=mark)


class _Reader:
    """Turns nodes into plain data, and remembers lines and problems."""

    def __init__(self, name: str, bounds: Bounds) -> None:
        self.name, self.bounds = name, bounds
        self.lines: dict[Loc, int] = {}
        self.problems: list[Problem] = []
        self.values = 0
        self.scalars = yaml.constructor.SafeConstructor()

    def problem(self, node: yaml.Node, loc: Loc, message: str) -> None:
        self.problems.append(Problem(self.name, node.start_mark.line + 1, dotted(loc), message))

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        self.values += 1
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if self.values > self.bounds.values or len(loc) > self.bounds.depth:  # by aliases in aliases
            self.problem(node, loc, "too large or too deeply nested")
            raise FileProblems(self.problems)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, loc)
        if node.tag not in _COLLECTIONS:
            self.problem(node, loc, f"the tag {node.tag[:60]!r} has no place here")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, loc)
        return [self.value(child, (*loc, i)) for i, child in enumerate(node.value)]

    def mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, loc, "a key must be plain text")
                continue
            key = str(key_node.value)
            here = (*loc, key)
            if key_node.tag == _MERGE:
                self.problem(key_node, here, 'merge keys ("<<") are not supported; write the values out')
            elif key in data:
                self.problem(key_node, here, f"written twice (first on line {self.lines[here]})")
            else:
                self.lines[here] = key_node.start_mark.line + 1
                data[key] = self.value(value_node, here)
        return data

    def scalar(self, node: yaml.ScalarNode, loc: Loc) -> Any:
        if node.tag == _TIMESTAMP:
            return str(node.value)
        if node.tag == _BINARY:
            self.problem(node, loc, "the tag '!!binary' has no place here")
            return None
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problem(node, loc, f"cannot be read: {getattr(error, 'problem', None) or error}")
            return None


def _problem(document: Document, error: ErrorDetails, known: str) -> Problem:
    loc: Loc = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        hint = f"; known are {known}" if len(loc) == 1 else ""
        return document.problem(loc, f"is not a known key{hint}")
    if error["type"] == "missing":
        return document.problem(loc, "is missing")
    message = str(error["msg"]).removeprefix("Value error, ")
    return document.problem(loc, message[0].lower() + message[1:] if message else "is wrong")

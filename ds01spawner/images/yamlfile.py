"""Strict YAML for the files people write: catalogue, recipe, course. Pure.

Every complaint names file, line and key, because "invalid configuration" helps nobody. Aliases and
repeated keys are refused: the first can blow a small file up to gigabytes, the second hides a value.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ..core.errors import DS01Error, Problem

MAX_BYTES = 256 * 1024
MAX_DEPTH = 24
MAX_NODES = 10_000
MAX_PLAIN = 2000
"""Characters of a value without quotes: what such a value means (a number, a time) is found by its signs."""

Model = TypeVar("Model", bound=BaseModel)
Loc = tuple[str | int, ...]


class FileProblems(DS01Error):
    """A file people wrote cannot be used; carries every problem found, in the order of its lines."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = tuple(problems)


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
        return Problem(self.name, self.line(loc), ".".join(str(p) for p in loc), message)


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str, name: str) -> Document:
    """Read YAML text; ``name`` is how problems call the file."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise FileProblems([Problem(name, 0, "", f"it is larger than {MAX_BYTES // 1024} KiB")])
    lines: dict[Loc, int] = {}
    problems: list[Problem] = []
    try:
        _bounded(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is not None:
                _walk(node, (), lines, problems, name)
            data = loader.construct_document(node) if node is not None and not problems else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context
        at = min(mark.line, text.count("\n")) + 1 if mark else 0  # an end too early is after the last line
        raise FileProblems([Problem(name, at, "", f"not valid YAML: {problem}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileProblems([Problem(name, 0, "", f"not valid YAML: {line}")]) from None
    if problems:
        raise FileProblems(problems)
    return Document(name, data, lines)


def _bounded(text: str) -> None:
    """Refuse what would take long to read, from the parser's events alone, which take next to nothing.

    Brackets in brackets take the square of their number, a number in base 60 the square of its digits.
    """
    depth = count = 0
    for event in yaml.parse(text, Loader=_Loader):
        why = ""
        count += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.AliasEvent):
            why = "aliases are not allowed"
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and event.style is None and len(event.value) > MAX_PLAIN:
            why = f"a value of more than {MAX_PLAIN} characters must stand in quotes or after a `|`"
        if depth > MAX_DEPTH:
            why = f"it is nested more than {MAX_DEPTH} levels deep"
        elif count > MAX_NODES:
            why = f"it has more than {MAX_NODES} values"
        if why:
            mark: Any = event.start_mark
            raise yaml.MarkedYAMLError(problem=why, problem_mark=mark)


def _walk(node: yaml.Node, loc: Loc, lines: dict[Loc, int], problems: list[Problem], name: str) -> None:
    lines.setdefault(loc, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*loc, index), lines, problems, name)
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[Hashable] = set()
    for key, value in node.value:
        label = str(key.value)
        at = key.start_mark.line + 1
        if label in seen:
            where = ".".join(str(p) for p in (*loc, label))
            problems.append(Problem(name, at, where, "the key is there twice"))
        seen.add(label)
        here: Loc = (*loc, label)
        lines[here] = at
        _walk(value, (*loc, label), lines, problems, name)


def read(path: Path) -> Document:
    """Read a YAML file; a missing or unreadable one is a `FileProblems` too."""
    try:
        raw = _regular(path)
    except OSError as error:
        raise FileProblems([Problem(str(path), 0, "", f"cannot be read: {error.strerror}")]) from error
    try:
        return parse(raw.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise FileProblems([Problem(str(path), 0, "", f"is not UTF-8: {error.reason}")]) from None


def _regular(path: Path) -> bytes:
    """The bytes of a plain file, one too many where there are too many; a pipe is never waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file")
        return file.read(MAX_BYTES + 1)


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


def _problem(document: Document, error: ErrorDetails, known: str) -> Problem:
    loc: Loc = tuple(error["loc"])
    if error["type"] == "extra_forbidden":
        hint = f"; known are {known}" if len(loc) == 1 else ""
        return document.problem(loc, f"is not a known key{hint}")
    if error["type"] == "missing":
        return document.problem(loc, "is missing")
    message = str(error["msg"]).removeprefix("Value error, ")
    return document.problem(loc, message[0].lower() + message[1:] if message else "is wrong")

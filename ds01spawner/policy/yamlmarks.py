"""Read YAML with the line of every key, refusing what the policy file must not have. Pure.

Keys are always text (``0123``, ``no`` and ``null`` are names people have), times stay text, a key
written twice is an error, and so are merge keys and aliases that nest without end.
"""

from __future__ import annotations

from typing import Any

import yaml

from .errors import PolicyError, Problem

Path = tuple[str | int, ...]
_MAX_NODES = 200_000
_MAX_DEPTH = 24
_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self.nodes = 0
        self.scalars = yaml.constructor.SafeConstructor()

    def problem(self, node: yaml.Node, path: Path, message: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(self.file, line, dotted(path), message))

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.nodes += 1
        self.lines.setdefault(path, node.start_mark.line + 1)
        if self.nodes > _MAX_NODES or len(path) > _MAX_DEPTH:
            self.problem(node, path, "too large or too deeply nested for a policy file")
            raise PolicyError(*self.problems)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
            self.problem(node, path, f"the tag {node.tag[:60]!r} has no place in a policy file")
            return None
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
        return self.scalar(node, path)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.problem(key_node, path, "a key must be plain text")
                continue
            key = str(key_node.value)
            here = (*path, key)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self.problem(key_node, here, 'merge keys ("<<") are not supported; write the values out')
                continue
            if key in data:
                self.problem(key_node, here, f"written twice (first on line {self.lines[here]})")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            data[key] = self.value(value_node, here)
        return data

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        if node.tag == _TIMESTAMP:
            return str(node.value)
        try:
            return self.scalars.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            self.problem(node, path, f"cannot be read: {getattr(error, 'problem', None) or error}")
            return None


def read_yaml(text: str, file: str) -> tuple[Any, dict[Path, int]]:
    """The plain data of ``text`` and the line of every path in it; `PolicyError` names line and key."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise PolicyError(
            Problem(file, mark.line + 1 if mark else 0, "", f"not valid YAML: {what}")
        ) from None
    except RecursionError:
        raise PolicyError(Problem(file, 0, "", "too deeply nested for a policy file")) from None
    if node is None:
        return None, {}
    reader = _Reader(file)
    data = reader.value(node, ())
    if reader.problems:
        raise PolicyError(*reader.problems)
    return data, reader.lines


def dotted(path: Path) -> str:
    """A path for people: ``groups.students.session.memory``."""
    return ".".join(str(p) for p in path)

"""Read a policy file into layers that can be merged, and notice when it changes.

Every fault names file, line and key, and what was expected there. A broken file at start-up is an
error; a broken file later leaves the last good policy in force, and says so.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from ..core.text import stamp
from ..core.yaml_reader import Loc as KeyPath
from ..core.yaml_reader import dotted
from .model import SECTION_NAMES, Group, PolicyFile, Section, Sections
from .problems import PolicyError, Problem, read_yaml

MAX_FILE_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Value:
    """One value as a layer sets it, and who says so."""

    value: Any
    source: str
    """For people: ``group students (policy.yaml:14)``."""


Layer = Mapping[str, Value]
"""The values one layer names, by dotted key (``session.memory``). A key it does not name is not there."""


@dataclass(frozen=True)
class GroupLayer:
    """A group of the file."""

    name: str
    layer: Layer
    members: frozenset[str] = frozenset()
    hub_admins: bool = False
    description: str = ""


@dataclass(frozen=True)
class Override:
    """One person's own values until ``expires`` (exclusive; None is without end)."""

    user: str
    layer: Layer
    expires: datetime | None = None
    reason: str = ""

    def in_force(self, now: datetime) -> bool:
        """Whether the values count at ``now``: no more from the second of ``expires`` on."""
        return self.expires is None or now < self.expires


@dataclass(frozen=True)
class Policy:
    """A policy ready to be resolved for people."""

    path: Path | None
    builtin: Layer
    defaults: Layer = field(default_factory=dict)
    groups: tuple[GroupLayer, ...] = ()
    """In the order of the file: later groups win over earlier ones."""
    users: Mapping[str, Override] = field(default_factory=dict)
    default_group: str | None = None
    files: tuple[Path, ...] = ()
    """Every file that was read, to notice changes."""


def load_policy(path: Path | str | None) -> Policy:
    """Read and check a policy file and its members files; None gives the built-in defaults.

    Raises `PolicyError` with every fault found. A missing file is a fault: nobody is silently given
    the defaults.
    """
    if path is None:
        return builtin_policy()
    path = Path(path)
    return parse_policy(_read(path), path)


def builtin_policy() -> Policy:
    """The policy of a site without a file."""
    return Policy(path=None, builtin=_builtin_layer())


def parse_policy(text: str, path: Path) -> Policy:
    """Check the text of a policy file; ``path`` is for messages and for finding members files."""
    name = path.name
    read = read_yaml(text, name)
    data, lines = read.data, read.lines
    if not isinstance(data, dict):
        raise PolicyError(Problem(name, 1, "", "expected keys such as version, defaults, groups and users"))
    try:
        document = PolicyFile.model_validate(data)
    except ValidationError as error:
        raise PolicyError(*_problems(error, name, lines)) from None
    groups, files, problems = [], [path], []
    for group_name, group in document.groups.items():
        members = set(group.members)
        if group.members_file is not None:
            file = path.parent / group.members_file
            files.append(file)
            try:
                members |= _members(_read(file))
            except PolicyError as error:
                line = lines.get(("groups", group_name, "members_file"), 0)
                key = f"groups.{group_name}.members_file"
                problems.append(Problem(name, line, key, str(error)))
        groups.append(_group(group_name, group, frozenset(members), name, lines))
    if document.default_group is not None and document.default_group not in document.groups:
        message = f"there is no group {document.default_group!r} in this file"
        problems.append(Problem(name, lines.get(("default_group",), 0), "default_group", message))
    if problems:
        raise PolicyError(*problems)
    return Policy(
        path=path,
        builtin=_builtin_layer(),
        defaults=_layer(document.defaults, "defaults", name, lines, ("defaults",)),
        groups=tuple(groups),
        users=_users(document, name, lines),
        default_group=document.default_group,
        files=tuple(files),
    )


def nested(values: Mapping[str, object]) -> dict[str, object]:
    """Values by dotted key, nested as the file has them. ValueError for a key below one with a value."""
    top: dict[str, object] = {}
    for key, value in values.items():
        here = top
        *parents, last = key.split(".")
        for part in parents:
            below = here.setdefault(part, {})
            if not isinstance(below, dict):
                raise ValueError(f"{key}: it is below a key that has a value of its own")
            here = below
        here[last] = value
    return top


def leaves(section: BaseModel, only_set: bool) -> dict[str, object]:
    """The values of a section model by dotted key; ``only_set`` leaves out what was not written."""
    found: dict[str, object] = {}
    for name in type(section).model_fields:
        if only_set and name not in section.model_fields_set:
            continue
        value = getattr(section, name)
        if isinstance(value, Section):
            found |= {f"{name}.{k}": v for k, v in leaves(value, only_set).items()}
        elif isinstance(value, Mapping):
            found |= {f"{name}.{k}": v for k, v in value.items()}
        else:
            found[name] = value
    return found


def _layer(
    sections: Sections, who: str, file: str, lines: Mapping[KeyPath, int], prefix: KeyPath
) -> dict[str, Value]:
    layer = {}
    for name in SECTION_NAMES:
        if name not in sections.model_fields_set:
            continue
        for key, value in leaves(getattr(sections, name), only_set=True).items():
            full = f"{name}.{key}"
            line = lines.get((*prefix, *full.split(".")), 0)
            layer[full] = Value(value, f"{who} ({file}:{line})" if line else f"{who} ({file})")
    return layer


def _builtin_layer() -> dict[str, Value]:
    return {k: Value(v, "built-in default") for k, v in leaves(Sections(), only_set=False).items()}


def _group(
    name: str, group: Group, members: frozenset[str], file: str, lines: Mapping[KeyPath, int]
) -> GroupLayer:
    layer = _layer(group, f"group {name}", file, lines, ("groups", name))
    return GroupLayer(name, layer, members, group.hub_admins, group.description)


def _users(document: PolicyFile, file: str, lines: Mapping[KeyPath, int]) -> dict[str, Override]:
    users = {}
    for name, user in document.users.items():
        who = f"exception of {name}"
        if user.expires:
            who += f" until {stamp(user.expires)}"
        layer = _layer(user, who, file, lines, ("users", name))
        users[name] = Override(name, layer, user.expires, user.reason)
    return users


def _members(text: str) -> set[str]:
    names = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return {name for name in names if name}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise PolicyError(Problem(str(path), 0, "", "the file is larger than 4 MiB"))
        return data.decode("utf-8-sig")
    except OSError as error:
        raise PolicyError(Problem(str(path), 0, "", f"cannot be read: {error.strerror}")) from None
    except UnicodeDecodeError:
        raise PolicyError(Problem(str(path), 0, "", "is not UTF-8 text")) from None


def _problems(error: ValidationError, file: str, lines: Mapping[KeyPath, int]) -> list[Problem]:
    found = []
    for item in error.errors(include_url=False):
        path = tuple(p for p in item["loc"] if p != "[key]")
        where = path
        while where and where not in lines:
            where = where[:-1]
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = _unknown(path)
        elif item["type"] == "missing":
            message = "missing; write it at the top of the file" if len(path) == 1 else "missing"
        elif item["type"] in ("model_type", "mapping_type", "model_attributes_type"):
            message = f"expected further keys below it, not {item['input']!r:.40}"
        elif item["type"] == "string_type":
            message = f"expected text, not {item['input']!r:.40}; put it in quotes"
        found.append(Problem(file, lines.get(where, 1), dotted(path), message))
    return sorted(found, key=lambda p: p.line)


def _unknown(path: KeyPath) -> str:
    if len(path) == 1 and path[0] in SECTION_NAMES:
        return 'unknown key at the top; write it below "defaults", a group or a user'
    model: type[BaseModel] = PolicyFile
    for part in path[:-1]:
        model = _below(model, str(part)) or model
    known = sorted(model.model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"known here are {', '.join(known)}"
    return f"unknown key; {hint}"


def _below(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    if name in model.model_fields:
        annotation = model.model_fields[name].annotation
        for candidate in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                return candidate
    return None


class PolicyWatcher:
    """The policy in force, re-read when its files change. Thread-safe; `current` costs a few ``stat`` calls.

    The first read must succeed (`PolicyError` otherwise). Later a file that cannot be used leaves the
    last good policy in force: ``problem`` then says what is wrong, and ``on_problem`` is called once
    for each change that fails.
    """

    def __init__(
        self, path: Path | str | None, on_problem: Callable[[PolicyError], None] | None = None
    ) -> None:
        self.path = Path(path) if path is not None else None
        self.problem = ""
        """What is wrong with the file now on disk, or empty."""
        self.generation = 1
        """Counts the policies taken into force."""
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._seen = _signature((self.path,) if self.path else ())
        self._policy = load_policy(self.path)
        if len(self._policy.files) > 1:
            self._seen = _signature(self._policy.files)

    def current(self) -> Policy:
        """The policy in force now; never raises."""
        with self._lock:
            files = self._policy.files
            seen = _signature(files)
            if seen != self._seen:
                self._reload(seen)
            return self._policy

    def _reload(self, seen: tuple[object, ...]) -> None:
        try:
            policy = load_policy(self.path)
        except PolicyError as error:
            self._seen = seen
            self.problem = str(error)
            if self._on_problem:
                self._on_problem(error)
            return
        # Members files may have come or gone with the edit; changes between stat and read show next time.
        self._seen = seen if policy.files == self._policy.files else _signature(policy.files)
        self._policy, self.problem = policy, ""
        self.generation += 1


def _signature(files: tuple[Path, ...]) -> tuple[object, ...]:
    found: list[object] = []
    for file in files:
        try:
            stat = os.stat(file)
            found.append((str(file), stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError as error:
            found.append((str(file), error.errno))
    return tuple(found)

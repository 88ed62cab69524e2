"""Translate a DS01 site's ``resource-limits.yaml`` and the files beside it into our policy file.

Nothing is dropped in silence: every key is reported as taken, translated, without counterpart or wrong,
with its file and line. Where a translation could only be wider or narrower, it is narrower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ..core.yaml_reader import Loc as KeyPath
from ..core.yaml_reader import dotted
from .ds01_keys import EXEMPTIONS, NO_COUNTERPART, TOP, VALUES
from .load import nested, parse_policy
from .problems import PolicyError, Problem, read_yaml
from .units import format_size, parse_size

Verdict = Literal["taken", "translated", "no counterpart", "wrong"]
_HEADER = "# Made by ds01 import-limits from {}. Groups: later ones win.\n"
_META = ("reason", "approved_by")
_ENDS = ("expires", "expires_on", "until")


@dataclass(frozen=True)
class ReportLine:
    """What became of one key."""

    file: str
    line: int
    key: str
    verdict: Verdict
    text: str


@dataclass(frozen=True)
class Imported:
    """The policy as text, and the report."""

    text: str
    report: tuple[ReportLine, ...]

    @property
    def ok(self) -> bool:
        """Whether every value could be read."""
        return not any(line.verdict == "wrong" for line in self.report)


@dataclass
class _Written:
    """The defaults, a group or a user as the policy file will have them."""

    values: dict[str, object] = field(default_factory=dict)
    """By dotted key."""
    members: list[str] | None = None

    def document(self) -> dict[str, object]:
        """The keys nested; the members come last."""
        members = {} if self.members is None else {"members": self.members}
        return nested(self.values) | members


@dataclass
class _Import:
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    file: str = ""
    report: list[ReportLine] = field(default_factory=list)
    defaults: _Written = field(default_factory=_Written)
    groups: dict[str, _Written] = field(default_factory=dict)
    users: dict[str, _Written] = field(default_factory=dict)

    def say(self, path: KeyPath, verdict: Verdict, text: str) -> None:
        where = path
        while where and where not in self.lines:
            where = where[:-1]
        self.report.append(ReportLine(self.file, self.lines.get(where, 0), dotted(path), verdict, text))

    def open(self, path: Path) -> Any:
        """Read one YAML file; its lines are those reported from now on."""
        read = read_yaml(_text(path), path.name)
        self.file, self.lines = path.name, read.lines
        return read.data

    # --- one layer ------------------------------------------------------------------------------

    def layer(self, data: Any, at: KeyPath, into: _Written) -> None:
        """Translate the keys of ``defaults``, a group or a user."""
        for key, value in _mapping(data).items():
            if key in ("aggregate", "policies"):
                for inner, inner_value in _mapping(value).items():
                    self.value(f"{key}.{inner}", inner_value, (*at, key, inner), into, data)
            elif key == "memory_swap":
                self.swap(value, data, (*at, key), into)
            else:
                self.value(key, value, (*at, key), into, data)

    def value(self, key: str, value: Any, path: KeyPath, into: _Written, layer: Any) -> None:
        if key in NO_COUNTERPART:
            return self.say(path, "no counterpart", NO_COUNTERPART[key])
        rule = VALUES.get(key)
        if rule is None:
            return self.say(path, "no counterpart", "neither DS01 nor this product knows it")
        if winner := _overruled(key, layer):
            return self.say(path, "no counterpart", f"{winner} of the same layer sets it")
        try:
            turned = None if value is None else rule.turn(value)
        except ValueError as error:
            return self.say(path, "wrong", str(error))
        into.values[rule.to] = turned
        if key == "policies.keepalive_max_duration_h":
            into.values["idle.keep_alive.per_day"] = turned
        self.say(
            path, "translated" if rule.note else "taken", f"{rule.to}: {_shown(turned)}" + _note(rule.note)
        )

    def swap(self, value: Any, layer: Mapping[str, object], path: KeyPath, into: _Written) -> None:
        try:
            extra = max(0, parse_size(value) - parse_size(layer.get("memory")))
        except ValueError as error:
            return self.say(path, "wrong", f"{error} (memory_swap is memory and swap together)")
        into.values["session.swap"] = f"{extra}b" if extra else 0
        self.say(path, "translated", f"session.swap: {format_size(extra)}, what is above memory")

    # --- people ---------------------------------------------------------------------------------

    def member(self, group: str, name: str) -> None:
        into = self.groups.setdefault(group, _Written())
        into.members = into.members or []
        if name not in into.members:
            into.members.append(name)

    def override(self, name: str, data: Any, at: KeyPath) -> None:
        """An entry of ``user_overrides``."""
        values = dict(_mapping(data))
        user = self.users.setdefault(name, _Written())
        for key in list(values):
            if key == "group":
                self.member(str(values[key]), name)
                self.say((*at, key), "translated", f"{name} becomes a member of group {values[key]}")
            elif key in _META:
                user.values[key] = str(values[key])
                self.say((*at, key), "taken", key)
            elif key in _ENDS:
                self.expires(user, values[key], (*at, key))
            else:
                continue
            values.pop(key)
        self.layer(values, at, user)
        text = "DS01 left the group out for a person with an override; here the group's values stay below it"
        self.say(at, "translated", text)

    def expires(self, user: _Written, value: Any, path: KeyPath) -> None:
        if value is None:
            return self.say(path, "taken", "without end")
        ends = str(value)
        before = str(user.values.get("expires", ""))
        first = user.values["expires"] = min(before, ends) if before else ends
        note = f"; with two ends the earlier one counts, {first}" if before and before != ends else ""
        self.say(path, "translated", f"expires: {ends}, a bare date from 00:00 UTC of that day on{note}")

    def exemption(self, data: Any, at: KeyPath) -> None:
        """An entry of ``lifecycle-exemptions.yaml``."""
        entry = _mapping(data)
        name = str(entry.get("username") or "")
        if not name:
            return self.say(at, "wrong", "an exemption without username")
        user = self.users.setdefault(name, _Written())
        for key, value in entry.items():
            path = (*at, key)
            if key == "exempt_from":
                self.lift(user, value, path)
            elif key == "expires_on":
                self.expires(user, value, path)
            elif key in _META:
                user.values[key] = str(value or "")
                self.say(path, "taken", key)
            elif key != "username":
                self.say(path, "no counterpart", "only kept as a note in DS01")

    def lift(self, user: _Written, value: Any, path: KeyPath) -> None:
        for what in value if isinstance(value, list) else [value]:
            to = EXEMPTIONS.get(str(what))
            if to is None:
                self.say(path, "no counterpart", f"there is nothing here that {what!r} would lift")
            else:
                user.values[to] = None
                self.say(path, "translated", f"{to}: null")


def import_ds01(path: Path) -> Imported:
    """Translate ``path`` and the sidecar files in its folder. `PolicyError` when a file cannot be read."""
    job = _Import()
    data = job.open(path)
    if not isinstance(data, dict):
        raise PolicyError(Problem(path.name, 1, "", "expected DS01's keys, such as defaults and groups"))
    top: dict[str, object] = {"version": 1}
    for key, value in data.items():
        _section(job, key, value, top)
    beside = (path.parent, path.parent / "groups")
    for read in (_members, _moves, _overrides, _exemptions):
        for folder in beside:
            read(job, folder)
    if defaults := job.defaults.document():
        top["defaults"] = defaults
    for section, layers in (("groups", job.groups), ("users", job.users)):
        if layers:
            top[section] = {name: layer.document() for name, layer in layers.items()}
    text = _HEADER.format(path.name) + yaml.safe_dump(top, sort_keys=False, allow_unicode=True, width=100)
    parse_policy(text, Path("policy.yaml"))
    return Imported(text, tuple(job.report))


def _section(job: _Import, key: str, value: Any, top: dict[str, object]) -> None:
    if key == "defaults":
        job.layer(value, (key,), job.defaults)
    elif key == "policies":
        job.layer({"policies": value}, (), job.defaults)
    elif key == "groups":
        for name, group in _mapping(value).items():
            _group(job, name, group)
    elif key in ("user_overrides", "users"):
        for name, user in _mapping(value).items():
            job.override(name, user, (key, name))
    elif key == "default_group":
        if value is not None:
            top[key] = str(value)
            job.groups.setdefault(str(value), _Written())
        job.say((key,), "taken", f"group of everyone who is in no other: {value}")
    elif key in TOP:
        for path in _leaves(value, (key,)):
            job.say(path, "no counterpart", TOP[key])
    else:
        job.say((key,), "no counterpart", "neither DS01 nor this product knows it")


def _group(job: _Import, name: str, data: Any) -> None:
    group = job.groups.setdefault(name, _Written())
    values = dict(_mapping(data))
    for member in values.pop("members", None) or []:
        job.member(name, str(member))
    if "description" in values:
        group.values["description"] = str(values.pop("description"))
        job.say(("groups", name, "description"), "taken", "description")
    job.layer(values, ("groups", name), group)


def _members(job: _Import, folder: Path) -> None:
    for file in sorted(folder.glob("*.members")):
        if file.stem == "archived":
            text = "people who left have no entry here"
            job.report.append(ReportLine(file.name, 0, "", "no counterpart", text))
            continue
        names = [line.split("#", 1)[0].strip() for line in _text(file).splitlines()]
        names = [name for name in names if name]
        for name in names:
            job.member(file.stem, name)
        text = f"{len(names)} members of group {file.stem}"
        job.report.append(ReportLine(file.name, 0, "", "taken", text))


def _moves(job: _Import, folder: Path) -> None:
    """``user:group`` lines: the person belongs to that group and to no other."""
    file = folder / "group-overrides.txt"
    for number, line in enumerate(_text(file).splitlines() if file.is_file() else (), 1):
        name, colon, group = (part.strip() for part in line.split("#", 1)[0].partition(":"))
        if not name:
            continue
        if not colon or not group:
            job.report.append(ReportLine(file.name, number, name, "wrong", "expected user:group"))
            continue
        for other in job.groups.values():
            if other.members and name in other.members:
                other.members.remove(name)
        job.member(group, name)
        text = f"{name} is a member of group {group} and of no other in this file"
        job.report.append(ReportLine(file.name, number, name, "translated", text))


def _overrides(job: _Import, folder: Path) -> None:
    file = folder / "user-overrides.yaml"
    data = _mapping(job.open(file)) if file.is_file() else {}
    at: KeyPath = ("user_overrides",) if "user_overrides" in data else ()
    for name, user in _mapping(data.get("user_overrides") if at else data).items():
        job.override(name, user, (*at, name))


def _exemptions(job: _Import, folder: Path) -> None:
    file = folder / "lifecycle-exemptions.yaml"
    data = job.open(file) if file.is_file() else None
    prefix: KeyPath = ("exemptions",) if isinstance(data, dict) else ()
    entries = data.get("exemptions") if isinstance(data, dict) else data
    for i, entry in enumerate(entries or []):
        job.exemption(entry, (*prefix, i))


def _overruled(key: str, layer: Any) -> str:
    """The key of the same layer that says the same thing by its present name, or empty."""
    if key == "max_tasks":
        return "aggregate.tasks_max" if "tasks_max" in _mapping(_mapping(layer).get("aggregate")) else ""
    target = VALUES[key].to
    same = [k for k in VALUES if VALUES[k].to == target and k != key and not VALUES[k].note]
    return next((k for k in same if VALUES[key].note and k in _mapping(layer)), "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(Problem(path.name, 0, "", f"{path} cannot be read: {error}")) from None


def _mapping(data: Any) -> Mapping[str, Any]:
    return data if isinstance(data, Mapping) else {}


def _leaves(data: Any, at: KeyPath) -> list[KeyPath]:
    if isinstance(data, Mapping) and data:
        return [leaf for key, value in data.items() for leaf in _leaves(value, (*at, key))]
    return [at]


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _note(note: str) -> str:
    return f" ({note})" if note else ""

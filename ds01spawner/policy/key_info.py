"""Every key of the policy with its title, unit and rules, collected from the models. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from . import units
from .model import Section, Sections
from .value_types import Key, Unit


@dataclass(frozen=True)
class KeyInfo:
    """One key: ``session.memory``; a key of many names, such as ``session.ulimits``, stands for all."""

    name: str
    key: Key
    unit: Unit

    def show(self, value: Any) -> str:
        """A value for people, in the units of the file."""
        if value is None:
            return self.key.none
        if isinstance(value, bool):
            return "yes" if value else "no"
        return self.unit.show(value)

    def widens(self, before: Any, after: Any) -> bool | None:
        """Whether ``after`` allows more than ``before``; None where the two cannot be compared."""
        if before == after:
            return False
        if before is None or after is None:
            return after is None
        if self.unit.wider is not None:
            return self.unit.wider(before, after)
        if isinstance(before, tuple) and isinstance(after, tuple):
            return not set(after) <= set(before)
        if isinstance(before, (int, float)) and isinstance(after, (int, float)):
            return (after < before) if self.key.narrows else (after > before)
        return None


@cache
def keys() -> dict[str, KeyInfo]:
    """All keys by name, in the order of the models."""
    return {info.name: info for info in _keys(Sections, "")}


def key_info(name: str) -> KeyInfo:
    """What is known of a key; ``session.ulimits.nofile`` is found under ``session.ulimits``. KeyError."""
    known = keys()
    return known[name] if name in known else known[name.rpartition(".")[0]]


@cache
def askable() -> frozenset[str]:
    """The keys a person may ask for more of."""
    return frozenset(name for name, info in keys().items() if info.key.askable)


@cache
def mended_by(code: str) -> str:
    """The askable key that mends a refusal of this code; empty where no request can."""
    return next((name for name, info in keys().items() if code in info.key.mends), "")


def _keys(model: type[Section], prefix: str) -> Iterator[KeyInfo]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield KeyInfo(f"{prefix}{name}", _key_of(f"{prefix}{name}", field), _unit_of(field))


def _key_of(name: str, field: FieldInfo) -> Key:
    found = next((m for m in field.metadata if isinstance(m, Key)), None)
    if found is None:
        raise TypeError(f"the policy key {name} has no Key in its annotation")
    return found


def _unit_of(field: FieldInfo) -> Unit:
    marks = [*field.metadata, *_marks(field.annotation)]
    return next((m for m in marks if isinstance(m, Unit)), Unit(_show_plain))


def _marks(annotation: Any) -> Iterator[Any]:
    yield from getattr(annotation, "__metadata__", ())
    for part in get_args(annotation):
        yield from _marks(part)


def _show_plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return value if isinstance(value, str) else units.format_number(value)

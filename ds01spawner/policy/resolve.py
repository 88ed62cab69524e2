"""What a person gets: defaults, then their groups, then their own exception, value by value. Pure.

Layers merge key by key, and the last layer that names a key decides it, whichever way it changes the
value. Groups count in the order of the file, so an admin writes the more specific group below the
more general one. Lists are replaced whole, never joined. A layer never touches a key it does not name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict

from ..core.person import Person as Person
from .key_info import key_info
from .load import Layer, Override, Policy, Value, nested
from .model import Aggregate, Gpu, Idle, Images, Queue, Section, Sections, Session, Storage


class SaidJson(TypedDict):
    """A value in words, and who set it."""

    text: str
    source: str


class _LimitJson(SaidJson):
    key: str
    value: object
    """As JSON: sizes in bytes, times in seconds."""


class LimitJson(_LimitJson, total=False):
    """One limit as JSON; what it replaces, first to last, and whether it allows more, where it does."""

    replaces: list[SaidJson]
    widens: bool | None


@dataclass(frozen=True)
class Limits:
    """A person's limits at one moment. Sizes in bytes, times in seconds, None is no limit."""

    person: Person
    gpu: Gpu
    session: Session
    aggregate: Aggregate
    idle: Idle
    queue: Queue
    images: Images
    storage: Storage
    groups: tuple[str, ...] = ()
    """Policy groups that applied, in the order they were merged."""
    until: datetime | None = None
    """When the first of the exceptions in force ends, or None."""
    trail: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    """Per key, what every layer said, first to last; the last one is in force."""

    def source(self, key: str) -> str:
        """Who set ``key`` (such as ``session.memory``), for people."""
        return self.trail[key][-1].source

    def value(self, key: str) -> Any:
        """The value in force of a dotted key."""
        return self.trail[key][-1].value

    def explain(self) -> list[LimitJson]:
        """Every value with its source and what it replaces, as JSON-able rows in the order of the model."""
        return [_row(key, said) for key, said in self.trail.items()]


def merge(*layers: Layer) -> dict[str, Value]:
    """One layer that says what the given ones say together; a later layer wins. Associative."""
    merged: dict[str, Value] = {}
    for layer in layers:
        merged |= layer
    return merged


def groups_of(policy: Policy, person: Person) -> tuple[str, ...]:
    """The policy groups a person is in, in the order of the file."""
    names = tuple(
        g.name
        for g in policy.groups
        if g.name in person.groups or person.name in g.members or (g.hub_admins and person.admin)
    )
    if not names and policy.default_group is not None:
        return (policy.default_group,)
    return names


def resolve(
    policy: Policy, person: Person, now: datetime, extra_overrides: Iterable[Override] = ()
) -> Limits:
    """A person's limits at ``now`` (with zone).

    ``extra_overrides`` are approved requests: they merge after the file's own exception, in the order
    given, and count only for the person they name and until they expire.
    """
    groups = groups_of(policy, person)
    own = policy.users.get(person.name)
    overrides = [
        o
        for o in ((own,) if own else ()) + tuple(extra_overrides)
        if o.user == person.name and o.in_force(now)
    ]
    by_name = {g.name: g.layer for g in policy.groups}
    layers = [policy.builtin, policy.defaults, *(by_name[g] for g in groups), *(o.layer for o in overrides)]
    merged = merge(*layers)
    sections = build_sections({k: v.value for k, v in merged.items()})
    return Limits(
        person=person,
        gpu=sections.gpu,
        session=sections.session,
        aggregate=sections.aggregate,
        idle=sections.idle,
        queue=sections.queue,
        images=sections.images,
        storage=sections.storage,
        groups=groups,
        until=min((o.expires for o in overrides if o.expires), default=None),
        trail={key: tuple(layer[key] for layer in layers if key in layer) for key in merged},
    )


def build_sections(values: Mapping[str, object]) -> Sections:
    """The section models from checked values by dotted key."""
    sections: Sections = _construct(Sections, nested(values))
    return sections


def _construct(model: type[Any], data: Mapping[str, object]) -> Any:
    # The values were checked when the file was read; validating again would parse sizes a second time.
    ready = {}
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            below = data.get(name, {})
            assert isinstance(below, Mapping)
            ready[name] = _construct(kind, below)
        elif name in data:
            ready[name] = data[name]
    return model.model_construct(**ready)


def widens(key: str, before: Any, after: Any) -> bool | None:
    """Whether ``after`` allows more than ``before``; None where the two cannot be compared."""
    return key_info(key).widens(before, after)


def show(key: str, value: Any) -> str:
    """A value for people, in the units of the file."""
    return key_info(key).show(value)


def _row(key: str, said: Sequence[Value]) -> LimitJson:
    last = said[-1]
    row: LimitJson = {
        "key": key,
        "value": list(last.value) if isinstance(last.value, tuple) else last.value,
        "text": show(key, last.value),
        "source": last.source,
    }
    if len(said) > 1:
        row["replaces"] = [{"text": show(key, v.value), "source": v.source} for v in said[:-1]]
        row["widens"] = widens(key, said[-2].value, last.value)
    return row

"""Everything an admission rests on, read once; and the reading of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from .. import messages
from ..core.errors import Refusal, StoreError
from ..placement.devices import Block, Holding, Inventory
from ..placement.strategies import DEFAULT_STRATEGY
from ..policy.options import LaunchOptions
from ..policy.plan import Usage
from ..policy.resolve import Limits, Person
from ..store.rows import CourseRow
from ..workspace.newproject import refusal_of
from .accounts import claim_keys, course_of

if TYPE_CHECKING:
    from ..engines.base import EngineState
    from ..site import Site


def _no_source_is_refused(options: LaunchOptions) -> Refusal | None:
    return None


@dataclass(frozen=True)
class Situation:
    """How things stand for one person at one moment."""

    person: Person
    limits: Limits
    now: datetime
    usage: Usage = field(default_factory=Usage)
    """What the person uses: sessions, GPU-hours, space."""
    inventory: Inventory = field(default_factory=lambda: Inventory("none"))
    holdings: tuple[Holding, ...] = ()
    blocks: Mapping[str, Block] = field(default_factory=dict)
    """What keeps devices from being granted beside their holders: drains, reservations, faults."""
    closed: Refusal | None = None
    """Why nothing starts at all now: a maintenance of the whole site, sessions that are not kept apart."""
    courses: tuple[CourseRow, ...] = ()
    """The store's courses, whose environments lift the blocks of their reservations."""
    source_refusal: Callable[[LaunchOptions], Refusal | None] = _no_source_is_refused
    """Why a new project cannot begin with what the options name; asks the disk only where they name one."""
    strategy: str = DEFAULT_STRATEGY

    def keys(self, environment: str = "") -> frozenset[str]:
        """What lifts blocks for a start of this person in this environment."""
        return claim_keys(self.person, course_of(environment, self.person, self.courses))


def read(site: Site, person: Person, now: datetime, *, placing: bool = True) -> Situation:
    """Read everything once. Blocking; `EngineError` when the engine does not answer.

    ``placing=False`` leaves out what blocks devices, for those who only ask `entitle`.
    """
    state = site.engine.look()
    inventory = state.reading.inventory
    return of(site, person, now, inventory, state, site.obstacles(inventory, now) if placing else None)


def of(
    site: Site,
    person: Person,
    now: datetime,
    inventory: Inventory,
    snapshot: EngineState,
    blocks: Mapping[str, Block] | None = None,
    courses: Iterable[CourseRow] | None = None,
) -> Situation:
    """The situation of a person on a reading of the machine that is there already. Blocking.

    ``blocks`` may be left out where only `entitle` is asked: it places nothing. ``courses`` are the store's,
    where they are read already.
    """
    limits = site.limits(person, now)
    return Situation(
        person=person,
        limits=limits,
        now=now,
        usage=site.usage_of(person, snapshot, now, limits),
        inventory=inventory,
        holdings=snapshot.holdings,
        blocks=blocks or {},
        closed=site.maintenance.refusal(now, limits.idle.lifetime_lead) or not_apart(site),
        courses=courses_of(site) if courses is None else tuple(courses),
        source_refusal=lambda options: source_refusal(site, person.name, options),
        strategy=site.settings.strategy,
    )


def not_apart(site: Site) -> Refusal | None:
    """Why nothing starts while sessions reach each other on their network, as it was last tried."""
    ways = site.engine.exposure()
    return messages.sessions_not_apart(ways) if ways else None


def courses_of(site: Site) -> tuple[CourseRow, ...]:
    """The store's courses; none while the store is down. Blocking."""
    found: Iterable[CourseRow] = ()
    with suppress(StoreError):
        found = site.store().courses.find()
    return tuple(found)


def source_refusal(site: Site, user: str, options: LaunchOptions) -> Refusal | None:
    """Why the source of a new project cannot be had; None too for a project that has files. Blocking."""
    return refusal_of(site, user, options)

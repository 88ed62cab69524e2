"""From what containers and processes name to the devices they hold. Pure.

Every container counts, in any state but removed, ours or not. Unknown means busy:

- a card's name means the card and all its slices;
- an index or count means the cards of that NVML index, whichever slice was meant;
- a slice that no longer exists, named by a container that lives, holds its whole card when the card is
  known (from the name or from earlier readings), else every device: the container keeps the old
  slice's access rights, which may open what was made in its place;
- the same name in a container that does not run holds nothing: the engine refuses to start it;
- a GPU that no longer exists holds nothing else: it is none of the cards that are offered.

Labels only ever add holdings, and only where this installation wrote them. A container that says it is a
session is never exempt, whatever labels an image brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ...core.installation import Installation, Standing
from ...placement.devices import Card, Device, Holding, Inventory
from .answers import ContainerJson
from .device_access import ALL, Evidence, Token, evidence_of

AT_REST = frozenset({"created", "exited", "dead"})
"""States in which a container runs nothing; any other, or an unknown one, counts as alive."""


class Process(Protocol):
    """A compute process as the driver reports it; ``pid`` is the host's."""

    @property
    def pid(self) -> int: ...
    @property
    def uuid(self) -> str: ...


@dataclass(frozen=True)
class ContainerState:
    """One container as the list call shows it, with its evidence. ``name`` has no leading slash."""

    evidence: Evidence
    name: str
    state: str = "running"

    @property
    def alive(self) -> bool:
        """Whether processes may run in it."""
        return self.state not in AT_REST


def holdings_of(
    inspect: ContainerJson,
    inventory: Inventory,
    *,
    exempt: Iterable[str] = (),
    former: Mapping[str, str] | None = None,
    installation: Installation | None = None,
) -> tuple[Holding, ...]:
    """The devices one container holds, from its inspect alone. See `container_holdings`."""
    state = inspect.get("State") or {}
    container = ContainerState(
        evidence_of(inspect, installation),
        str(inspect.get("Name") or "").lstrip("/"),
        str(state.get("Status") or "") if isinstance(state, Mapping) else str(state),
    )
    return container_holdings(container, Resolver(inventory, former), exempt=exempt)


def container_holdings(
    container: ContainerState, resolver: Resolver, *, exempt: Iterable[str] = ()
) -> tuple[Holding, ...]:
    """The devices one container holds, one `Holding` each, in the inventory's order."""
    evidence = container.evidence
    if not evidence.tokens or is_exempt(container, exempt):
        return ()
    uuids: set[str] = set()
    for token in evidence.tokens:
        uuids |= resolver.resolve(token, container.alive)
    session = evidence.session
    return tuple(
        Holding(
            uuid=uuid,
            holder=_holder(container),
            kind="session" if session else "foreign",
            user=session.user if session else "",
            server=session.server if session else "",
            session=session.session if session else "",
            container=evidence.container,
            since=(session.created_at if session else "") or evidence.created,
            until=session.expires_at if session else "",
        )
        for uuid in resolver.ordered(uuids)
    )


def _holder(container: ContainerState) -> str:
    evidence = container.evidence
    if evidence.session:
        return evidence.session.address
    # Its name would tell the name of another hub's user.
    if evidence.standing is Standing.FOREIGN:
        return "a session of another hub"
    return f"container {container.name or evidence.container[:12]}"


def is_exempt(container: ContainerState, exempt: Iterable[str]) -> bool:
    """Whether the container is named infrastructure, by name or ``label=value``; never a session."""
    if container.evidence.claim is not None:
        return False
    labels = container.evidence.labels
    for entry in exempt:
        key, equals, value = entry.partition("=")
        if (equals and labels.get(key) == value) or (not equals and key and container.name == key):
            return True
    return False


def process_holdings(
    processes: Iterable[Process],
    holdings: Iterable[Holding],
    inventory: Inventory,
    container_of: Callable[[Process], str],
    exempt_containers: frozenset[str] = frozenset(),
) -> tuple[Holding, ...]:
    """Holdings of compute processes that no container's claim explains.

    ``container_of`` answers the id of the container a process runs in, or an empty string when it runs
    in none or that cannot be told. A process is explained when its container holds the device (or its
    card, or one of its slices) or is exempt; any other one holds what it runs on. Outside the host's PID
    namespace the driver tells no PID (0): such a process is taken for the holder's while there is one.
    """
    resolver = Resolver(inventory)
    claimed: dict[str, set[str]] = {}
    for holding in holdings:
        claimed.setdefault(holding.container, set()).add(holding.uuid)
    anybody = frozenset(u for uuids in claimed.values() for u in uuids)
    found: dict[tuple[str, int], Holding] = {}
    for process in processes:
        where = container_of(process)
        on = resolver.resolve(("uuid", process.uuid), True)
        if where and (where in exempt_containers or on & claimed.get(where, set())):
            continue
        if process.pid <= 0 and on & anybody:
            continue
        for uuid in resolver.ordered(on):
            found[uuid, process.pid] = Holding(uuid, f"process {process.pid}", "process", container=where)
    return tuple(found.values())


class Resolver:
    """What the tokens of containers stand for in one inventory.

    ``former`` maps UUIDs of slices that are gone to the card they were on.
    """

    def __init__(self, inventory: Inventory, former: Mapping[str, str] | None = None) -> None:
        self._former = {k.lower(): v for k, v in (former or {}).items()}
        self._cards = inventory.cards or _implied_cards(inventory.devices)
        self._on: dict[str, set[str]] = {c.uuid: set() for c in self._cards}
        for device in inventory.devices:
            self._on.setdefault(device.card, set()).add(device.uuid)
        for card, devices in self._on.items():
            if not devices:
                devices.add(card)
        self._card_of = {d.uuid: d.card for d in inventory.devices}
        self._known = {u.lower(): u for u in (*self._card_of, *self._on)}
        listed = dict.fromkeys((*self._card_of, *self._on))
        self._position = {uuid: n for n, uuid in enumerate(listed)}
        self._everything = frozenset(u for devices in self._on.values() for u in devices)

    def ordered(self, uuids: Iterable[str]) -> list[str]:
        """``uuids`` in the order of the inventory."""
        return sorted(uuids, key=lambda u: self._position.get(u, len(self._position)))

    def resolve(self, token: Token, alive: bool) -> frozenset[str]:
        """UUIDs of the devices the token stands for; ``alive`` says whether its container may run."""
        kind, value = token
        if token == ALL:
            return self._everything
        if kind in ("uuid", "label"):
            return self._by_uuid(value, alive, label=kind == "label")
        number = int(value)
        if kind == "count":
            return self._all_on(c.uuid for c in self._cards if c.index < number)
        if kind == "index":
            cards = [c.uuid for c in self._cards if c.index == number]
        else:
            cards = [c.uuid for c in self._cards if c.minor == number]
            if not cards and any(c.minor is None for c in self._cards):
                return self._everything
        return self._all_on(cards) or self._unknown(alive)

    def _by_uuid(self, name: str, alive: bool, label: bool) -> frozenset[str]:
        low = name.lower()
        if low in self._known:
            return self._device(self._known[low])
        if low in self._former:
            return self._all_on([self._former[low]]) if alive else frozenset()
        if label:
            return frozenset()
        # NVIDIA's tools accept the beginning of a UUID.
        matches = [uuid for known, uuid in self._known.items() if known.startswith(low)]
        if matches:
            return frozenset(u for m in matches for u in self._device(m))
        if low.startswith("mig-gpu-"):
            card = self._known.get(low[len("mig-") :].split("/")[0])
            return self._device(card) if card and alive else frozenset()
        return frozenset() if low.startswith("gpu-") else self._unknown(alive)

    def _device(self, uuid: str) -> frozenset[str]:
        """The device itself; for a card, everything on it (itself where it is the device)."""
        return frozenset(self._on[uuid]) if uuid in self._on else frozenset((uuid,))

    def _all_on(self, cards: Iterable[str]) -> frozenset[str]:
        return frozenset(u for card in cards for u in self._on.get(card, ()))

    def _unknown(self, alive: bool) -> frozenset[str]:
        return self._everything if alive else frozenset()


def _implied_cards(devices: Iterable[Device]) -> tuple[Card, ...]:
    """Cards of an inventory that lists none, in the order of its devices."""
    uuids = dict.fromkeys(d.card for d in devices)
    return tuple(Card(uuid, uuid, 0, index=n) for n, uuid in enumerate(uuids))

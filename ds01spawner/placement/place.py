"""Which devices a request gets, or why none and when that could change. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from .. import messages
from ..core.errors import Refusal
from ..core.text import size
from .devices import WHOLE_GPU_SLICES, Block, Device, GpuRequest, Holding, Inventory, Placement
from .standing import Standing, standings, used_by_card
from .strategies import DEFAULT_STRATEGY, Key, strategy_named

_BLOCK_WORDS = {"lost": "lost", "unready": "not ready", "drained": "drained", "reserved": "reserved"}


def place(
    request: GpuRequest,
    inventory: Inventory,
    holdings: Iterable[Holding],
    blocks: Mapping[str, Block] | None = None,
    *,
    strategy: str = DEFAULT_STRATEGY,
    keys: frozenset[str] = frozenset(),
) -> Placement:
    """Choose devices for ``request``, or say why not.

    A profile is satisfied by exactly that profile; ``"auto"`` by the smallest sufficient one the policy
    and the quota allow. All devices of one request have the same profile and none excludes another.
    ``keys`` (``user:alice``, ``group:nlp``, ``ticket:…``) lift the blocks that exempt one of them.
    """
    if not request.wants_gpu:
        return Placement()
    key = strategy_named(strategy)
    if inventory.state != "ok" or inventory.mode == "none":
        why = inventory.reason or "this machine has no GPU that can be used"
        return Placement(refused=why, code="unavailable")
    everything = standings(inventory, holdings, blocks, keys)
    wanted, refusal = _eligible(request, everything)
    if refusal is not None:
        return refusal
    chosen = _choose(request.count, wanted, used_by_card(everything), key)
    return Placement(devices=chosen) if chosen else _refuse(request, wanted)


def describe(request: GpuRequest) -> str:
    """The request in words, for sentences: ``2 × 1g.10gb``, ``any GPU``."""
    what = {"auto": "GPU of any kind", "full": "whole GPU"}.get(request.profile, request.profile)
    if request.profile == "auto" and request.min_memory_mib:
        what = f"GPU of at least {size(request.min_memory_mib * 2**20)}"
    return f"{request.count} × {what}"


def refusal(request: GpuRequest, placement: Placement) -> Refusal:
    """A refused placement as the `Refusal` shown by page, REST and CLI. Only for ``not placement.ok``."""
    return messages.nothing_free(describe(request), placement.refused, placement.when, placement.code)


def sevenths(equivalents: float) -> int:
    """Whole sevenths of a GPU in a quota. A quota written with two digits means the seventh it was rounded
    from: 0.14, 0.43 and 3/7 are one, three and three."""
    return int(equivalents * WHOLE_GPU_SLICES + 0.04)


def _eligible(request: GpuRequest, everything: Sequence[Standing]) -> tuple[list[Standing], Placement | None]:
    """The devices of the wanted kind, busy or not, or the refusal that no waiting could mend."""
    wanted = [s for s in everything if request.profile in ("auto", s.device.profile)]
    wanted = [s for s in wanted if s.device.memory_mib >= request.min_memory_mib]
    if not wanted:
        return [], Placement(refused=_no_such(everything), code="no-such-profile")
    if not request.full_gpu:
        wanted = [s for s in wanted if s.device.profile != "full"]
        if not wanted:
            return [], Placement(refused="the policy does not allow whole GPUs here", code="not-allowed")
    if request.allowed is not None:
        profiles = sorted({s.device.profile for s in wanted} - request.allowed)
        wanted = [s for s in wanted if s.device.profile in request.allowed]
        if not wanted:
            allowed = _list(sorted(request.allowed)) or "none"
            text = f"the policy does not allow {_list(profiles)} here; allowed: {allowed}"
            return [], Placement(refused=text, code="not-allowed")
    if request.max_equivalents is not None:
        limit = sevenths(request.max_equivalents)
        smallest = min(s.device.compute_slices for s in wanted) * request.count
        wanted = [s for s in wanted if s.device.compute_slices * request.count <= limit]
        if not wanted:
            text = (
                f"it counts as {smallest / WHOLE_GPU_SLICES:.2f} GPU-equivalents and "
                f"{max(0, limit) / WHOLE_GPU_SLICES:.2f} of the quota are left"
            )
            return [], Placement(refused=text, code="over-limit")
    most = Counter(s.device.profile for s in wanted).most_common(1)[0][1]
    if most < request.count:
        return [], Placement(refused=f"this machine has only {most} of them", code="no-such-profile")
    return wanted, None


def _choose(count: int, wanted: Sequence[Standing], used: Mapping[str, int], key: Key) -> tuple[Device, ...]:
    """``count`` free devices of one profile, one after the other in the order of the strategy.

    The first device decides the profile; where too few of it are free, the next one in order does.
    """
    free = [s for s in wanted if s.free]
    enough = {p for p, n in Counter(s.device.profile for s in free).items() if n >= count}
    free = [s for s in free if s.device.profile in enough]
    use = dict(used)
    chosen: list[Device] = []
    while free and len(chosen) < count:
        best = min(free, key=lambda s: key(s.device, use.get(s.device.card, 0), s.position)).device
        chosen.append(best)
        use[best.card] = use.get(best.card, 0) + best.compute_slices
        free = [s for s in free if s.device.profile == best.profile and not s.device.excludes(best)]
    return tuple(chosen) if len(chosen) == count else ()


def _refuse(request: GpuRequest, wanted: Sequence[Standing]) -> Placement:
    """Why none of the wanted devices can be had now: how many there are, what keeps each, until when."""
    reasons = Counter(_hindrance(s) for s in wanted)
    free = reasons.pop("free", 0)
    parts = [f"{n} {text}" for text, n in reasons.most_common()]
    have = "1 is free" if free == 1 else f"{free} are free" if free else "none is free"
    text = f"of {len(wanted)} such devices {have}: {', '.join(parts)}"
    usable = Counter(s.device.profile for s in wanted if s.block is None)
    full = any(n >= request.count for n in usable.values())
    return Placement(refused=text, code="full" if full else "unavailable", when=_when(wanted))


def _hindrance(standing: Standing) -> str:
    """What keeps one device from being granted, without anybody's name."""
    if standing.block is not None:
        word = _BLOCK_WORDS.get(standing.block.state, standing.block.state)
        return f"{word} ({standing.block.reason})" if standing.block.reason else word
    kinds = {h.kind for h in standing.holdings}
    if not kinds:
        return "free"
    return "in use by sessions" if kinds == {"session"} else "in use by something this service did not start"


def _when(wanted: Sequence[Standing]) -> str:
    """The earliest known time one of the devices could become free, as a clause; empty when unknown."""
    times = [s.block.until for s in wanted if s.block is not None and s.block.until and not s.holdings]
    times += [
        max(h.until for h in s.holdings)
        for s in wanted
        if s.block is None and s.holdings and all(h.until for h in s.holdings)
    ]
    if times:
        return f"the first of them is due to become free at {min(times)}"
    if any(s.block is None and {h.kind for h in s.holdings} == {"session"} for s in wanted):
        return "one becomes free as soon as a session that holds it is retired"
    return ""


def _no_such(everything: Sequence[Standing]) -> str:
    profiles = list(dict.fromkeys(s.device.profile for s in everything))
    return f"this machine has no such device; it has {_list(profiles) or 'none at all'}"


def _list(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + " and " + words[-1] if len(words) > 1 else "".join(words)

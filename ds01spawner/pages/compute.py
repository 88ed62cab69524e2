"""The compute part of the launch page: what there is, what it costs, and why not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core import text
from ..core.errors import Refusal
from ..placement.devices import DeviceStatus
from ..policy.options import LaunchOptions
from .inputs import QueueHint
from .launch_inputs import LaunchInputs

QUEUEABLE = frozenset({"gpus-full", "gpus-unavailable"})
"""Refusal codes that time can cure: the queue is offered for them."""


@dataclass(frozen=True)
class ComputeChoice:
    """A compute radio. Exactly one of allowed, queueable or refused-for-good."""

    value: str
    element_id: str
    label: str
    memory: str
    availability: str
    cost: str
    allowed: bool
    queueable: bool
    reason: str
    ask_url: str
    """Where to ask for it; empty where that does not help."""
    when: str
    queue: str
    checked: bool


@dataclass(frozen=True)
class _Offer:
    value: str
    label: str
    memory: str
    equivalents: float
    free: int = 0
    total: int = 0


def _offers(statuses: Sequence[DeviceStatus]) -> list[_Offer]:
    """One offer a profile, the smallest first, CPU before all."""
    groups: dict[str, list[DeviceStatus]] = {}
    for status in statuses:
        if status.profile != "mig":  # a card set up for slices that has none
            groups.setdefault(status.profile, []).append(status)
    offers = [
        _Offer(
            value=profile,
            label="Whole GPU" if profile == "full" else profile,
            memory=text.memory(min(d.memory_mib for d in devices)),
            equivalents=devices[0].equivalents,
            free=sum(d.state == "free" for d in devices),
            total=len(devices),
        )
        for profile, devices in groups.items()
    ]
    offers.sort(key=lambda o: (o.equivalents, o.memory.zfill(10), o.value))
    return [_Offer("none", "CPU only", "", 0.0), *offers]


def free_text(free: int, total: int) -> str:
    """How many devices of a kind are free, as it stands beside a choice."""
    return f"{free} of {total} free"


def live_counts(statuses: Sequence[DeviceStatus]) -> tuple[tuple[str, str], ...]:
    """(element id, text) of every choice's availability, for the live fragment."""
    return tuple((element_id(o.value), free_text(o.free, o.total)) for o in _offers(statuses) if o.total)


def element_id(value: str) -> str:
    """The HTML id of a compute choice's availability."""
    return "ds01-free-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in value)


def compute_choices(inputs: LaunchInputs, start: LaunchOptions) -> tuple[ComputeChoice, ...]:
    """The radios, each put to the function that answers at the start; one of them is checked."""
    limit = next((q.limit for q in inputs.quotas if q.unit == "GPU"), None)
    choices = [_compute_choice(o, inputs, start, limit) for o in _offers(inputs.statuses)]
    wanted = _wanted_gpu(inputs, start, choices)
    return tuple(replace(c, checked=c.value == wanted) for c in choices)


def _compute_choice(
    offer: _Offer, inputs: LaunchInputs, start: LaunchOptions, limit: float | None
) -> ComputeChoice:
    count = start.gpu_count if offer.value == start.gpu else 1
    refusal = inputs.refuse(start.model_copy(update={"gpu": offer.value, "gpu_count": count, "wait": False}))
    queueable = bool(refusal) and refusal.code in QUEUEABLE and inputs.can_wait if refusal else False
    hint = inputs.queue.get(offer.value)
    of = f" of {text.amount(limit)}" if limit is not None else ""
    return ComputeChoice(
        value=offer.value,
        element_id=element_id(offer.value),
        label=offer.label,
        memory=offer.memory,
        availability=free_text(offer.free, offer.total) if offer.total else "always available",
        cost=f"costs {text.amount(offer.equivalents)}{of} GPU" if offer.equivalents else "costs no GPU quota",
        allowed=refusal is None,
        queueable=queueable,
        reason=reason_of(refusal),
        ask_url=inputs.ask(refusal) if refusal else "",
        when=text.readable(refusal.when) if refusal else "",
        queue=_queue_text(hint) if queueable else "",
        checked=False,
    )


def reason_of(refusal: Refusal | None) -> str:
    """The part of a refusal that fits beside an option: the limit, whose it is, and the use so far."""
    if refusal is None:
        return ""
    limit = refusal.limit + (f" ({refusal.rule})" if refusal.rule else "")
    return text.readable("; ".join(p for p in (limit, refusal.used) if p))


def _queue_text(hint: QueueHint | None) -> str:
    if hint is None:
        return "you can wait for it in the queue"
    before = "you would be next" if hint.ahead == 0 else f"{text.plural(hint.ahead, 'person')} before you"
    before = before.replace("persons", "people")
    return f"queue: {before}" + (f", {hint.estimate}" if hint.estimate else "")


def _wanted_gpu(inputs: LaunchInputs, start: LaunchOptions, choices: Sequence[ComputeChoice]) -> str:
    """What to pre-select: a choice just made stays; a remembered one only if it could start."""
    by_value = {c.value: c for c in choices}
    if inputs.chosen and start.gpu in by_value:
        return start.gpu
    remembered = by_value.get(start.gpu) if inputs.last else None
    if remembered and (remembered.allowed or remembered.queueable):
        return remembered.value
    gpu = next((c.value for c in choices if c.value != "none" and c.allowed), "none")
    return gpu if start.gpu != "none" or inputs.last is None else "none"

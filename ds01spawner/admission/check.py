"""The one answer to "may this start?": a plan with the devices it would get, or a refusal. Pure.

The rules are asked in one order: what closes the site, what a new project may begin with, the person's
policy and present use, then the devices. Whoever asks about the same situation gets the same sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import Refusal
from ..placement.devices import Device, Placement
from ..placement.place import place, refusal
from ..policy.options import LaunchOptions
from ..policy.plan import LaunchPlan, plan
from .situation import Situation


@dataclass(frozen=True)
class Admission:
    """Yes: what to launch, and on which devices it would run if it were claimed at this moment.

    The devices are a choice, not a promise: the claim chooses again under its lock.
    """

    plan: LaunchPlan
    devices: tuple[Device, ...] = ()


def entitle(situation: Situation, options: LaunchOptions, server: str = "") -> LaunchPlan | Refusal:
    """What the person is entitled to whatever devices are free: everything but the placement.

    For those who place for several at once (the queue), or under a lock of their own (the claim).
    ``options`` are validated but not trusted; ``server`` is the name of the server that would start.
    """
    if situation.closed is not None:
        return situation.closed
    source = situation.source_refusal(options)
    if source is not None:
        return source
    return plan(situation.person, situation.limits, options, situation.usage, situation.now, server=server)


def check(situation: Situation, options: LaunchOptions, server: str = "") -> Admission | Refusal:
    """Whether these options start now, and on what; else the first rule that stands against it."""
    entitled = entitle(situation, options, server)
    if isinstance(entitled, Refusal):
        return entitled
    placed = choose(situation, entitled, options.environment)
    return placed if isinstance(placed, Refusal) else Admission(entitled, placed.devices)


def choose(situation: Situation, ready: LaunchPlan, environment: str) -> Placement | Refusal:
    """The devices for a plan, or why there are none now."""
    placed = place(
        ready.gpu,
        situation.inventory,
        situation.holdings,
        situation.blocks,
        strategy=situation.strategy,
        keys=situation.keys(environment),
    )
    return placed if placed.ok else refusal(ready.gpu, placed)

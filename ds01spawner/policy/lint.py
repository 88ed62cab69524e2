"""What is allowed in a policy file and still looks like a mistake. Pure; for ``ds01 check``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ..core.text import stamp
from .load import Policy
from .resolve import Limits, Person, build_sections, merge


def lint(policy: Policy, now: datetime) -> tuple[str, ...]:
    """Warnings about a policy that was read without fault, as sentences; none is the good answer."""
    found = list(_members(policy))
    found += [
        f"the exception of {name} ended {stamp(user.expires)} and has no effect: delete it"
        for name, user in policy.users.items()
        if user.expires and not user.in_force(now)
    ]
    found += [
        f"the exception of {name} has no end: give it a date in expires"
        for name, user in policy.users.items()
        if user.expires is None and user.layer
    ]
    for who, layer in (
        ("defaults", {}),
        *((f"group {g.name}", g.layer) for g in policy.groups),
        *((f"user {name}", user.layer) for name, user in policy.users.items() if user.in_force(now)),
    ):
        merged = merge(policy.builtin, policy.defaults, layer)
        if who == "defaults" or layer:
            sections = build_sections({k: v.value for k, v in merged.items()})
            fields = {k: getattr(sections, k) for k in type(sections).model_fields}
            found += [f"{who}: {text}" for text in _layer(Limits(Person(""), **fields))]
    return tuple(dict.fromkeys(found))


def _members(policy: Policy) -> Iterator[str]:
    seen: dict[str, str] = {}
    for group in policy.groups:
        for name in sorted(group.members):
            if name in seen:
                yield (
                    f"{name} is a member of group {seen[name]} and of group {group.name}: "
                    f"where both set a value, {group.name} wins"
                )
            seen[name] = group.name


def _layer(limits: Limits) -> Iterator[str]:
    session, idle, total, gpu = limits.session, limits.idle, limits.aggregate, limits.gpu
    if idle.timeout is not None and idle.warn_lead >= idle.timeout:
        yield "idle.warn_lead is not shorter than idle.timeout: every idle session is warned at once"
    if session.memory is not None and session.shm > session.memory:
        yield "session.shm is larger than session.memory: it is cut down to it"
    if session.memory is None:
        yield "session.memory is unlimited: one session can bring the machine down"
    if session.pids is None:
        yield "session.pids is unlimited: one fork bomb can bring the machine down"
    if total.memory is not None and session.memory is not None and session.memory > total.memory:
        yield "session.memory is above aggregate.memory: sessions get no more than the latter"
    if total.memory_high is not None and total.memory is not None and total.memory_high >= total.memory:
        yield "aggregate.memory_high is not below aggregate.memory: it never slows anything down"
    if (
        total.gpu_equivalents is not None
        and gpu.max_equivalents is not None
        and gpu.max_equivalents > total.gpu_equivalents
    ):
        yield "gpu.max_equivalents is above aggregate.gpu_equivalents: the latter is what counts"
    if gpu.profiles == () and not gpu.full_gpu and gpu.max_equivalents != 0:
        yield "no GPU can be chosen, though gpu.max_equivalents is above 0"

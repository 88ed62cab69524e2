"""The one decision about a session: active, idle, warned or retire, with its reason. Pure.

The page's clock, ``ds01 idle``, the arbiter and the service all call `decide`.

What holds whatever the signals are:

- a session is retired only in a later pass than its warning, and only when the warning could be seen
  for its whole lead time;
- idle time counts only while every sensor answered, and only between two looks at most ``max_gap``
  apart: a gap, a restart or a failed sensor gives time and never takes any;
- after a gap longer than ``max_gap`` every warning is void and has to be given afresh;
- scarcity may shorten the timeout, never the lead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from . import sentences
from .grounds import is_active, is_unknown, last_used, observed_since, weigh
from .model import Cause, Decision, Ground, IdleRules, Memory, Pressure, Session, Signals, Warned

FIRST_WINDOW = 60.0
"""Seconds: how recent a use must be to count at the first look after a start, restart or gap."""


@dataclass(frozen=True)
class _Due:
    """An end in sight: when, why, how long before it the owner is warned."""

    cause: Cause
    at: datetime
    lead: float


@dataclass(frozen=True)
class _Scene:
    """What one look established, before the ends in sight are considered."""

    now: datetime
    session: Session
    rules: IdleRules
    grounds: tuple[Ground, ...]
    verdict: str
    idle_seconds: float
    limit: float | None
    pressed: bool


def decide(
    now: datetime,
    session: Session,
    signals: Signals,
    rules: IdleRules,
    memory: Memory | None = None,
    pressure: Pressure | None = None,
) -> Decision:
    """Decide about one session at ``now`` (UTC). ``memory`` is the last decision's, None at first.

    Memory of another session (same user, earlier start) is not used.
    """
    if memory is None or memory.session != session.id:
        memory = Memory(session.id)
    gap = _gap(now, memory, rules)
    memory = replace(memory, warnings=()) if gap is None and memory.seen_at else memory
    since = observed_since(now, memory.seen_at, rules.max_gap, FIRST_WINDOW)
    grounds = weigh(now, since, signals, rules)
    verdict = _verdict(now, session, grounds, rules)
    memory = _remember(now, memory, verdict, rules)
    idle_seconds = _idle_seconds(now, verdict, memory, gap, last_used(now, signals))
    limit, pressed = _limit(session, rules, pressure)
    memory = replace(memory, seen_at=now, idle_seconds=idle_seconds)
    scene = _Scene(now, session, rules, grounds, verdict, idle_seconds, limit, pressed)
    return _conclude(scene, memory)


def mark_visible(memory: Memory, at: datetime) -> Memory:
    """Memory in which every warning not yet visible is so since ``at``: its lead time begins."""
    return replace(
        memory, warnings=tuple(w if w.visible_at else replace(w, visible_at=at) for w in memory.warnings)
    )


def _gap(now: datetime, memory: Memory, rules: IdleRules) -> float | None:
    """Seconds since the last look; None when there was none, or it is too long ago to count."""
    if memory.seen_at is None:
        return None
    seconds = (now - memory.seen_at).total_seconds()
    return seconds if 0 <= seconds <= rules.max_gap else None


def _verdict(now: datetime, session: Session, grounds: tuple[Ground, ...], rules: IdleRules) -> str:
    if is_active(grounds):
        return "active"
    if now < _grace_end(session, rules, now):
        return "grace"
    return "unknown" if is_unknown(grounds) else "idle"


def _grace_end(session: Session, rules: IdleRules, now: datetime) -> datetime:
    if session.started_at is None:
        return now
    return session.started_at + timedelta(seconds=rules.start_grace)


def _remember(now: datetime, memory: Memory, verdict: str, rules: IdleRules) -> Memory:
    """Follow how long sensors have been failing; void the idle warning when that is too long."""
    if verdict != "unknown":
        return replace(memory, unknown_since=None)
    since = memory.unknown_since or memory.seen_at or now
    if (now - since).total_seconds() > rules.max_gap:
        memory = replace(memory, warnings=tuple(w for w in memory.warnings if w.cause != "idle"))
    return replace(memory, unknown_since=since)


def _idle_seconds(
    now: datetime, verdict: str, memory: Memory, gap: float | None, used_at: datetime | None
) -> float:
    if verdict in ("active", "grace"):
        return 0.0
    seconds = memory.idle_seconds
    if verdict == "idle":
        seconds += gap or 0.0
    if used_at is not None:  # told late, such as an activity the server reports every few minutes
        seconds = min(seconds, (now - used_at).total_seconds())
    return max(0.0, seconds)


def _limit(session: Session, rules: IdleRules, pressure: Pressure | None) -> tuple[float | None, bool]:
    rule = rules.pressure
    if rules.timeout is None or rule is None or pressure is None or not session.holds_gpu:
        return rules.timeout, False
    if pressure.share < rule.share or pressure.waiting < rule.waiting:
        return rules.timeout, False
    short = max(rules.timeout * rule.factor, rule.floor)
    return (short, True) if short < rules.timeout else (rules.timeout, False)


def _dues(scene: _Scene) -> list[_Due]:
    """The ends in sight, earliest first."""
    session, rules, now = scene.session, scene.rules, scene.now
    dues = []
    if scene.verdict == "idle" and scene.limit is not None:
        at = now + timedelta(seconds=scene.limit - scene.idle_seconds)
        if session.extension_until is not None:
            at = max(at, session.extension_until)
        dues.append(_Due("idle", at, rules.warn_lead))
    if session.lifetime_end is not None:
        dues.append(_Due("lifetime", session.lifetime_end, rules.lifetime_lead))
    if session.deadline is not None:
        dues.append(_Due("deadline", session.deadline.at, rules.lifetime_lead))
    return sorted(dues, key=lambda d: d.at)


@dataclass(frozen=True)
class _Step:
    """What one end in sight asks for now."""

    due: _Due
    state: str
    at: datetime
    warning: Warned | None
    new: bool = False


def _step(now: datetime, due: _Due, warning: Warned | None) -> _Step:
    lead = timedelta(seconds=due.lead)
    if now < due.at - lead:
        return _Step(due, "wait", due.at, None)  # a standing warning is withdrawn: the end moved away
    if warning is None:
        return _Step(due, "warned", max(due.at, now + lead), Warned(due.cause, now), new=True)
    if warning.visible_at is None:
        return _Step(due, "warned", max(due.at, now + lead), warning, new=True)
    at = max(due.at, warning.visible_at + lead)
    # Never in the pass that gave the warning, however short the lead is.
    ready = now >= at and now > warning.visible_at and now > warning.at
    return _Step(due, "retire" if ready else "warned", at, warning)


def _conclude(scene: _Scene, memory: Memory) -> Decision:
    steps = [_step(scene.now, due, memory.warning(due.cause)) for due in _dues(scene)]
    steps.sort(key=lambda s: s.at)
    standing = tuple(s.warning for s in steps if s.warning is not None)
    if scene.verdict == "unknown":  # no idle end in sight, but the warning was given and stands
        standing += tuple(w for w in memory.warnings if w.cause == "idle")
    memory = replace(memory, warnings=standing)
    for state in ("retire", "warned"):
        for step in steps:
            if step.state == state:
                return _ending(scene, memory, step, any(s.new for s in steps))
    return _running(scene, memory, steps[0] if steps else None)


def _ending(scene: _Scene, memory: Memory, step: _Step, new: bool) -> Decision:
    """A warning, or the end."""
    cause, deadline = step.due.cause, scene.session.deadline
    retire = step.state == "retire"
    common = (scene.limit, scene.rules, scene.pressed, deadline)
    if retire and step.warning is not None and step.warning.visible_at is not None:
        seen = step.warning.visible_at
        reason = sentences.retired(
            cause, scene.idle_seconds, scene.grounds, scene.now, seen, step.due.at, *common
        )
    else:
        reason = sentences.warned(cause, scene.idle_seconds, scene.grounds, scene.now, step.at, *common)
    return Decision(
        state="retire" if retire else "warned",
        reason=reason,
        memory=memory,
        why=scene.grounds,
        cause=cause,
        retire_at=step.at,
        warn=new and not retire,
        idle_seconds=scene.idle_seconds,
        limit=scene.limit,
        pressed=scene.pressed,
    )


def _running(scene: _Scene, memory: Memory, step: _Step | None) -> Decision:
    """No end near enough for a warning."""
    return Decision(
        state="idle" if scene.verdict == "idle" else "active",
        reason=_running_reason(scene, step),
        memory=memory,
        why=scene.grounds,
        cause=step.due.cause if step else None,
        retire_at=step.at if step else None,
        idle_seconds=scene.idle_seconds,
        limit=scene.limit,
        pressed=scene.pressed,
    )


def _running_reason(scene: _Scene, step: _Step | None) -> str:
    now, rules, grounds = scene.now, scene.rules, scene.grounds
    if scene.verdict == "active":
        return sentences.in_use(grounds)
    if scene.verdict == "grace":
        return sentences.started(now, _grace_end(scene.session, rules, now), rules)
    if scene.verdict == "unknown":
        return sentences.unmeasured(grounds)
    at = step.at if step and step.due.cause == "idle" else None
    if at is None and scene.limit is not None:
        at = next(d.at for d in _dues(scene) if d.cause == "idle")
    return sentences.idle(
        scene.idle_seconds, grounds, now, at, scene.limit, rules, scene.pressed, scene.session.extension_until
    )

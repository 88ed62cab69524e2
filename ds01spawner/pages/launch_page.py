"""The launch page as a view model: what is shown, chosen, greyed out and why. Pure.

Whether a choice can be made is never decided here: every option is put to ``refuse``, the same
function that answers at the start, and its refusal is the text beside the option.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from ..core import text
from ..policy.options import PROJECT_HELP, PROJECT_PATTERN, LaunchOptions
from .compute import ComputeChoice, compute_choices, reason_of
from .inputs import Banner, EnvironmentInfo, EnvironmentKind, Quota, Rules
from .launch_inputs import LaunchInputs
from .project_choice import NewProject, ProjectChoice, new_project, project_choices
from .strip import Strip, build_strip

ABOUT_ENVIRONMENT = ("environment", "image", "no-environment")
"""Beginnings of the codes of refusals that concern the environment."""

KIND_TITLES: Mapping[EnvironmentKind, str] = {
    "course": "Course",
    "mine": "Mine",
    "shared": "Shared with me",
    "lab": "Lab",
}

_LIFETIMES = tuple(3600 * hours for hours in (1, 2, 4, 8, 12, 24, 48, 72, 168, 336))


@dataclass(frozen=True)
class QuotaLine:
    """One quota as text, with a share for its bar (None where there is no limit)."""

    label: str
    value: str
    source: str
    percent: int | None
    full: bool


@dataclass(frozen=True)
class EnvironmentChoice:
    """An environment card."""

    id: str
    kind: EnvironmentKind
    title: str
    description: str
    facts: tuple[str, ...]
    preflight: str
    warnings: tuple[str, ...]
    allowed: bool
    reason: str
    ask_url: str
    """Where to ask for it; empty where that does not help."""
    checked: bool


@dataclass(frozen=True)
class Again:
    """The one-click start from the last choice. ``value`` is what its button submits."""

    summary: str
    value: str
    allowed: bool
    reason: str = ""
    ask_url: str = ""


@dataclass(frozen=True)
class LaunchView:
    """Everything the form template shows."""

    person: str
    strip: Strip
    quotas: tuple[QuotaLine, ...]
    projects: tuple[ProjectChoice, ...]
    new: NewProject
    environments: Mapping[str, tuple[EnvironmentChoice, ...]]
    """Choices by the title of their group, groups in display order."""
    compute: tuple[ComputeChoice, ...]
    max_gpu_count: int
    gpu_count: int
    lifetimes: tuple[tuple[int, str, bool], ...]
    """(seconds, text, selected)"""
    wait: bool
    can_wait: bool
    rules: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    again: Again | None
    banners: tuple[Banner, ...]
    refusal: str
    """Why the chosen combination was refused just now, or would be; empty when it would start."""
    refusal_ask: str
    """Where to ask for more after that refusal; empty where it does not help."""
    free_by_now: bool
    """What was refused just now would start by now."""
    share_url: str
    fragment_url: str
    fragment_key: str
    static_url: str
    service_url: str
    can_create: bool = True
    project_pattern: str = PROJECT_PATTERN.replace("_-]", r"_\-]")
    """Browsers read patterns with the ``v`` flag, where a dash in a class must be escaped."""
    project_help: str = PROJECT_HELP

    @property
    def environment_count(self) -> int:
        """How many environments are shown."""
        return sum(len(members) for members in self.environments.values())

    @property
    def next_free(self) -> str:
        """What is said of the first GPU likely to come free; empty when nobody can tell."""
        return next((f"{c.label} {c.when}" for c in self.compute if c.queueable and c.when), "")

    @property
    def nothing_fits(self) -> bool:
        """No GPU choice can start now, though there are GPUs a person could wait for."""
        gpus = [c for c in self.compute if c.value != "none"]
        return bool(gpus) and not any(c.allowed for c in gpus) and any(c.queueable for c in gpus)


SIMULATED = Banner(
    "The GPUs on this page are simulated: sessions start and count as usual, but no GPU is attached.",
    kind="info",
    title="Demonstration",
)


def launch_view(inputs: LaunchInputs) -> LaunchView:
    """Build the page. The choice made (or linked to) is kept; a remembered one only while it can start."""
    start = _starting_choice(inputs)
    compute = compute_choices(inputs, start)
    start = start.model_copy(update={"gpu": next((c.value for c in compute if c.checked), "none")})
    verdict = inputs.refuse(start)
    told = inputs.refused or (verdict if inputs.chosen else None)
    base = inputs.service_url
    return LaunchView(
        person=inputs.person,
        strip=build_strip(
            inputs.statuses,
            inputs.person,
            show_holders=inputs.show_holders,
            activity=inputs.activity,
            problem=inputs.inventory_problem,
            updated=inputs.updated,
        ),
        quotas=tuple(quota_line(q) for q in inputs.quotas),
        projects=project_choices(inputs.projects, start, inputs.now),
        new=new_project(inputs.projects, start, inputs.offers),
        environments=_environments(inputs, start),
        compute=compute,
        max_gpu_count=max(1, inputs.max_gpu_count),
        gpu_count=min(start.gpu_count, max(1, inputs.max_gpu_count)),
        lifetimes=_lifetimes(inputs.rules.lifetime, start.lifetime),
        wait=start.wait,
        can_wait=inputs.can_wait,
        rules=rule_sentences(inputs.rules),
        kept=inputs.rules.kept or (f"everything in {inputs.rules.workspace}, your project folder",),
        removed=inputs.rules.removed,
        again=_again(inputs),
        banners=((SIMULATED,) if inputs.simulated else ()) + tuple(inputs.banners),
        refusal=text.readable(told.sentence) if told else "",
        refusal_ask=inputs.ask(told) if told else "",
        free_by_now=inputs.refused is not None and verdict is None,
        share_url=f"{base}start?{query_of(start)}" if base else "",
        fragment_url=f"{base}fragments/availability" if base else "",
        fragment_key=inputs.fragment_key,
        static_url=f"{base}static/" if base else "",
        service_url=base,
        can_create=inputs.can_create_project,
    )


def quota_line(quota: Quota) -> QuotaLine:
    """A quota as ``0.43 of 1 GPU``, with its source and when use falls again."""
    show = text.size if quota.is_bytes else text.amount
    unit = f" {quota.unit}" if quota.unit and not quota.is_bytes else ""
    used = show(quota.used)
    value = f"{used} of {show(quota.limit)}{unit}" if quota.limit is not None else f"{used}{unit}, no limit"
    share = None
    if quota.limit and quota.used is not None:
        share = min(100, round(100 * quota.used / quota.limit))
    notes = ", ".join(p for p in (text.readable(quota.source), quota.resets) if p)
    full = quota.limit is not None and quota.used is not None and quota.used >= quota.limit
    return QuotaLine(quota.label, value, notes, share, full)


def rule_sentences(rules: Rules) -> tuple[str, ...]:
    """When a session ends, as sentences with the source of each rule."""
    lines = []
    if rules.idle_timeout:
        warned = f", after a warning {text.duration(rules.warn_lead)} ahead" if rules.warn_lead else ""
        lines.append(
            f"Retired after {text.duration(rules.idle_timeout)} without activity{warned}"
            f"{_by(rules.idle_source)}. Running code, GPU work and terminals count as activity."
        )
    if rules.lifetime:
        lines.append(f"Ends {text.duration(rules.lifetime)} after its start{_by(rules.lifetime_source)}.")
    return tuple(lines) or ("It runs until you retire it.",)


def _by(source: str) -> str:
    return f" ({text.readable(source)})" if source else ""


def _starting_choice(inputs: LaunchInputs) -> LaunchOptions:
    """Chosen, else remembered as far as it still exists, else the site's defaults."""
    if inputs.chosen:
        return inputs.chosen
    ids = {e.id for e in inputs.environments}
    fallback = inputs.default_environment if inputs.default_environment in ids else ""
    fallback = fallback or next((e.id for e in inputs.environments), "")
    first = next((p.name for p in inputs.projects), "default")
    if inputs.last is None:
        return LaunchOptions(project=first, environment=fallback, gpu="none")
    known = inputs.last.project in {p.name for p in inputs.projects} or inputs.can_create_project
    return inputs.last.model_copy(
        update={
            "project": inputs.last.project if known else first,
            "environment": inputs.last.environment if inputs.last.environment in ids else fallback,
        }
    )


def _environments(inputs: LaunchInputs, start: LaunchOptions) -> Mapping[str, tuple[EnvironmentChoice, ...]]:
    groups: dict[str, tuple[EnvironmentChoice, ...]] = {}
    for kind, title in KIND_TITLES.items():
        members = tuple(_environment(e, inputs, start) for e in inputs.environments if e.kind == kind)
        if members:
            groups[title] = members
    return groups


def _environment(info: EnvironmentInfo, inputs: LaunchInputs, start: LaunchOptions) -> EnvironmentChoice:
    reason, ask = info.reason, info.ask_url
    if reason or info.preflight in ("failed", "building"):
        reason = reason or ("it is being built" if info.preflight == "building" else "its check failed")
    else:
        refusal = inputs.refuse(
            start.model_copy(update={"environment": info.id, "gpu": "none", "gpu_count": 1})
        )
        # A refusal that is not about the environment (say, too many sessions) is said once, for the page.
        if refusal and refusal.code.startswith(ABOUT_ENVIRONMENT):
            reason, ask = refusal.limit, inputs.ask(refusal)
    facts = (
        f"CUDA {info.cuda}" if info.cuda else "",
        text.size(info.size_bytes) if info.size_bytes is not None else "",
        f"built {text.ago(info.built_at, inputs.now)}" if info.built_at else "",
        "" if info.present else "pulled at the first start",
    )
    return EnvironmentChoice(
        id=info.id,
        kind=info.kind,
        title=info.title or info.id,
        description=info.description,
        facts=tuple(f for f in facts if f),
        preflight={"ok": "checked", "failed": "check failed", "building": "building"}.get(info.preflight, ""),
        warnings=info.warnings,
        allowed=not reason,
        reason=reason,
        ask_url=ask if reason else "",
        checked=info.id == start.environment,
    )


def _lifetimes(maximum: timedelta | None, wanted: int | None) -> tuple[tuple[int, str, bool], ...]:
    """Offered lifetimes up to the policy's; the longest allowed is the empty choice of the template."""
    top = int(maximum.total_seconds()) if maximum else None
    offered = [s for s in _LIFETIMES if top is None or s < top]
    if wanted and wanted not in offered and (top is None or wanted < top):
        offered = sorted([*offered, wanted])
    return tuple((s, text.duration(s), s == wanted) for s in offered)


def _again(inputs: LaunchInputs) -> Again | None:
    """The last choice as one button; with its reason where it cannot start now."""
    last = inputs.last
    if last is None:
        return None
    title = next((e.title for e in inputs.environments if e.id == last.environment), last.environment)
    known = any(e.id == last.environment for e in inputs.environments) or not last.environment
    refusal = inputs.refuse(last)
    reason = reason_of(refusal) if known else "its environment is no longer offered"
    gpu = "CPU only" if last.gpu == "none" else "whole GPU" if last.gpu == "full" else last.gpu
    count = f"{last.gpu_count} × " if last.gpu != "none" and last.gpu_count > 1 else ""
    summary = " · ".join(p for p in (last.project, title, count + gpu) if p)
    ask = inputs.ask(refusal) if refusal and known else ""
    return Again(summary, query_of(last), refusal is None and known, reason, ask)


def query_of(options: LaunchOptions) -> str:
    """Options as a query string, for the permalink and for the button of `Again`."""
    data = options.model_dump(exclude_defaults=True, exclude={"profile"})
    data = {k: int(v) if isinstance(v, bool) else v for k, v in data.items()}
    data.setdefault("project", options.project)
    data.setdefault("gpu", options.gpu)
    return urlencode(data)

"""The launch form of one person: gather what the page shows, off the event loop, and render it.

The page asks the very function that answers at the start: `admission.check` over one reading of the machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from ..admission.check import check
from ..admission.limit_requests import ask_about, ask_url
from ..admission.situation import Situation, read
from ..core import text
from ..core.errors import DS01Error, Refusal, Refused, StoreError
from ..environments.offered import Shown
from ..pages.inputs import Banner, EnvironmentInfo, ProjectInfo, QueueHint, Quota, Rules
from ..pages.keys import load_secret, sign
from ..pages.launch_inputs import LaunchInputs
from ..pages.launch_page import launch_view
from ..pages.project_choice import Offers
from ..pages.render import render
from ..pages.unfinished import Unfinished, unfinished
from ..placement.status import status
from ..policy.options import MAX_GPU_COUNT, LaunchOptions, from_form, parse_options, salvage
from ..policy.plan import Usage
from ..policy.resolve import Limits
from ..site import Site
from ..workspace.templates import templates
from . import attempts
from .image_stage import judges_images

if TYPE_CHECKING:
    from .server import Server

PREFILLED = Banner(
    "This form was filled in by a link. Check the choices, then press Start: a link never starts anything.",
    kind="info",
)


@dataclass(frozen=True)
class Standing:
    """What a page about one person's next start rests on."""

    site: Site
    situation: Situation

    def verdict(self, options: LaunchOptions) -> Refusal | None:
        """Why these options would be refused now, or None when they would start."""
        answer = check(self.situation, options)
        return answer if isinstance(answer, Refusal) else None


async def launch_form(spawner: Server) -> str:
    """The form as HTML. Where the machine cannot be read, a form that says so."""
    site, person, now = spawner.site, spawner.person, spawner.clock()
    last, chosen, linked = remembered(spawner)
    bare = linked and not _asked(spawner, "gpu")
    fallback = spawner.configured_image
    service = spawner.service_url
    key = sign(load_secret(site.settings.state_dir), person.name, now)
    told = attempts.told(person.name, spawner.name, now)
    typed = salvage(attempts.choices(person.name))[1]

    def build() -> str:
        try:
            limits = site.limits(person, now)
            standing = Standing(site, read(site, person, now))
            judge = judges_images(spawner)
            environments = site.environments.shown(person, limits, fallback, judge=judge)
            if chosen and chosen.environment not in {"", *(e.environment.id for e in environments)}:
                site.environments.renew()  # a link to what was built a moment ago
                environments = site.environments.shown(
                    person, standing.situation.limits, fallback, judge=judge
                )
            projects = site.workspaces.projects(person.name)
        except DS01Error as error:
            return render("ds01/form_unavailable.html", reason=str(error))
        wish = chosen and course_choice(site, chosen, environments, bare)
        offers = offers_of(site, {} if linked else typed)
        here = [u for u in unfinished(site.intents.open(), person.name, now) if u.server == spawner.name]
        inputs = gather(
            standing, environments, projects, last, wish, linked, service, key, told, offers, here
        )
        return render("ds01/launch_form.html", view=launch_view(inputs))

    return await asyncio.to_thread(build)


def remembered(spawner: Server) -> tuple[LaunchOptions | None, LaunchOptions | None, bool]:
    """The last choice that worked, the choice just made or linked to, and whether it came by a link."""
    handler = getattr(spawner, "handler", None)
    query: dict[str, list[str]] = {}
    if handler is not None and handler.request.method == "GET":
        for name, values in handler.request.query_arguments.items():
            if name not in ("next", "_xsrf", "display_name"):
                query[name.removeprefix("opt-")] = [v.decode(errors="replace") for v in values]
    linked = _valid(from_form(query)) if query else None
    last = _valid(getattr(spawner.orm_spawner, "user_options", None) or {})
    attempt = attempts.choices(spawner.user.name)
    return last, linked or salvage(attempt)[0], linked is not None


def offers_of(site: Site, typed: Mapping[str, str]) -> Offers:
    """What a new project can begin with, and what was typed for one in vain. Blocking."""
    settings = site.settings
    return Offers(
        templates=[(t.name, t.description) for t in templates(settings.project_templates)],
        schemes=settings.git_schemes,
        hosts=settings.git_hosts,
        typed_name=typed.get("project", ""),
        typed_source=typed.get("project_source", ""),
    )


def _asked(spawner: Server, name: str) -> bool:
    """Whether the link says something of this option."""
    handler: Any = getattr(spawner, "handler", None)
    arguments = handler.request.query_arguments
    return name in arguments or f"opt-{name}" in arguments


def course_choice(
    site: Site, chosen: LaunchOptions, environments: Sequence[Shown], bare: bool
) -> LaunchOptions:
    """A link to a course that says nothing of compute gets what the course's file pre-selects."""
    named = next((s.environment for s in environments if s.environment.id == chosen.environment), None)
    if not bare or named is None or not named.course:
        return chosen
    try:
        return chosen.model_copy(update=compute_of(site.environments.course(named)))
    except StoreError:
        return chosen


def compute_of(course: Mapping[str, Any]) -> dict[str, Any]:
    """A course's ``compute`` as launch options."""
    compute = course.get("compute") or {}
    found: dict[str, Any] = {"gpu": compute.get("gpu", "none"), "gpu_count": compute.get("gpu_count", 1)}
    if text := compute.get("lifetime"):
        found["lifetime"] = int(text[:-1]) * {"m": 60, "h": 3600, "d": 86400}[text[-1]]
    return found


def _valid(raw: object) -> LaunchOptions | None:
    try:
        return parse_options(raw) if raw else None
    except Refused:
        return None


def gather(
    standing: Standing,
    environments: Sequence[Shown],
    projects: Sequence[Any],
    last: LaunchOptions | None,
    chosen: LaunchOptions | None,
    linked: bool,
    service: str,
    key: str,
    told: Refusal | None = None,
    offers: Offers | None = None,
    left: Sequence[Unfinished] = (),
) -> LaunchInputs:
    """Everything the page's view model is built from. ``told`` is why a start was refused just now."""
    site, situation = standing.site, standing.situation
    limits, inventory = situation.limits, situation.inventory
    preselected = (chosen or last or LaunchOptions()).environment
    keys = situation.keys(preselected)
    statuses = status(inventory, situation.holdings, situation.blocks, keys=keys)
    banners = [PREFILLED] if linked else []
    banners += [Banner(each.sentence, kind="warning") for each in left]
    if site.policy.problem and situation.person.admin:
        banners.append(Banner(site.policy.problem, kind="danger", title="The policy file on disk is broken"))
    if limits.aggregate.for_the_kernel and (why := site.unenforced_ceiling()):
        banners.append(Banner(f"The ceiling over all your sessions is not enforced on this machine: {why}."))
    return LaunchInputs(
        person=situation.person.name,
        now=situation.now,
        refuse=standing.verdict,
        statuses=statuses,
        inventory_problem=inventory.reason if inventory.state != "ok" else "",
        simulated=inventory.mode == "simulated",
        quotas=quotas(limits, situation.usage),
        projects=[
            ProjectInfo(p.name, used_at=datetime.fromtimestamp(p.changed, timezone.utc)) for p in projects
        ],
        offers=offers or Offers(),
        environments=[_environment(item, service) for item in environments],
        default_environment=next((i.environment.id for i in environments if i.environment.default), ""),
        rules=rules(limits),
        last=last,
        chosen=chosen,
        refused=told,
        ask=lambda refusal: ask_url(service, refusal),
        banners=banners,
        can_wait=limits.queue.max_tickets != 0,
        queue=queue_hints(standing),
        max_gpu_count=min(limits.gpu.max_devices_per_session or 4, MAX_GPU_COUNT),
        show_holders=site.settings.show_holders or situation.person.admin,
        updated=situation.now.isoformat(timespec="seconds"),
        service_url=service,
        fragment_key=key,
    )


def _environment(item: Shown, service: str) -> EnvironmentInfo:
    e, found = item.environment, item.preflight
    warnings = [e.note] if e.note else []
    if found is not None and found.ok and not found.gpu_ok:
        warnings.append(f"With a GPU it cannot start: {found.reason}")
    if item.image is None and (e.pinned or e.kind != "lab"):
        warnings.append("Its image is not on this machine")
    return EnvironmentInfo(
        id=e.id,
        title=e.name,
        kind=e.kind,
        description=e.description,
        size_bytes=e.size,
        cuda=e.cuda,
        built_at=_time(e.created),
        preflight="unknown" if found is None else "ok" if found.ok else "failed",
        reason=item.reason,
        present=item.image is not None,
        warnings=tuple(warnings),
        ask_url="" if item.listed.allowed else ask_about(service, "environment-not-allowed"),
    )


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None
    except ValueError:
        return None


def queue_hints(standing: Standing) -> dict[str, QueueHint]:
    """What joining the queue would mean, by GPU choice; empty while the store is down."""
    try:
        line = standing.site.store().tickets.find()
    except StoreError:
        return {}
    waiting = [t for t in line if t.state == "waiting" and t.user != standing.situation.person.name]
    hints = {d.profile: QueueHint(0) for d in standing.situation.inventory.devices} | {"auto": QueueHint(0)}
    for profile in hints:
        same = [t for t in waiting if t.profile in (profile, "auto") or profile == "auto"]
        last = max((e["p50_s"] for t in same if (e := (t.shown or {}).get("estimate"))), default=None)
        # Whoever joins now comes after the last of them, so their wait is the least that can be said.
        hints[profile] = QueueHint(len(same), f"at least {text.duration(last)}" if last else "")
    return hints


def rules(limits: Limits) -> Rules:
    """When a session ends, with the source of each rule."""
    idle, lifetime = limits.idle, limits.session.lifetime
    return Rules(
        idle_timeout=timedelta(seconds=idle.timeout) if idle.timeout else None,
        idle_source=limits.source("idle.timeout"),
        warn_lead=timedelta(seconds=idle.warn_lead),
        lifetime=timedelta(seconds=lifetime) if lifetime else None,
        lifetime_source=limits.source("session.lifetime"),
    )


def quotas(limits: Limits, usage: Usage) -> list[Quota]:
    """The person's own numbers: GPU, sessions, GPU-hours, space."""
    found = [
        Quota(
            "GPU",
            sum(s.gpu_equivalents for s in usage.sessions),
            limits.gpu.max_equivalents,
            "GPU",
            limits.source("gpu.max_equivalents"),
        ),
        Quota("Sessions", len(usage.sessions), limits.session.max, source=limits.source("session.max")),
    ]
    if limits.gpu.hours.budget is not None:
        source = limits.source("gpu.hours.budget")
        found.append(Quota("GPU-hours", usage.gpu_hours, limits.gpu.hours.budget, "h", source))
    if limits.storage.quota is not None:
        used, quota = usage.workspace_used, limits.storage.quota
        found.append(Quota("Space", used, quota, source=limits.source("storage.quota"), is_bytes=True))
    return found

"""Environments as cards, builds as lines: what their pages show, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from ..core import text
from ..environments.environment_service import OwnBuild
from ..environments.naming import parse_user_image, user_repository
from ..environments.offered import Shown
from ..policy.resolve import Limits
from ..store.catalogue import ACTIVE
from ..store.rows import EnvironmentRow

STATES = {
    "queued": "waiting",
    "building": "building",
    "checking": "being checked",
    "ready": "ready",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class BuildLine:
    """A build in a list. ``detail`` is its reason or its place."""

    id: str
    environment: str
    project: str
    state: str
    word: str
    detail: str
    created: datetime
    url: str

    @property
    def active(self) -> bool:
        """Whether it is under way."""
        return self.state in ACTIVE


@dataclass(frozen=True)
class Former:
    """An image an environment can go back to."""

    id: str
    short: str


@dataclass(frozen=True)
class Card:
    """An environment on the page *Environments*."""

    id: str
    kind: str
    title: str
    description: str
    facts: tuple[str, ...]
    check: str
    """The check's result in a word or two."""
    reason: str
    """Why it cannot be started; empty where it can."""
    notes: tuple[str, ...]
    start_url: str
    project: str
    """The project whose recipe makes it; empty where it is not one's own."""
    former: tuple[Former, ...]
    build: BuildLine | None
    running: int
    """Own sessions that run it; ``outdated`` of them from another image."""
    outdated: int
    owner: str
    """Who shares it; empty where it is one's own, the site's or a course's."""
    shared_with: tuple[str, ...]
    """Groups that an own environment is shared with."""


def build_line(row: OwnBuild, project: str, service_url: str) -> BuildLine:
    """A stored build for a list."""
    detail = row.data.get("reason", "")
    if row.state == "queued" and row.position:
        detail = f"{row.position} before it"
    return BuildLine(
        row.id,
        row.environment,
        project,
        row.state,
        STATES.get(row.state, row.state),
        detail,
        row.created_at,
        f"{service_url}builds/{row.id}",
    )


def project_of(reference: str, person: str, projects: Iterable[str]) -> str:
    """The project an own environment is named after; empty where that project is gone."""
    repository = reference.rpartition(":")[0]
    return next((p for p in projects if user_repository(person, p) == repository), "")


def card(
    shown: Shown,
    now: datetime,
    *,
    person: str,
    projects: Sequence[str] = (),
    row: EnvironmentRow | None = None,
    build: BuildLine | None = None,
    running: Sequence[str] = (),
    newer_base: bool = False,
    service_url: str = "",
) -> Card:
    """One card. ``row`` is what the store has of an own environment, ``running`` the image ids of the
    person's sessions that started from it."""
    environment, image = shown.environment, shown.image
    data = row.data if row else {}
    own = environment.kind == "mine"
    current = image.id if image else ""
    return Card(
        id=environment.id,
        kind=environment.kind,
        title=environment.name,
        description=environment.description,
        facts=_facts(shown, now),
        check=_check(shown),
        reason=shown.reason or ("" if image or environment.kind == "lab" else "its image is not here yet"),
        notes=_notes(shown, newer_base),
        start_url=_start_url(shown, person, projects, service_url),
        project=project_of(environment.id, person, projects) if own else "",
        former=tuple(Former(i, i.removeprefix("sha256:")[:12]) for i in data.get("previous", ())),
        build=build,
        running=len(running),
        outdated=sum(1 for i in running if current and i != current),
        owner=environment.owner if environment.kind == "shared" else "",
        shared_with=tuple(sorted(environment.groups)) if own else (),
    )


def _facts(shown: Shown, now: datetime) -> tuple[str, ...]:
    e = shown.environment
    built = text.parse_time(e.created)
    parsed = parse_user_image(e.id)
    facts = (
        f"tag {parsed.tag}" if parsed and parsed.tag != "latest" else "",
        e.framework,
        f"CUDA {e.cuda}" if e.cuda else "",
        text.size(e.size) if e.size is not None else "",
        f"built {text.ago(built, now)}" if built else "",
        f"image {shown.image.id.removeprefix('sha256:')[:12]}" if shown.image else "",
    )
    return tuple(f for f in facts if f)


def _check(shown: Shown) -> str:
    if shown.image is None:
        return "not on this machine"
    if shown.preflight is None:
        return "checked at its first start"
    if not shown.preflight.ok:
        return "cannot start"
    return "checked" if shown.preflight.gpu_ok else "without a GPU only"


def _notes(shown: Shown, newer_base: bool) -> tuple[str, ...]:
    notes = [shown.environment.note] if shown.environment.note else []
    for finding in shown.preflight.findings if shown.preflight else ():
        if finding.level in ("note", "gpu"):
            notes.append(f"{text.readable(finding.message)}. {finding.mend}".strip())
    if newer_base:
        notes.append(
            "Update available: its base was renewed since it was built. Build it again to have that."
        )
    return tuple(notes)


def _start_url(shown: Shown, person: str, projects: Sequence[str], service_url: str) -> str:
    e = shown.environment
    query = {"environment": e.id}
    if e.course:
        query["project"] = e.course
    elif e.kind == "mine" and (project := project_of(e.id, person, projects)):
        query["project"] = project
    return f"{service_url}start?{urlencode(query)}"


def limit_lines(limits: Limits, own: int, waiting: int) -> tuple[str, ...]:
    """What the person may build, each with its source, and how busy the builder is."""
    if not limits.images.build:
        return (f"Your limits do not let you build environments ({limits.source('images.build')}).",)
    most, b = limits.images.max, limits.images.builds
    lines = [
        f"You have {own} of {most} environments." if most is not None else f"You have {own} environments."
    ]
    parts = [
        f"{b.parallel} at a time",
        f"{text.duration(b.time)} at most",
        f"memory {text.size(b.memory)}" if b.memory is not None else "",
        f"files of the project up to {text.size(b.context)}",
        f"image up to {text.size(b.size)}" if b.size is not None else "",
    ]
    lines.append(f"Builds: {', '.join(p for p in parts if p)}.")
    lines.append(
        f"{text.plural(waiting, 'build')} waiting or under way here." if waiting else "No build waits."
    )
    return tuple(lines)

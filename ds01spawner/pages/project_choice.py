"""The project part of the launch page: the folders that are there, and what a new one begins with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..core import text
from ..policy.options import LaunchOptions
from ..policy.sources import MAX_SOURCE, SCHEMES, TEMPLATE
from .inputs import ProjectInfo

GIT = "git"


@dataclass(frozen=True)
class ProjectChoice:
    """A project radio. ``new`` says that it is made at the first start."""

    name: str
    facts: str
    description: str
    checked: bool
    new: bool = False


@dataclass(frozen=True)
class Offers:
    """What the site lets a new project begin with, and what its owner typed in vain a moment ago."""

    templates: Sequence[tuple[str, str]] = ()
    """Name and description of each."""
    schemes: Sequence[str] = ()
    hosts: Sequence[str] = ()
    typed_name: str = ""
    typed_source: str = ""


@dataclass(frozen=True)
class Beginning:
    """One thing that a new project can begin with: an option of the list."""

    value: str
    label: str
    selected: bool


@dataclass(frozen=True)
class NewProject:
    """The fields for a new project."""

    name: str = ""
    beginnings: tuple[Beginning, ...] = ()
    """Empty where an empty folder is all there is."""
    git: bool = False
    address: str = ""
    git_help: str = ""
    note: str = ""
    """Said where a source was asked for and is not used."""
    max_address: int = MAX_SOURCE


def project_choices(
    projects: Sequence[ProjectInfo], start: LaunchOptions, now: datetime
) -> tuple[ProjectChoice, ...]:
    """The radios; whoever has no project yet is offered the first."""
    if not projects:
        return (ProjectChoice(start.project, "", "made at the first start", True, new=True),)
    return tuple(
        ProjectChoice(p.name, " · ".join(_facts(p, now)), p.description, p.name == start.project)
        for p in projects
    )


def new_project(projects: Sequence[ProjectInfo], start: LaunchOptions, offers: Offers) -> NewProject:
    """The fields, with what was typed before a failed start."""
    known = {p.name for p in projects}
    schemes = [s for s in offers.schemes if s in SCHEMES]
    there = start.project in known and not offers.typed_name
    source = offers.typed_source or ("" if there else start.project_source)
    chosen = source if source.startswith(TEMPLATE) else GIT if source else ""
    note = f"You have a project {start.project} already. It opens as it is; nothing is fetched into it."
    return NewProject(
        name=offers.typed_name or (start.project if projects and start.project not in known else ""),
        beginnings=_beginnings(offers.templates, bool(schemes), chosen),
        git=bool(schemes),
        address=source if chosen == GIT else "",
        git_help=_git_help(schemes, offers.hosts),
        note=note if there and start.project_source else "",
    )


def _beginnings(templates: Sequence[tuple[str, str]], git: bool, chosen: str) -> tuple[Beginning, ...]:
    listed = [("", "An empty folder")]
    if git:
        listed.append((GIT, "A git repository"))
    for name, about in templates:
        listed.append((f"{TEMPLATE}{name}", f"Template {name}: {about}" if about else f"Template {name}"))
    return tuple(Beginning(v, label, v == chosen) for v, label in listed) if len(listed) > 1 else ()


def _git_help(schemes: Sequence[str], hosts: Sequence[str]) -> str:
    begins = " or ".join(f"{s}://" for s in schemes)
    where = f", on {', '.join(hosts[:8])}" if hosts else ""
    return (
        f"Its address begins with {begins}{where}. Add #name for another branch or tag than the usual one. "
        "It must be open to everybody: clone a private one in a terminal of the session."
    )


def _facts(project: ProjectInfo, now: datetime) -> Iterable[str]:
    if project.size_bytes is not None:
        yield text.size(project.size_bytes)
    if project.used_at:
        yield f"used {text.ago(project.used_at, now)}"

"""A new project and its first files: all of them, or no project. What a start and the command share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from ..core.errors import Refusal, Refused
from ..core.settings import Settings
from ..policy.options import LaunchOptions
from ..policy.resolve import Limits, Person
from ..policy.sources import GitSource, Rules, Source, TemplateSource
from ..policy.storage import project_room
from . import staging
from .projects import Workspace, Workspaces
from .templates import copy_template, files_of, templates


class Grounds(Protocol):
    """What making a project asks of a site."""

    settings: Settings
    workspaces: Workspaces

    def limits(self, person: Person, now: datetime) -> Limits:
        """What a person gets now. Blocking."""

    def give_quota(self, person: Person, workspace: Workspace, now: datetime) -> None:
        """See to the quota of a person's files; `Refused` when that fails. Blocking."""


Fetch = Callable[[GitSource, Workspace], Awaitable[None]]
"""Fetches a repository into a folder made for it; `fetching.FetchFailed` says why not."""
Begun = Literal["made", "was there", "is there by now"]


def rules_of(site: Grounds) -> Rules:
    """What this site allows a new project to begin with. Blocking."""
    settings = site.settings
    names = tuple(t.name for t in templates(settings.project_templates))
    return Rules(settings.git_schemes, tuple(h.lower() for h in settings.git_hosts), names)


def refusal_of(site: Grounds, user: str, options: LaunchOptions) -> Refusal | None:
    """Why the source of a new project cannot be had; None too for a project that has files. Blocking.

    A link to a course's repository is opened every week: what is there already is simply opened.
    """
    source = options.source
    if source is None or not staging.is_new(site.workspaces, user, options.project):
        return None
    return rules_of(site).refusal(source)


async def begin_project(
    site: Grounds, person: Person, project: str, source: Source, token: str, now: datetime, fetch: Fetch
) -> Begun:
    """Give a new project its first files, gathered in a folder that ``token`` names.

    `Refused` says why there is no project. Whoever calls this clears what is gathered when it raises or is
    cancelled: `fetching.clear`, or `staging.abandon` where nothing is fetched.
    """
    places, user = site.workspaces, person.name
    if not await asyncio.to_thread(staging.is_new, places, user, project):
        return "was there"
    refusal = rules_of(site).refusal(source)  # a place in the queue may be older than the rules
    if refusal is not None:
        raise Refused(refusal)
    room = project_room(await asyncio.to_thread(site.limits, person, now))
    staged = await asyncio.to_thread(staging.begin, places, user, token)
    await asyncio.to_thread(site.give_quota, person, staged, now)
    if isinstance(source, TemplateSource):
        await asyncio.to_thread(_fill, site, source, staged)
    else:
        await fetch(source, staged)
    if await asyncio.to_thread(staging.adopt, places, user, token, project, room):
        return "made"
    await asyncio.to_thread(staging.abandon, places, user, token)
    return "is there by now"


def _fill(site: Grounds, source: TemplateSource, staged: Workspace) -> None:
    folder = site.settings.project_templates or Path()
    copy_template(folder, source.name, files_of(site.workspaces.root, staged.path, staged.identity))

"""A session's project: the folder that is there, or a new one with the first files that were asked for.

The same on every engine; how a repository is fetched is the adapter's business
(`SessionMixin.fetch_repository`). Either all of the first files are there, or no project is made.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from . import messages
from .core.errors import DS01Error, Refusal, Refused
from .fetching import FetchFailed, Tell, clear, fetch, spec_for, turn
from .hub import attempts
from .policy.options import LaunchOptions
from .policy.resolve import Person
from .policy.sources import GitSource, Rules, Source, TemplateSource
from .policy.storage import project_room
from .site import Site
from .workspace import staging
from .workspace.projects import Workspace, WorkspaceError
from .workspace.templates import copy_template, files_of, templates

if TYPE_CHECKING:
    from .hub.session import SessionMixin


def rules_of(site: Site) -> Rules:
    """What this site allows a new project to begin with. Blocking."""
    settings = site.settings
    names = tuple(t.name for t in templates(settings.project_templates))
    return Rules(settings.git_schemes, tuple(h.lower() for h in settings.git_hosts), names)


def refusal_of(site: Site, user: str, options: LaunchOptions) -> Refusal | None:
    """Why the source of a new project cannot be had; None too for a project that has files. Blocking.

    A link to a course's repository is opened every week: what is there already is simply opened.
    """
    source = options.source
    if source is None or not staging.is_new(site.workspaces, user, options.project):
        return None
    return rules_of(site).refusal(source)


async def make_project(session: SessionMixin, options: LaunchOptions) -> str:
    """Make the project ready as ``session.workspace``; returns what to say of it. `Refused` says why not."""
    site, user, project = session.site, session.user.name, options.project
    source, note = options.source, ""
    try:
        if source is not None:
            async with turn(user):
                note = await _fill(session, project, source)
            forget_source(session)
        room = project_room(await asyncio.to_thread(site.limits, session.person, session.clock()))
        session.workspace = await asyncio.to_thread(site.workspaces.prepare, user, project, room)
    except WorkspaceError as error:
        refusal = messages.workspace_unusable(project, str(error))
        raise Refused(replace(refusal, status=error.status)) from error
    except FetchFailed as failed:
        attempts.refused(user, session.name, failed.refusal, session.clock())
        from .hub.http_errors import SessionRefused  # the command makes projects too, without the hub

        raise SessionRefused(failed.refusal, log_tail=failed.log_tail, to_form=True) from None
    except Refused:
        raise
    except DS01Error as error:
        raise Refused(messages.workspace_unusable(project, str(error))) from error
    await asyncio.to_thread(site.give_quota, session.person, session.workspace, session.clock())
    return f"Project {project} ready at /workspace{note}"


async def _fill(session: SessionMixin, project: str, source: Source) -> str:
    """Give a new project its first files; a note for its owner."""
    site, user, token = session.site, session.user.name, session.session_id
    places = site.workspaces
    if not await asyncio.to_thread(staging.is_new, places, user, project):
        return ", as it was: it has files already, so nothing was fetched"
    refusal = rules_of(site).refusal(source)  # a place in the queue may be older than the rules
    if refusal is not None:
        raise Refused(refusal)
    session.staged = token  # from here on, `discard` throws away what is there
    room = project_room(await asyncio.to_thread(site.limits, session.person, session.clock()))
    staged = await asyncio.to_thread(staging.begin, places, user, token)
    await asyncio.to_thread(site.give_quota, session.person, staged, session.clock())
    if isinstance(source, TemplateSource):
        folder = site.settings.project_templates or Path()
        await asyncio.to_thread(fill_from_template, site, folder, source, staged)
    else:
        await session.fetch_repository(source, staged)
    made = await asyncio.to_thread(staging.adopt, places, user, token, project, room)
    if not made:
        await asyncio.to_thread(staging.abandon, places, user, token)
    session.staged = ""
    return f", from {source}" if made else ", as it was: it has files by now"


def fill_from_template(site: Site, folder: Path, source: TemplateSource, staged: Workspace) -> None:
    """Copy a template into the folder of a new project. Blocking."""
    copy_template(folder, source.name, files_of(site.workspaces.root, staged.path, staged.identity))


async def make_for(
    site: Site,
    person: Person,
    project: str,
    source: Source,
    token: str,
    now: datetime,
    tell: Tell,
    environment: str = "",
) -> bool:
    """Make a new project from its source without a session; False when it has files already.

    ``environment`` is the one whose git fetches a repository. `Refused` says why there is no project.
    """
    places = site.workspaces
    if not staging.is_new(places, person.name, project):
        return False
    refusal = rules_of(site).refusal(source)
    if refusal is not None:
        raise Refused(refusal)
    staged = staging.begin(places, person.name, token)
    try:
        site.give_quota(person, staged, now)
        if isinstance(source, TemplateSource):
            fill_from_template(site, site.settings.project_templates or Path(), source, staged)
        else:
            offered = site.environments
            wanted = offered.choose(person, site.limits(person, now), environment, site.settings.image)
            image = offered.resolve(wanted, person)
            spec = spec_for(site, person, project, source, staged, image, token, now, env=os.environ)
            await fetch(site, spec, staged.path, tell, environment=wanted.name)
        return staging.adopt(places, person.name, token, project, project_room(site.limits(person, now)))
    finally:
        if isinstance(source, GitSource):
            clear(site.engine.client, site, person.name, token)
        else:
            staging.abandon(places, person.name, token)


def forget_source(session: SessionMixin) -> None:
    """The project is there now: no later start, and no form that comes back, asks for its source again."""
    if session.options is not None:
        session.options = session.options.model_copy(update={"project_source": ""})
    session.persist({k: v for k, v in session.user_options.items() if k != "project_source"})
    attempts.tried(session.user.name, session.name, session.user_options)


def fetching(source: GitSource, said: str) -> str:
    """What a start says while it fetches."""
    return f"Fetching {source}: {said}" if said else f"Fetching {source}"

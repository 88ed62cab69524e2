"""A session's project: the folder that is there, or a new one with the first files that were asked for.

The same on every engine; how a repository is fetched is the adapter's business
(`SessionMixin.fetch_repository`). Either all of the first files are there, or no project is made.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from . import attempts, messages
from .errors import DS01Error, Refusal, Refused
from .fetching import FetchFailed, turn
from .hub_errors import SessionRefused
from .options import LaunchOptions
from .site import Site
from .sources import GitSource, Rules, Source, TemplateSource
from .workspace import staging
from .workspace.projects import Workspace, WorkspaceError
from .workspace.templates import copy_template, files_of, templates

if TYPE_CHECKING:
    from .session import SessionMixin


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
        session.workspace = await asyncio.to_thread(site.workspaces.prepare, user, project)
    except WorkspaceError as error:
        refusal = messages.workspace_unusable(project, str(error))
        raise Refused(replace(refusal, status=error.status)) from error
    except FetchFailed as failed:
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
    staged = await asyncio.to_thread(staging.begin, places, user, token)
    await asyncio.to_thread(site.give_quota, session.person, staged, session.clock())
    if isinstance(source, TemplateSource):
        folder = site.settings.project_templates or Path()
        await asyncio.to_thread(fill_from_template, site, folder, source, staged)
    else:
        await session.fetch_repository(source, staged)
    made = await asyncio.to_thread(staging.adopt, places, user, token, project)
    if not made:
        await asyncio.to_thread(staging.abandon, places, user, token)
    session.staged = ""
    return f", from {source}" if made else ", as it was: it has files by now"


def fill_from_template(site: Site, folder: Path, source: TemplateSource, staged: Workspace) -> None:
    """Copy a template into the folder of a new project. Blocking."""
    copy_template(folder, source.name, files_of(site.workspaces.root, staged.path, staged.identity))


def forget_source(session: SessionMixin) -> None:
    """The project is there now: no later start, and no form that comes back, asks for its source again."""
    if session.options is not None:
        session.options = session.options.model_copy(update={"project_source": ""})
    session.user_options = {k: v for k, v in session.user_options.items() if k != "project_source"}
    if getattr(session, "orm_spawner", None) is not None:
        session.orm_spawner.user_options = session.user_options
    attempts.tried(session.user.name, session.name, session.user_options)


def fetching(source: GitSource, said: str) -> str:
    """What a start says while it fetches."""
    return f"Fetching {source}: {said}" if said else f"Fetching {source}"

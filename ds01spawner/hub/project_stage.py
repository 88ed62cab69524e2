"""A session's project: the folder that is there, or a new one with the first files that were asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from .. import messages
from ..core.errors import DS01Error, Refused
from ..engines.docker import fetching
from ..policy.sources import GitSource, Source
from ..policy.storage import project_room
from ..workspace import staging
from ..workspace.newproject import Begun, begin_project
from ..workspace.projectfiles import ProjectFiles
from ..workspace.projects import Workspace, WorkspaceError
from ..workspace.starter_files import copy_starter

if TYPE_CHECKING:
    from ..queue.turns import Turn
    from .image_stage import Chosen
    from .server import Server, Wish

NOTES: dict[Begun, str] = {
    "made": ", from {}",
    "was there": ", as it was: it has files already, so nothing was fetched",
    "is there by now": ", as it was: it has files by now",
}


@dataclass(frozen=True)
class Project:
    """A project that is ready to be mounted."""

    workspace: Workspace
    note: str = ""
    """What became of its first files, to be said after its name."""


class ProjectStage:
    """Makes a project ready; `undo` throws away what it had gathered when it did not come to its end."""

    def __init__(self, server: Server, turn: Turn) -> None:
        self._server, self._turn = server, turn
        self._gathered: Literal["", "files", "by a fetch"] = ""

    async def prepare(self, wish: Wish, chosen: Chosen) -> Project:
        """The project as it is to be mounted; `Refused` says why not."""
        server, site, project = self._server, self._server.site, wish.options.project
        source, note = wish.options.source, ""
        try:
            if source is not None:
                async with fetching.turn(wish.person.name):
                    note = NOTES[await self._begin(wish, chosen, source)].format(source)
                server.kept.forget_source()
            room = project_room(await asyncio.to_thread(site.limits, wish.person, server.clock()))
            workspace = await asyncio.to_thread(site.workspaces.prepare, wish.person.name, project, room)
        except WorkspaceError as error:
            refusal = messages.workspace_unusable(project, str(error))
            raise Refused(replace(refusal, status=error.status)) from error
        except Refused:
            raise
        except DS01Error as error:
            raise Refused(messages.workspace_unusable(project, str(error))) from error
        await asyncio.to_thread(site.give_quota, wish.person, workspace, server.clock())
        return Project(workspace, note)

    async def undo(self, wish: Wish) -> None:
        """Throw away what was gathered for a new project. Idempotent."""
        gathered, self._gathered = self._gathered, ""
        site, user, token = self._server.site, wish.person.name, wish.session
        try:
            if gathered == "by a fetch":
                clear = partial(fetching.clear, site, user, token)
                await self._server.on_engine.in_order("stop", clear)
            elif gathered:
                await asyncio.to_thread(staging.abandon, site.workspaces, user, token)
        except (DS01Error, OSError) as error:
            self._server.log.error("Files of a new project of %s stay: %s", self._server._log_name, error)

    async def _begin(self, wish: Wish, chosen: Chosen, source: Source) -> Begun:
        self._gathered = "files"

        async def fetch(repository: GitSource, staged: Workspace) -> None:
            self._gathered = "by a fetch"
            await self._fetch(wish, chosen, repository, staged)

        site, person, project = self._server.site, wish.person, wish.options.project
        begun = await begin_project(site, person, project, source, wish.session, self._server.clock(), fetch)
        self._gathered = ""
        return begun

    async def _fetch(self, wish: Wish, chosen: Chosen, source: GitSource, staged: Workspace) -> None:
        """Fetch a repository in a container of the session's image, with its progress as the start's."""
        server, project, image = self._server, wish.options.project, chosen.image
        args = (server.site, wish.person, project, source, staged, image, wish.session, server.clock())
        spec = await asyncio.to_thread(fetching.spec_for, *args)
        spec = fetching.as_session(spec, await server.native())
        self._turn.aside()

        def tell(said: str, fraction: float) -> None:
            line = f"Fetching {source}: {said}" if said else f"Fetching {source}"
            server.progress_log.step("workspace", line, finished=False, fraction=fraction)

        tell("", 0.0)
        title, key = image.environment.name, server.object_name
        await fetching.fetch(server.site, spec, staged.path, tell, key=key, environment=title)


async def copy_starter_files(server: Server, chosen: Chosen, project: Project) -> None:
    """Copy a course's starter files into a new project; a start does not fail for want of them."""
    starter, course = chosen.course.get("starter_files"), chosen.image.environment.course
    if not starter:
        return
    site, workspace, log = server.site, project.workspace, server.progress_log
    root, identity = site.workspaces.root, workspace.identity
    files = ProjectFiles(root, workspace.path.relative_to(root).parts, identity.uid, identity.gid)
    archive = site.settings.courses / course / starter["archive"]
    try:
        if await asyncio.to_thread(copy_starter, archive, files, course):
            log.step("workspace", "The course's starter files are in your project")
    except (DS01Error, OSError) as error:
        server.log.error("Starter files of %s for %s: %s", course, server._log_name, error)
        log.step("workspace", f"The course's starter files could not be copied: {error}")

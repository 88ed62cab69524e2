"""A new project's first files are gathered in a folder beside the projects, and become one in a moment.

So a project is never half there: what failed or was cancelled is thrown away with its folder, and the next
try begins anew. Nothing follows a link, and nothing that a person already has is ever touched. Blocking.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..core.names import folder_name
from .projects import (
    PROJECT_MODE,
    USER_MODE,
    Workspace,
    WorkspaceError,
    Workspaces,
    admit_new,
    child,
)
from .safefs import Folder

PREFIX = ".ds01-new-"
FORGOTTEN_S = 24 * 3600.0
"""Age from which such a folder belongs to nobody: no start takes that long."""
_TOKEN = re.compile(r"[0-9a-f]{8,64}")


def is_new(places: Workspaces, user: str, project: str) -> bool:
    """Whether a project has yet to get its first file: it is missing, or an empty folder."""
    with places.open_root() as root:
        try:
            with root.descend((folder_name(user), project)) as folder:
                return not folder.names()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # a link or a file: `prepare` says so


def begin(places: Workspaces, user: str, token: str) -> Workspace:
    """Make the folder in which files are gathered; ``token`` (hexadecimal) names it."""
    name = _name(token)
    with _home(places, user) as home:
        _sweep(home, time.time() - FORGOTTEN_S)
        identity = places.identity(user)
        with child(home, name, identity, PROJECT_MODE):
            pass
    return Workspace(places.root / folder_name(user) / name, identity, True)


def adopt(
    places: Workspaces,
    user: str,
    token: str,
    project: str,
    admit: Callable[[int], None] = lambda count: None,
) -> bool:
    """Make the gathered files the project; False, with nothing changed, when it has files by now.

    ``admit`` as in `Workspaces.prepare`.
    """
    name = _name(token)
    with _home(places, user) as home, home.locked():
        admit_new(home, project, admit)
        if not home.has(project):
            home.rename(name, project)
            return True
        # An empty folder may be open in another session of its owner, so it stays the very folder it is.
        with home.child(name) as staged, home.child(project) as folder:
            if folder.names():
                return False
            for entry in staged.names():
                staged.rename(entry, entry, folder)
        home.remove_empty(name)
    return True


def abandon(places: Workspaces, user: str, token: str) -> None:
    """Remove what was gathered. Idempotent; `WorkspaceError` when something cannot be removed."""
    name = _name(token)
    with places.open_root() as root:
        try:
            with root.child(folder_name(user)) as home:
                home.remove_tree(name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise WorkspaceError(f"what was fetched cannot be removed: {error.strerror}", 503) from error


def _name(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise WorkspaceError(f"{token!r} is not a token")
    return PREFIX + token


@contextmanager
def _home(places: Workspaces, user: str) -> Iterator[Folder]:
    """The user's folder, made where it is missing."""
    identity = places.identity(user)
    try:
        with places.open_root() as root, child(root, folder_name(user), identity, USER_MODE) as (home, _):
            yield home
    except OSError as error:
        raise WorkspaceError(f"the new project's folder cannot be made: {error.strerror}", 503) from error


def _sweep(home: Folder, before: float) -> None:
    """Remove folders of starts that died so long ago that nothing can come of them."""
    for name in home.names():
        if name.startswith(PREFIX):
            with suppress(OSError):
                if home.look(name).st_mtime < before:
                    home.remove_tree(name)

"""A new project's first files are gathered in a folder beside the projects, and become one in a moment.

So a project is never half there: what failed or was cancelled is thrown away with its folder, and the next
try begins anew. Nothing follows a link, and nothing that a person already has is ever touched. Blocking.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..core.names import folder_name
from .projects import (
    DIRECTORY,
    PROJECT_MODE,
    USER_MODE,
    Workspace,
    WorkspaceError,
    Workspaces,
    admit_new,
    child,
)

PREFIX = ".ds01-new-"
FORGOTTEN_S = 24 * 3600.0
"""Age from which such a folder belongs to nobody: no start takes that long."""
_TOKEN = re.compile(r"[0-9a-f]{8,64}")


def is_new(places: Workspaces, user: str, project: str) -> bool:
    """Whether a project has yet to get its first file: it is missing, or an empty folder."""
    with places.open_root() as root:
        try:
            home = os.open(folder_name(user), DIRECTORY, dir_fd=root)
        except FileNotFoundError:
            return True
        except OSError:
            return False  # a link or a file: `prepare` says so
        try:
            return not _entries(home, project)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        finally:
            os.close(home)


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
    with _home(places, user) as home:
        fcntl.flock(home, fcntl.LOCK_EX)
        admit_new(home, project, admit)
        try:
            if _entries(home, project):
                return False
        except FileNotFoundError:
            os.rename(name, project, src_dir_fd=home, dst_dir_fd=home)
            return True
        # An empty folder may be open in another session of its owner, so it stays the very folder it is.
        staged = os.open(name, DIRECTORY, dir_fd=home)
        folder = os.open(project, DIRECTORY, dir_fd=home)
        try:
            for entry in os.listdir(staged):
                os.rename(entry, entry, src_dir_fd=staged, dst_dir_fd=folder)
        finally:
            os.close(staged)
            os.close(folder)
        os.rmdir(name, dir_fd=home)
    return True


def abandon(places: Workspaces, user: str, token: str) -> None:
    """Remove what was gathered. Idempotent; `WorkspaceError` when something cannot be removed."""
    name = _name(token)
    with places.open_root() as root:
        try:
            home = os.open(folder_name(user), DIRECTORY, dir_fd=root)
        except FileNotFoundError:
            return
        try:
            _remove(home, name)
        except OSError as error:
            raise WorkspaceError(f"what was fetched cannot be removed: {error.strerror}", 503) from error
        finally:
            os.close(home)


def _name(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise WorkspaceError(f"{token!r} is not a token")
    return PREFIX + token


@contextmanager
def _home(places: Workspaces, user: str) -> Iterator[int]:
    """The user's folder, made where it is missing."""
    identity = places.identity(user)
    try:
        with places.open_root() as root, child(root, folder_name(user), identity, USER_MODE) as (home, _):
            yield home
    except OSError as error:
        raise WorkspaceError(f"the new project's folder cannot be made: {error.strerror}", 503) from error


def _entries(home: int, name: str) -> list[str]:
    folder = os.open(name, DIRECTORY, dir_fd=home)
    try:
        return os.listdir(folder)
    finally:
        os.close(folder)


def _sweep(home: int, before: float) -> None:
    """Remove folders of starts that died so long ago that nothing can come of them."""
    for name in os.listdir(home):
        if not name.startswith(PREFIX):
            continue
        with suppress(OSError):
            if os.stat(name, dir_fd=home, follow_symlinks=False).st_mtime < before:
                _remove(home, name)


def _remove(home: int, name: str) -> None:
    """Remove a folder of any depth with two descriptors: folders below are lifted to the top first."""
    try:
        top = os.open(name, DIRECTORY, dir_fd=home)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(top, fcntl.LOCK_EX)  # two may clear at once: a start that ends, and the service
        lifted = uuid.uuid4().hex  # a name that no repository can have thought of
        waiting = [""]
        count = 0
        while waiting:
            here = waiting.pop()
            folder = os.open(here, DIRECTORY, dir_fd=top) if here else os.dup(top)
            try:
                for entry in os.listdir(folder):
                    if not _is_folder(folder, entry):
                        os.unlink(entry, dir_fd=folder)
                        continue
                    count += 1
                    waiting.append(f"{PREFIX}{lifted}-{count}")
                    os.rename(entry, waiting[-1], src_dir_fd=folder, dst_dir_fd=top)
            finally:
                os.close(folder)
            if here:
                os.rmdir(here, dir_fd=top)
        with suppress(FileNotFoundError):
            os.rmdir(name, dir_fd=home)
    finally:
        os.close(top)


def _is_folder(folder: int, name: str) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)

"""Projects on disk: made by us with the right owner, reached without following a single link.

Everything goes through directory file descriptors opened with ``O_NOFOLLOW``, so a symlink that a
user plants anywhere below the root is refused, never followed. Blocking: call from a thread.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DS01Error
from ..core.names import folder_name, unix_name
from ..policy.options import is_project_name
from .identity import Identity, fixed_identity, next_uid, owners, uid_range

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
USER_MODE, PROJECT_MODE = 0o750, 0o2770
MAX_LISTED = 500


class WorkspaceError(DS01Error):
    """The workspace cannot be used; the message says why, in words for its owner.

    ``status`` is the HTTP status that fits: 400 where another project would do, 503 where none would.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Project:
    """A project as listed: its name and when its folder last changed (seconds since the epoch)."""

    name: str
    changed: float


@dataclass(frozen=True)
class Workspace:
    """A project ready to be mounted."""

    path: Path
    identity: Identity
    created: bool


class Workspaces:
    """All workspaces under one root.

    ``mapping`` is the identity mapping (see `identity`). ``root`` must exist: a missing root is a
    mistake in the set-up or a file system that is not mounted, and is never created here.
    """

    def __init__(self, root: Path, mapping: str = "range") -> None:
        self.root = root
        self.mapping = mapping

    def prepare(
        self, user: str, project: str, admit: Callable[[int], None] = lambda count: None
    ) -> Workspace:
        """Make ``<root>/<user>/<project>`` with the right owner if it is not there, and check it if it is.

        ``admit`` raises where a new project is one too many; it gets how many there are, counted under the
        lock that makes one.
        """
        if not is_project_name(project):
            raise WorkspaceError(f"{project!r} is not a project name")
        with self.open_root() as root:
            identity = self._identity(root, user)
            with child(root, folder_name(user), identity, USER_MODE) as (home, _):
                # Two starts at once: the second must not see the folder before it has its owner.
                fcntl.flock(home, fcntl.LOCK_EX)
                admit_new(home, project, admit)
                with child(home, project, identity, PROJECT_MODE) as (folder, created):
                    self._check_owner(folder, identity, project)
        return Workspace(self.root / folder_name(user) / project, identity, created)

    def find(self, user: str, project: str) -> Workspace | None:
        """A project that is there, for its owner; None, with nothing made, where it is not.

        `WorkspaceError` where something else has its name.
        """
        if not is_project_name(project):
            raise WorkspaceError(f"{project!r} is not a project name")
        try:
            with self.open_root() as root:
                os.stat(folder_name(user), dir_fd=root, follow_symlinks=False)
                home = os.open(folder_name(user), DIRECTORY, dir_fd=root)
                try:
                    os.stat(project, dir_fd=home, follow_symlinks=False)
                finally:
                    os.close(home)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorkspaceError(f"your projects cannot be opened: {error.strerror}") from error
        return self.prepare(user, project)

    def projects(self, user: str) -> list[Project]:
        """The user's projects, newest first; links and odd names are not projects."""
        found = []
        try:
            with self.open_root() as root:
                home = os.open(folder_name(user), DIRECTORY, dir_fd=root)
                try:
                    with os.scandir(home) as entries:
                        for entry in entries:
                            if is_project_name(entry.name) and entry.is_dir(follow_symlinks=False):
                                changed = entry.stat(follow_symlinks=False).st_mtime
                                found.append(Project(entry.name, changed))
                finally:
                    os.close(home)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise WorkspaceError(f"your projects cannot be listed: {error.strerror}") from error
        return sorted(found, key=lambda p: (-p.changed, p.name))[:MAX_LISTED]

    def identity(self, user: str) -> Identity:
        """Who the user's sessions run as; the first time, their folder is made to remember it."""
        with self.open_root() as root:
            return self._identity(root, user)

    @contextmanager
    def open_root(self) -> Iterator[int]:
        """A descriptor of the root; `WorkspaceError` when it is not there."""
        try:
            descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise WorkspaceError(
                f"the workspace storage is not available ({error.strerror}); tell the administrator", 503
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _identity(self, root: int, user: str) -> Identity:
        fixed = fixed_identity(self.mapping, user)
        if fixed:
            return fixed
        first, last = uid_range(self.mapping)
        # The lock spans look and make, so that two first starts never get one uid.
        fcntl.flock(root, fcntl.LOCK_EX)
        try:
            folder = folder_name(user)
            try:
                entry = os.stat(folder, dir_fd=root, follow_symlinks=False)
            except FileNotFoundError:
                uid = next_uid(owners(self.root), first, last)
                identity = Identity(uid, uid, unix_name(user))
                with child(root, folder, identity, USER_MODE):
                    return identity
            if not stat.S_ISDIR(entry.st_mode) or not first <= entry.st_uid <= last:
                raise WorkspaceError(
                    f"the folder {folder!r} in the workspace storage is not a user folder of this site "
                    "(it is a link, or its owner is outside the site's range); tell the administrator",
                    503,
                )
            return Identity(entry.st_uid, entry.st_gid, unix_name(user))
        finally:
            fcntl.flock(root, fcntl.LOCK_UN)

    @staticmethod
    def _check_owner(folder: int, identity: Identity, project: str) -> None:
        owner = os.fstat(folder).st_uid
        if owner != identity.uid:
            raise WorkspaceError(
                f"the project {project!r} belongs to another account, so it cannot be opened as yours"
            )


def admit_new(home: int, project: str, admit: Callable[[int], None]) -> None:
    """Ask whether a project that is not there may be made. The caller holds the lock on ``home``."""
    names = os.listdir(home)
    if project not in names:
        admit(sum(is_project_name(name) for name in names))


@contextmanager
def child(parent: int, name: str, identity: Identity, mode: int) -> Iterator[tuple[int, bool]]:
    """Open a folder below ``parent`` without following links, making it for ``identity`` if missing."""
    created = False
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
        created = True
    except FileExistsError:
        pass
    except OSError as error:
        raise WorkspaceError(f"the folder {name!r} cannot be made: {error.strerror}") from error
    try:
        descriptor = os.open(name, DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise WorkspaceError(
            f"{name!r} in your workspace is a link or a file, not a folder; projects are plain folders"
        ) from error
    try:
        if created:
            _give(descriptor, parent, name, identity, mode)
        yield descriptor, created
    finally:
        os.close(descriptor)


def _give(descriptor: int, parent: int, name: str, identity: Identity, mode: int) -> None:
    """Give a folder just made to its owner; it does not stay if that fails."""
    try:
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (identity.uid, identity.gid):
            os.fchown(descriptor, identity.uid, identity.gid)
        os.fchmod(descriptor, mode)
    except OSError as error:
        os.rmdir(name, dir_fd=parent)
        raise WorkspaceError(
            f"the folder {name!r} cannot be given to uid {identity.uid} ({error.strerror}); "
            "the hub needs the right to do that, tell the administrator",
            503,
        ) from error

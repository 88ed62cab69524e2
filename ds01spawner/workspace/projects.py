"""Projects on disk: made by us with the right owner, reached without following a single link.

Everything goes through `safefs`, so a symlink that a user plants anywhere below the root is refused, never
followed. Blocking: call from a thread.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DS01Error
from ..core.names import folder_name, unix_name
from ..policy.options import is_project_name
from .identity import Identity, fixed_identity, next_uid, owners, uid_range
from .safefs import Folder, Owner
from .safewalk import Bounds, Walk

USER_MODE, PROJECT_MODE = 0o750, 0o2770
MAX_LISTED = 500
MAX_SEEN = 100_000
"""Names looked at in a person's folder."""


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
            # Two starts at once: the second must not see the folder before it has its owner.
            with child(root, folder_name(user), identity, USER_MODE) as (home, _), home.locked():
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
            with self.open_root() as root, root.child(folder_name(user)) as home:
                home.look(project)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WorkspaceError(f"your projects cannot be opened: {error.strerror}") from error
        return self.prepare(user, project)

    def projects(self, user: str) -> list[Project]:
        """The user's projects, newest first; links and odd names are not projects."""
        found = []
        try:
            with self.open_root() as root, root.child(folder_name(user)) as home:
                for entry in Walk(home, Bounds(entries=MAX_SEEN, depth=0)):
                    if is_project_name(entry.name) and entry.is_folder:
                        found.append(Project(entry.name, entry.status.st_mtime))
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
    def open_root(self) -> Iterator[Folder]:
        """The root; `WorkspaceError` when it is not there."""
        try:
            folder = Folder.open(self.root)
        except OSError as error:
            raise WorkspaceError(
                f"the workspace storage is not available ({error.strerror}); tell the administrator", 503
            ) from error
        with folder:
            yield folder

    def _identity(self, root: Folder, user: str) -> Identity:
        fixed = fixed_identity(self.mapping, user)
        if fixed:
            return fixed
        first, last = uid_range(self.mapping)
        with root.locked():  # over look and make, so that two first starts never get one uid
            folder = folder_name(user)
            try:
                entry = root.look(folder)
            except FileNotFoundError:
                uid = next_uid(owners(root), first, last)
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

    @staticmethod
    def _check_owner(folder: Folder, identity: Identity, project: str) -> None:
        if folder.status().st_uid != identity.uid:
            raise WorkspaceError(
                f"the project {project!r} belongs to another account, so it cannot be opened as yours"
            )


def admit_new(home: Folder, project: str, admit: Callable[[int], None]) -> None:
    """Ask whether a project that is not there may be made. The caller holds the lock on ``home``."""
    names = home.names()
    if project not in names:
        admit(sum(is_project_name(name) for name in names))


@contextmanager
def child(parent: Folder, name: str, identity: Identity, mode: int) -> Iterator[tuple[Folder, bool]]:
    """A folder below ``parent``, and whether it was made for ``identity`` now because it was missing."""
    try:
        folder, made = parent.make(name, mode, Owner(identity.uid, identity.gid))
    except NotADirectoryError as error:
        raise WorkspaceError(
            f"{name!r} in your workspace is a link or a file, not a folder; projects are plain folders"
        ) from error
    except PermissionError as error:
        raise WorkspaceError(
            f"the folder {name!r} cannot be given to uid {identity.uid} ({error.strerror}); "
            "the hub needs the right to do that, tell the administrator",
            503,
        ) from error
    except OSError as error:
        raise WorkspaceError(f"the folder {name!r} cannot be made: {error.strerror}") from error
    with folder:
        yield folder, made

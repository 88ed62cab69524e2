"""Templates of the site: folders whose files a new project can begin with. Blocking.

Each folder below the site's folder of templates is one, if its name could be a project's. The site's
folder is trusted to be what the administrator put there; the user's is not. Files that the project's owner
could not read are left out, and so are links that lead out of the template.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

from ..policy.options import is_project_name
from .identity import Identity
from .projectfiles import ProjectFileError, ProjectFiles
from .safefs import Folder
from .safewalk import Bounds, Walk
from .starter_files import unpack

DESCRIPTION = ".description"
"""A file of one line that describes a template; it is not copied."""
MAX_TEMPLATE = 100 * 2**20
MAX_TEMPLATES, MAX_SEEN = 100, 10_000
MAX_TEXT = 160


@dataclass(frozen=True)
class Template:
    """A template as it is offered."""

    name: str
    description: str = ""


def templates(folder: Path | None) -> tuple[Template, ...]:
    """The templates in ``folder``, by name; none where there is no folder or it cannot be read."""
    if folder is None:
        return ()
    try:
        with Folder.open(folder) as top:
            entries = Walk(top, Bounds(entries=MAX_SEEN, depth=0))
            found = [e.name for e in entries if is_project_name(e.name) and e.is_folder]
    except OSError:
        return ()
    return tuple(Template(name, _description(folder / name)) for name in sorted(found)[:MAX_TEMPLATES])


def copy_template(folder: Path, name: str, target: ProjectFiles) -> int:
    """Copy the template ``name`` into an empty project as its owner's; returns how many files and folders.

    `ProjectFileError` when it is not there, or larger than `MAX_TEMPLATE`.
    """
    if not is_project_name(name):
        raise ProjectFileError(f"{name!r} is not the name of a template")
    # What the project's owner could not read is not theirs to get: the identity bounds the reading.
    packed = ProjectFiles(folder, (name,), target.uid, target.gid).pack(MAX_TEMPLATE, {}, DESCRIPTION)
    with packed.file as file, tarfile.open(fileobj=file) as tar:
        unpack(tar, target)
    return packed.count


def files_of(root: Path, path: Path, identity: Identity) -> ProjectFiles:
    """The files of a workspace's folder ``path`` below ``root``."""
    return ProjectFiles(root, path.relative_to(root).parts, identity.uid, identity.gid)


def _description(folder: Path) -> str:
    for name in (DESCRIPTION, "README.md"):
        try:
            with (folder / name).open(encoding="utf-8", errors="replace") as file:
                text = file.read(4096)
        except OSError:
            continue
        line = next((stripped for raw in text.splitlines() if (stripped := raw.strip(" #\t"))), "")
        if line:
            return line[:MAX_TEXT]
    return ""

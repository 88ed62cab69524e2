"""Moving a person's whole workspace to another name, as when they are renamed. Blocking."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.errors import DS01Error
from ..core.names import folder_name
from .projects import Workspaces


@dataclass(frozen=True)
class Folders:
    """Whether the folders of the old and the new name exist."""

    old: bool
    new: bool


def folders(workspaces: Workspaces, old: str, new: str) -> Folders:
    """What is there under both names; a link counts as something that is there."""
    with workspaces.open_root() as root:
        return Folders(root.has(folder_name(old)), root.has(folder_name(new)))


def move(workspaces: Workspaces, old: str, new: str) -> bool:
    """Give the folder of ``old`` the name of ``new``; False where there is none. Never over another one."""
    with workspaces.open_root() as root:
        if not root.has(folder_name(old)):
            return False
        if root.has(folder_name(new)):
            raise DS01Error(f"{workspaces.root / folder_name(new)} is there already")
        try:
            root.rename(folder_name(old), folder_name(new))
        except OSError as error:
            raise DS01Error(f"{workspaces.root / folder_name(old)} cannot be moved: {error}") from error
    return True

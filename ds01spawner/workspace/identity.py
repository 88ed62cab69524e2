"""Which uid and gid a person's session runs as. The owner of the user's folder is the record.

Three mappings: ``system`` (the account of that name on this host), ``range`` (the next free number
of a range, remembered by the folder's owner) and ``UID:GID`` (one identity for everyone).
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ..core.errors import DS01Error
from ..core.names import unix_name
from .safefs import Folder
from .safewalk import Bounds, Walk

DEFAULT_RANGE = (20000, 59999)


@dataclass(frozen=True)
class Identity:
    """Who a session is inside its container."""

    uid: int
    gid: int
    name: str
    """Unix name, as ``whoami`` answers it."""

    @property
    def home(self) -> str:
        """Home directory inside the container; it goes with the container."""
        return f"/home/{self.name}"


class IdentityError(DS01Error):
    """No uid can be given to this person; the message says why and what to do."""


def fixed_identity(mapping: str, user: str) -> Identity | None:
    """The identity for mappings that need no folder (``system``, ``UID:GID``), None for ``range``."""
    name = unix_name(user)
    if mapping == "range" or mapping.startswith("range:"):
        return None
    if mapping == "system":
        try:
            entry = pwd.getpwnam(user)
        except KeyError:
            raise IdentityError(
                f"there is no account {user!r} on this host; sessions run as the host's accounts here, "
                "so ask the administrator to create it"
            ) from None
        if entry.pw_uid == 0:
            raise IdentityError("a session never runs as root")
        return Identity(entry.pw_uid, entry.pw_gid, name)
    match = re.fullmatch(r"([0-9]{1,10}):([0-9]{1,10})", mapping)
    if not match or int(match[1]) == 0:
        raise IdentityError(
            f"the identity mapping {mapping!r} is not system, range, range:FIRST-LAST or UID:GID (not 0)"
        )
    return Identity(int(match[1]), int(match[2]), name)


def uid_range(mapping: str) -> tuple[int, int]:
    """First and last uid of a ``range`` mapping."""
    if mapping == "range":
        return DEFAULT_RANGE
    match = re.fullmatch(r"range:([0-9]{1,10})-([0-9]{1,10})", mapping)
    if not match or not 0 < int(match[1]) <= int(match[2]):
        raise IdentityError(f"the identity mapping {mapping!r} is not range:FIRST-LAST")
    return int(match[1]), int(match[2])


def next_uid(taken: Iterable[int], first: int, last: int) -> int:
    """The next unused uid of a range: one above the highest, so that a removed user's is not reused."""
    highest = max((u for u in taken if first <= u <= last), default=first - 1)
    if highest >= last:
        raise IdentityError(f"the uid range {first}-{last} is used up; the administrator can widen it")
    return highest + 1


def owners(root: Folder) -> list[int]:
    """Uids of the user folders under the workspace root. All of them count: none may be given twice."""
    walk = Walk(root, Bounds(depth=0))
    found = [entry.status.st_uid for entry in walk if entry.is_folder]
    if walk.seen >= Bounds.entries:
        raise IdentityError("the workspace root has too many folders to know which uid is free")
    return found

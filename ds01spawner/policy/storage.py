"""Workspaces by the policy: how many projects, and the site's own quota command. Pure; runs nothing."""

from __future__ import annotations

from collections.abc import Callable

from .. import messages
from ..core.errors import Refused
from .resolve import Limits


def project_room(limits: Limits) -> Callable[[int], None]:
    """Raises `Refused` where a person who has so many projects may have no further one."""
    most = limits.storage.projects

    def admit(count: int) -> None:
        if most is not None and count >= most:
            raise Refused(messages.too_many_projects(count, most, limits.source("storage.projects")))

    return admit


def quota_command(limits: Limits, user: str, uid: int, path: str) -> list[str] | None:
    """Program and arguments that give ``path`` its quota, or None where the policy names none.

    ``{user}``, ``{uid}``, ``{path}``, ``{quota}`` (bytes) and ``{quota_kib}`` are filled in, each inside
    its own argument: nothing passes through a shell, so no name can add an argument or a command.
    """
    template, quota = limits.storage.quota_command, limits.storage.quota
    if not template or quota is None:
        return None
    values = {
        "{user}": user,
        "{uid}": str(uid),
        "{path}": path,
        "{quota}": str(quota),
        "{quota_kib}": str(quota // 1024),
    }
    return [_filled(argument, values) for argument in template]


def _filled(argument: str, values: dict[str, str]) -> str:
    # Piece by piece, so that a brace in a name or a path is never read as a placeholder.
    filled, rest = "", argument
    while rest:
        name = next((n for n in values if rest.startswith(n)), None)
        filled += values[name] if name else rest[0]
        rest = rest[len(name) if name else 1 :]
    return filled

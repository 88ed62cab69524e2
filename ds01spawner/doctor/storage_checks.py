"""The disks and folders of a site."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..core import text
from ..core.errors import DS01Error
from ..core.settings import Settings
from ..engines.base import Finding
from ..site import Site
from ..workspace.disk import free_bytes

LOW_SPACE = 5 * 2**30


def check_disk(settings: Settings) -> Iterator[Finding]:
    places = [("workspaces", settings.workspace_root), ("state", settings.state_dir)]
    site = Site(settings)
    try:
        site.engine.capabilities()
        if site.engine.capacity().storage:
            places.append(("engine", Path(site.engine.capacity().storage)))
    except DS01Error:
        pass  # the engine's own area says so
    for name, path in places:
        free = free_bytes(path)
        if free is None:
            mend = "make the folder, or mount its disk"
            yield Finding("error", f"{name}: {path} cannot be read", "no session can start", mend)
        elif free < LOW_SPACE:
            why = "starts are refused when the policy's minimum is reached"
            yield Finding("warning", f"{name}: {text.size(free)} free at {path}", why, "make space")
        else:
            yield Finding("ok", f"{name}: {text.size(free)} free at {path}")
    if not os.access(settings.workspace_root, os.W_OK):
        yield Finding("error", f"{settings.workspace_root} cannot be written", "no project can be made")

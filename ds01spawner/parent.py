"""A service that the hub started ends when that hub is gone, so that the next hub's has no rival."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

INTERVAL_S = 1.0
PARENT = os.getppid()
"""Who started this process, noted before that can have gone away."""


async def until_orphaned(env: Mapping[str, str], interval: float = INTERVAL_S) -> None:
    """Return when the process that started this one is gone; never for one that no hub started.

    JupyterHub ends its services in a good shutdown; after a crash they would live on, with a token the
    next hub does not know and with the port its own service needs.
    """
    if not env.get("JUPYTERHUB_SERVICE_NAME"):
        await asyncio.Event().wait()
    while os.getppid() == PARENT:  # noqa: ASYNC110  (the kernel sends no event for it)
        await asyncio.sleep(interval)

"""The idle decision as ``cull_arbiter_hook`` of jupyterhub-idle-culler 2, for sites that keep its loop.

In ``idle_culler_config.py``::

    from ds01spawner.idle.wiring import arbiter
    c.IdleCuller.cull_arbiter_hook = arbiter()
    c.IdleCuller.cull_every = 60
    c.IdleCuller.max_age = 0  # any other value overrules the decision; a lifetime belongs into the policy

Warnings, reasons and keep-alive are the same as with the service; only the stops are made by that loop,
one user after the other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from .case import Case
from .service import IdleService

log = logging.getLogger(__name__)


class Arbiter:
    """Answers for one server at a time out of one look at all of them."""

    def __init__(self, service: IdleService) -> None:
        self._service = service
        self._cases: dict[str, Case] = {}
        self._looked: float | None = None
        self._lock: asyncio.Lock | None = None

    async def __call__(self, *, inactive: Any, inactive_limit: Any, server: Mapping[str, Any]) -> bool:
        """Whether to stop ``server`` now. The culler's own idea of inactivity is not used.

        False for a server that is not ours, and whenever anything fails.
        """
        try:
            await self._refresh()
            case = self._cases.get(str(server.get("full_name", "")))
            if case is None or case.decision.state != "retire":
                return False
            return await self._service.confirm(case) is not None
        except Exception:
            log.exception("The server %s is kept", server.get("full_name"))
            return False

    async def _refresh(self) -> None:
        self._lock = self._lock or asyncio.Lock()
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._looked is not None and loop.time() - self._looked < self._service.settled.poll / 2:
                return
            self._cases = {}
            cases = await self._service.observe()
            self._cases = {f"{c.session.user}/{c.session.server}": c for c in cases}
            self._looked = loop.time()

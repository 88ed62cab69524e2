"""Runs the reconciler beside the handlers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from .. import ends, layerwatch
from ..context import Context
from ..housekeeping import keep_tidy, keep_watch
from ..reconciler import Reconciler

_tasks: list[asyncio.Task[None]] = []
_over = threading.Event()


def routes() -> list[Any]:
    """It has no pages."""
    return []


async def start(context: Context) -> None:
    """Begin to tidy, to finish retirements and to find sessions that nobody owns."""
    _tasks.append(asyncio.create_task(keep_tidy(context.site, context.clock)))
    _tasks.append(asyncio.create_task(keep_watch(context.site, context.clock)))
    sizes: dict[str, int] = {}
    context.extra["layers"] = sizes
    _tasks.append(asyncio.create_task(layerwatch.keep_watch(context.site, context.hub, context.clock, sizes)))
    _over.clear()
    threading.Thread(target=ends.run, args=(context.site, _over), name="ds01-ends", daemon=True).start()
    reconciler = Reconciler(context.site, context.hub, context.clock, context.snapshots.forget)
    _tasks.append(asyncio.create_task(reconciler.run()))


async def stop(context: Context) -> None:
    """Stop tidying."""
    _over.set()
    while _tasks:
        _tasks.pop().cancel()

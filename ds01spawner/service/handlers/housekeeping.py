"""Runs the reconciler beside the handlers."""

from __future__ import annotations

import asyncio
from typing import Any

from ..context import Context
from ..housekeeping import keep_tidy, keep_watch

_tasks: list[asyncio.Task[None]] = []


def routes() -> list[Any]:
    """It has no pages."""
    return []


async def start(context: Context) -> None:
    """Begin to tidy."""
    _tasks.append(asyncio.create_task(keep_tidy(context.site, context.clock)))
    _tasks.append(asyncio.create_task(keep_watch(context.site, context.clock)))


async def stop(context: Context) -> None:
    """Stop tidying."""
    while _tasks:
        _tasks.pop().cancel()

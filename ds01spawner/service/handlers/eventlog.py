"""Hands the store's events to the site's own handlers, through `jupyter_events`."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from jupyter_events import EventLogger

from ...core.errors import DS01Error, StoreError
from ...idle.wiring import load_hook
from ...store.events import EventStream
from ..context import Context

INTERVAL_S = 5.0
log = logging.getLogger(__name__)


def routes() -> list[tuple[str, Any]]:
    """It has no pages."""
    return []


def handlers(names: tuple[str, ...]) -> list[logging.Handler]:
    """The handlers that the named functions return; what cannot be had is logged."""
    found = []
    for name in names:
        try:
            made = load_hook(name)()
        except DS01Error as error:
            log.error("%s", error)
            continue
        found += made if isinstance(made, list) else [made]
    return found


async def publish(context: Context, interval: float = INTERVAL_S) -> None:
    """Publish for ever: each event at least once and in order, also those of an earlier process."""
    logger = EventLogger(handlers=handlers(context.settings.event_handlers))
    stream: EventStream | None = None

    def work() -> int:
        nonlocal stream
        if stream is None:
            store = context.site.store()
            stream = EventStream(store.events, store.facts, logger)
        return stream.publish(context.clock())

    while True:
        try:
            while await asyncio.to_thread(work):
                pass
        except StoreError as error:
            log.warning("Events wait for the store: %s", error)
        except Exception:
            log.exception("Events could not be published")
        await asyncio.sleep(interval)


async def start(context: Context) -> None:
    """Begin, where somebody listens: without handlers nothing is marked as published."""
    if context.settings.event_handlers:
        context.extra["eventlog.task"] = asyncio.create_task(publish(context))


async def stop(context: Context) -> None:
    """End."""
    task = context.extra.pop("eventlog.task", None)
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

"""Telling people what became of their place in the queue: on the hub's pages, by mail, chat or webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from ..idle.notices import Kind, Notice, Notifier
from ..store import Store

SHOWN_FOR = timedelta(hours=12)


class Teller:
    """Writes a notice, then sends it by the site's channels, which never hold up the queue."""

    def __init__(
        self,
        store: Callable[[], Store],
        clock: Callable[[], datetime],
        notifier: Notifier | None = None,
        link: Callable[[str, str], str] = lambda user, server: "",
    ) -> None:
        """``link`` gives the address of a user's session."""
        self._store, self._clock, self._notifier, self._link = store, clock, notifier, link
        self._sending: set[asyncio.Task[Any]] = set()

    def started(self, row: Mapping[str, Any]) -> None:
        """The session runs. Returns at once."""
        project = row["options"].get("project") or "default"
        at = self._link(row["user"], row["server"])
        text = f"Your session on {project} has started from the queue" + (f": {at}" if at else ".")
        task = asyncio.ensure_future(self._tell(row, "started", "info", text))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def failed(self, row: Mapping[str, Any], why: str) -> None:
        """The place is over without a session."""
        text = f"Your session from the queue could not be started: {why}"
        await self._tell(row, "failed", "danger", text)

    async def _tell(self, row: Mapping[str, Any], kind: Kind, level: str, text: str) -> None:
        now, key = self._clock(), f"ticket:{row['id']}:{kind}"
        project = row["options"].get("project") or "default"
        end = now + SHOWN_FOR if kind == "started" else None
        await asyncio.to_thread(
            lambda: self._store().add_notice(
                row["user"],
                text,
                now,
                kind="queue",
                level=level,
                server=row["server"],
                key=key,
                expires_at=end,
            )
        )
        if self._notifier is not None:
            about = Notice(
                kind, key, row["user"], row["server"], row["id"], project, text, now, cause="queue"
            )
            await self._notifier.send(about)

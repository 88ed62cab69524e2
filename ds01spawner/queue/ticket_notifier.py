"""Telling people what became of their place in the queue: on the hub's pages, by mail, chat or webhook."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from ..notify.channels import Kind, Notice, Notifier
from ..store import Store
from ..store.rows import TicketRow

SHOWN_FOR = timedelta(hours=12)


def key_of(ticket: str, kind: str) -> str:
    """The key of a place's notice: each is written, and sent, once."""
    return f"ticket:{ticket}:{kind}"


class TicketNotifier:
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
        self._refused: set[str] = set()

    def started(self, row: TicketRow) -> None:
        """The session runs. Returns at once."""
        project = row.options.get("project") or "default"
        at = self._link(row.user, row.server)
        text = f"Your session on {project} has started from the queue" + (f": {at}" if at else ".")
        self._in_background(self._tell(row, "started", "info", text))

    async def failed(self, row: TicketRow, why: str) -> None:
        """The place is over without a session."""
        text = f"Your session from the queue could not be started: {why}"
        await self._tell(row, "failed", "danger", text)

    def expired(self, row: TicketRow, text: str) -> None:
        """The place is over; its notice was written with that. Returns at once."""
        self._in_background(self._send(row, "expired", text))

    def refused(self, row: TicketRow, why: str) -> None:
        """It could not start even if it were its turn; told once for each place. Returns at once."""
        if row.id not in self._refused:
            self._refused.add(row.id)
            text = f"Your place in the queue cannot become a session as things are. {why}"
            self._in_background(self._tell(row, "refused", "warning", text))

    async def settled(self) -> None:
        """Return when everything is sent."""
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _in_background(self, telling: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(telling)
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _tell(self, row: TicketRow, kind: Kind, level: str, text: str) -> None:
        if await asyncio.to_thread(self._write, row, kind, level, text):
            await self._send(row, kind, text)

    def _write(self, row: TicketRow, kind: Kind, level: str, text: str) -> bool:
        """Whether it is new; what an earlier process has told is not told again."""
        store, now, key = self._store(), self._clock(), key_of(row.id, kind)
        if store.notices.by_key(key) is not None:
            return False
        end = now + SHOWN_FOR if kind == "started" else None
        store.notices.add(
            row.user, text, now, kind="queue", level=level, server=row.server, key=key, expires_at=end
        )
        return True

    async def _send(self, row: TicketRow, kind: Kind, text: str) -> None:
        if self._notifier is None:
            return
        project = row.options.get("project") or "default"
        about = Notice(
            kind,
            key_of(row.id, kind),
            row.user,
            row.server,
            row.id,
            project,
            text,
            self._clock(),
            cause="queue",
        )
        await self._notifier.send(about)

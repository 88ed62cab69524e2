"""Where a person sees what happens to a session: hub pages, a file in the workspace, mail, webhook.

The first two are *places to see*: a warning counts as visible once either of them holds it. Mail and
webhooks reach a person who is away, are best effort, and are sent at most once in a while for the same
session, so that a warning that comes and goes does not fill a mailbox.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol
from weakref import WeakValueDictionary

from tornado.httpclient import AsyncHTTPClient, HTTPRequest

from ..core.text import stamp
from ..store import Store
from ..store.rows import NoticeRow
from ..workspace.session_files import ProjectFolder

log = logging.getLogger(__name__)
Kind = Literal["warning", "withdrawn", "retired", "kept", "started", "failed", "expired", "refused"]
COOLDOWN = 900.0
"""Seconds between two mails or webhook calls of the same kind for one session."""
TIMEOUT = 10.0
LINES = 20
"""Notices kept in the workspace file."""


@dataclass(frozen=True)
class Notice:
    """One message to a session's owner. ``key`` is the same as long as it is about the same warning."""

    kind: Kind
    key: str
    user: str
    server: str
    session: str
    project: str
    text: str
    at: datetime
    retire_at: datetime | None = None
    cause: str = ""


class Channel(Protocol):
    """A way to reach a person. ``shows``: its owner can see the notice there at any time."""

    name: str
    shows: bool

    async def deliver(self, notice: Notice) -> None:
        """Deliver or raise."""


class BannerChannel:
    """The store's notices, which every hub page of the owner shows until dismissed or over."""

    name, shows = "banner", True

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store

    async def deliver(self, notice: Notice) -> None:
        """Write, end or replace the notice."""
        await asyncio.to_thread(self._write, notice)

    def _write(self, notice: Notice) -> None:
        store = self._store()
        if notice.kind == "withdrawn":
            store.notices.expire(notice.key, notice.at)
            return
        if notice.kind == "retired":
            return  # the session's record has the reason; the next page shows it from there
        store.notices.add(
            notice.user,
            notice.text,
            notice.at,
            kind=notice.cause or notice.kind,
            level="warning" if notice.kind == "warning" else "info",
            server=notice.server,
            session=notice.session,
            expires_at=_expiry(notice),
            key=notice.key,
            data={"retire_at": notice.retire_at.isoformat()} if notice.retire_at else {},
        )


class FileChannel:
    """``/workspace/.ds01/notices``: what happened to this session, for terminals and programs."""

    name, shows = "file", True

    def __init__(self, folder: Callable[[str, str], ProjectFolder]) -> None:
        self._folder = folder
        self._locks: WeakValueDictionary[tuple[str, str], _Lock] = WeakValueDictionary()

    async def deliver(self, notice: Notice) -> None:
        """Add a line; the last ones stay, also those of sessions before."""
        # Two sessions may share a project, and each notice rewrites the file.
        lock = self._locks.setdefault((notice.user, notice.project), _Lock())
        await asyncio.to_thread(self._write, notice, lock)

    def _write(self, notice: Notice, lock: _Lock) -> None:
        line = f"{stamp(notice.at)}  {' '.join(notice.text.split())}"
        folder = self._folder(notice.user, notice.project)
        with lock.held:
            lines = folder.read_notices().splitlines()
            if line not in lines:
                folder.write_notices("\n".join([*lines, line][-LINES:]) + "\n")


class _Lock:
    """A lock that can be referred to weakly."""

    def __init__(self) -> None:
        self.held = threading.Lock()


class LabChannel:
    """Inside an open JupyterLab, where its image can. No place to see: a closed tab shows nothing."""

    name, shows, every = "lab", False, True

    def __init__(self, show: Callable[[str, str, str], Awaitable[bool]]) -> None:
        self._show = show

    async def deliver(self, notice: Notice) -> None:
        """Ask the session's own server; one that cannot is no failure."""
        if notice.kind != "retired":
            await self._show(notice.session, notice.text, "warning" if notice.kind == "warning" else "info")


class HookChannel:
    """A function of the site's own, plain or async: mail, chat, pager. A plain one runs in a thread."""

    shows = False

    def __init__(self, hook: Callable[[Notice], Awaitable[None] | None], name: str = "hook") -> None:
        self._hook, self.name = hook, name

    async def deliver(self, notice: Notice) -> None:
        """Call the function."""
        if asyncio.iscoroutinefunction(self._hook):
            await self._hook(notice)
        else:
            await asyncio.to_thread(self._hook, notice)


class WebhookChannel:
    """POSTs each notice as JSON to one address."""

    name, shows = "webhook", False

    def __init__(self, url: str) -> None:
        self._url = url

    async def deliver(self, notice: Notice) -> None:
        """POST; any status but 2xx raises."""
        await AsyncHTTPClient().fetch(
            HTTPRequest(
                self._url,
                method="POST",
                headers={"Content-Type": "application/json"},
                body=json.dumps(asdict(notice), default=_iso),
                request_timeout=TIMEOUT,
                connect_timeout=TIMEOUT,
                follow_redirects=False,
            )
        )


class Notifier:
    """Delivers to all channels at once; one that fails or hangs does not hold up the others."""

    def __init__(self, channels: Sequence[Channel], timeout: float = TIMEOUT) -> None:
        self.channels, self._timeout = tuple(channels), timeout
        self._sent: dict[tuple[str, str, str], datetime] = {}

    async def send(self, notice: Notice) -> bool:
        """Whether the notice can be seen in at least one place."""
        due = [c for c in self.channels if c.shows or self._may_send(c, notice)]
        results = await asyncio.gather(*(self._deliver(c, notice) for c in due))
        return any(ok and channel.shows for ok, channel in zip(results, due, strict=True))

    def _may_send(self, channel: Channel, notice: Notice) -> bool:
        if getattr(channel, "every", False):
            return True
        if notice.kind in ("withdrawn", "kept"):
            return False
        last = self._sent.get((channel.name, notice.session, notice.kind))
        return last is None or (notice.at - last).total_seconds() >= COOLDOWN

    async def _deliver(self, channel: Channel, notice: Notice) -> bool:
        try:
            await asyncio.wait_for(channel.deliver(notice), self._timeout)
        except Exception as error:  # a site's hook may raise anything
            log.warning("Notice for %s not delivered by %s: %r", notice.user, channel.name, error)
            return False
        self._sent[(channel.name, notice.session, notice.kind)] = notice.at
        return True

    def keep_only(self, sessions: Iterable[str]) -> None:
        """Forget sessions that are gone."""
        alive = set(sessions)
        self._sent = {k: v for k, v in self._sent.items() if k[1] in alive}


def banner(store: Store, user: str, now: datetime) -> list[NoticeRow]:
    """What the hub's pages show to ``user`` now, most urgent first; what was dismissed stays away."""
    order = {"danger": 0, "warning": 1}
    found = store.notices.of(user, now)
    return sorted(found, key=lambda n: order.get(n.level, 2))


def _expiry(notice: Notice) -> datetime | None:
    # A warning nobody withdraws (the service died) must not stay on the pages for ever.
    return notice.retire_at + timedelta(hours=1) if notice.retire_at else None


def _iso(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)

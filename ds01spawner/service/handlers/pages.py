"""The service's pages: overview, GPUs, own usage, and the permalink."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from tornado import web

from ...core import text
from ...core.errors import DS01Error, StoreError
from ...core.names import folder_name
from ...hub import form
from ...pages.inputs import Quota
from ...pages.launch_page import QuotaLine, quota_line
from ...policy.options import from_form, parse_options
from ...policy.resolve import Limits
from ...store.rows import SessionRow
from ...store.usage import UsageRow
from ...workspace.spaces import SpaceBook, Spaces
from .. import mine, views
from ..handler_base import PageHandler

NAV = (("", "Overview"), ("gpus", "GPUs"), ("usage", "My usage"))
PERIODS = (7, 30, 90)


class Overview(PageHandler):
    """Who holds what, own sessions, own limits."""

    async def get(self) -> None:
        """Everything of the person on one page."""
        context = self.ctx
        snapshot = await context.snapshots.get()
        limits = await self.limits()
        usage = await asyncio.to_thread(
            context.site.usage_of, self.person, snapshot.ledger, context.clock(), limits
        )
        quotas = form.quotas(limits, usage)
        found = await mine.decisions(context, [r.labels.session for r in snapshot.ledger.sessions])
        self.page(
            "overview.html",
            strip=views.strip(
                snapshot, self.person, context.settings.show_holders, mine.activity(snapshot, found)
            ),
            quotas=[quota_line(q) for q in quotas],
            cards=await mine.cards(context, self.person),
            dialogs=False,
            simulated=snapshot.reading.inventory.mode == "simulated",
        )


class Gpus(PageHandler):
    """Every device with its state, and why."""

    async def get(self) -> None:
        """Names of others only where the site shows them, or to admins."""
        snapshot = await self.ctx.snapshots.get()
        show = self.ctx.settings.show_holders or self.person.admin
        found = await mine.decisions(self.ctx, [r.labels.session for r in snapshot.ledger.sessions])
        self.page(
            "gpus.html",
            strip=views.strip(snapshot, self.person, show, mine.activity(snapshot, found)),
            statuses=snapshot.statuses(self.person),
            show_holders=show,
            inventory=snapshot.reading.inventory,
        )


class Usage(PageHandler):
    """Own GPU-hours, sessions, disk and limits, with the source of every limit."""

    async def get(self) -> None:
        """``days`` picks the period."""
        raw = self.get_query_argument("days", "30")
        days = int(raw) if raw in {str(p) for p in PERIODS} else 30
        now = self.ctx.clock()
        since = now - timedelta(days=days)
        limits = await self.limits()
        name = self.person.name
        problem, hours = "", 0.0
        rows: list[SessionRow] = []
        used: list[UsageRow] = []
        try:
            rows, hours, used = await self.ctx.store(
                lambda store: (
                    store.sessions.find(user=name, limit=200),
                    store.usage.gpu_hours(name, since, now),
                    store.usage.by("project", since, now, user=name),
                )
            )
        except StoreError as error:
            problem = str(error)
        titles = await asyncio.to_thread(self.titles)
        spaces = await self.spaces()
        recent = [r for r in rows if r.started_at >= since or not r.ended_at]
        self.page(
            "usage.html",
            days=days,
            periods=PERIODS,
            problem=problem,
            hours=hours,
            rows=views.history_rows(recent, now, titles),
            quotas=await self.quotas(limits, spaces),
            projects=views.project_rows(spaces, used, name),
            space=views.space_told(spaces, now),
            limits=limits.explain(),
            groups=limits.groups,
        )

    def titles(self) -> dict[str, str]:
        """What the environments that the person may know are called, by their ids. Blocking."""
        try:
            return {e.id: e.name for e in self.ctx.site.environments.all(self.person)}
        except DS01Error:
            return {}  # the page shows the ids: it is not for want of titles that people miss their history

    async def spaces(self) -> Spaces | None:
        """What the person's projects hold, as last measured."""
        book: SpaceBook = self.ctx.extra.setdefault("spaces", SpaceBook(self.ctx.clock))
        folder = self.ctx.settings.workspace_root / folder_name(self.person.name)
        return await book.of(folder)

    async def quotas(self, limits: Limits, spaces: Spaces | None) -> list[QuotaLine]:
        """The person's use where it is limited or worth knowing: disk, sessions, GPU-hours."""
        now = self.ctx.clock()
        snapshot = await self.ctx.snapshots.get()
        running = None if snapshot.problem else len(views.own_sessions(snapshot, self.person.name))
        total, quota = spaces.total if spaces else None, limits.storage.quota
        sure = total is not None and (total.complete or total.bytes >= (quota or 0) > 0)
        disk = total.bytes if total is not None and sure else None
        found = [
            Quota("Disk", disk, quota, source=limits.source("storage.quota"), is_bytes=True),
            Quota("Sessions now", running, limits.session.max, source=limits.source("session.max")),
        ]
        budget, window = limits.gpu.hours.budget, limits.gpu.hours.window
        if budget is not None:
            used, _ = await asyncio.to_thread(self.ctx.site.gpu_hours, self.person, now, limits)
            label, source = f"GPU-hours in {text.duration(window)}", limits.source("gpu.hours.budget")
            found.append(Quota(label, used, budget, "h", source))
        return [quota_line(q) for q in found]


class Start(PageHandler):
    """The permalink: opens the launch page filled in. It never starts anything."""

    async def get(self) -> None:
        """Validate what the link says, choose a server that is free, and go to its launch page."""
        raw = from_form({name: self.get_query_arguments(name) for name in self.request.query_arguments})
        options = parse_options(raw)  # a link with an unknown or bad option says so here
        server = await self.free_server()
        query = urlencode({f"opt-{k}": _flag(v) for k, v in options.stored().items() if k != "profile"})
        url = self.ctx.urls.spawn(self.person.name, server)
        self.redirect(f"{url}?{query}" if query else url)

    async def free_server(self) -> str:
        """The person's default server, or a named one that is not running."""
        user = await self.ctx.hub.user(self.person.name, max_age=2)
        return next(n for n in ("", *(f"s{i}" for i in range(2, 1000))) if not user.is_up(n))


class NotFound(PageHandler):
    """Anything else below the prefix."""

    async def get(self) -> None:
        """A page that says so."""
        raise web.HTTPError(404, "there is no such page")

    post = put = patch = delete = head = options = get


def _flag(value: Any) -> Any:
    return int(value) if isinstance(value, bool) else value


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [(r"", Overview), (r"gpus", Gpus), (r"usage", Usage), (r"start", Start)]

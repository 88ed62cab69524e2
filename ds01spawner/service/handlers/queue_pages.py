"""The queue: its page, its REST API, reservations, and the loop that serves it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tornado import web

from ...core import text
from ...core.errors import DS01Error
from ...core.public_urls import origin_of
from ...idle.wiring import load_hook
from ...notify.channels import Channel, HookChannel, Notifier
from ...notify.mail import channel_for
from ...policy.options import parse_options
from ...queue import booking, joining
from ...queue.joining import TicketJson
from ...queue.runner import Runner
from ...queue.ticket import LIVE
from ...queue.ticket_notifier import TicketNotifier
from ...store.rows import TicketRow
from ..context import Context
from ..handler_base import ApiHandler, PageHandler
from ..openapi import Operation, Operations

NAV = (("queue", "Queue"),)
TICKET = r"([0-9a-f]{1,32})"
REFRESH_S = 5
log = logging.getLogger(__name__)
RECENT = 5
"""Places that are over and still shown to their owner."""


async def line(context: Context, person: Any) -> list[TicketJson]:
    """The line as ``person`` may see it."""
    rows = await context.store(lambda s: s.tickets.find(LIVE))
    return joining.listing(rows, person, context.settings.show_holders)


async def give_up(context: Context, ticket: str, person: Any) -> TicketRow:
    """Cancel a place; a start that is under way for it is stopped."""
    now = context.clock()
    before = await context.store(lambda s: s.tickets.get(ticket))
    row = await context.store(lambda s: joining.cancel(s, ticket, person, now))
    if before is not None and before.state == "starting":
        await context.hub.stop(row.user, row.server)
    return row


class QueueApi(ApiHandler):
    """The line."""

    openapi: ClassVar[Operations] = {
        "get": Operation("The line: own places in full, those of others by class", "The line"),
        "post": Operation(
            "Join the queue: the session starts by itself when it is its turn",
            "The place, also when the same server had one already",
            body={"server": {"type": "string"}, "options": {"type": "object"}},
        ),
    }

    async def get(self) -> None:
        """Everybody's classes, in order."""
        runner = self.ctx.extra.get("queue")
        problem = (runner.problem if runner else "") or None
        self.json({"tickets": await line(self.ctx, self.person), "problem": problem})

    async def post(self) -> None:
        """Join."""
        body = self.body()
        server = body.get("server", "")
        if not isinstance(server, str) or len(server) > 255:
            raise web.HTTPError(400, "server is the name of one of your servers")
        options = parse_options({**_object(body.get("options", {})), "wait": True})
        limits = await self.limits()
        now, person = self.ctx.clock(), self.person
        known = tuple((await self.ctx.hub.user(person.name)).servers) if server else ()
        row = await self.ctx.store(lambda s: joining.join(s, person, limits, options, server, now, known))
        self.set_header("Location", f"{self.ctx.urls.service}api/queue/{row.id}")
        self.json(joining.describe(row), 202)


class TicketApi(ApiHandler):
    """One place."""

    openapi: ClassVar[Operations] = {
        "get": Operation("One's own place, also when it is over", "The place"),
        "delete": Operation("Give the place up", "Done"),
    }

    async def get(self, ticket: str) -> None:
        """In full."""
        person = self.person
        self.json(await self.ctx.store(lambda s: joining.own(s, ticket, person)))

    async def delete(self, ticket: str) -> None:
        """Cancel."""
        row = await give_up(self.ctx, ticket, self.person)
        self.json({"ok": True, "id": row.id, "state": row.state})


class ReservationsApi(ApiHandler):
    """Reservations and when they hold."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Coming reservations", "Reservations"),
        "post": Operation(
            "Reserve devices for a user, group or course (admins)",
            "The reservation",
            body={name: {"type": kind} for name, kind in booking.FIELDS.items()},
        ),
    }

    async def get(self) -> None:
        """Everybody may know when which devices are kept for a course."""
        now = self.ctx.clock()
        self.json({"reservations": await self.ctx.store(lambda s: booking.coming(s, now))})

    async def post(self) -> None:
        """Reserve."""
        self.need_admin()
        wanted = booking.parse(self.body())
        snapshot = await self.ctx.snapshots.get()
        now, by = self.ctx.clock(), self.person.name
        inventory = snapshot.reading.inventory
        self.json(await self.ctx.store(lambda s: booking.reserve(s, wanted, inventory, by, now)), 201)


class ReservationApi(ApiHandler):
    """One reservation."""

    openapi: ClassVar[Operations] = {"delete": Operation("Call a reservation off (admins)", "Done")}

    async def delete(self, reservation: str) -> None:
        """Cancel."""
        self.need_admin()
        now, by = self.ctx.clock(), self.person.name
        if not await self.ctx.store(lambda s: s.reservations.cancel(reservation, by, now)):
            raise web.HTTPError(404, "there is no such reservation")
        self.json({"ok": True, "id": reservation})


class QueuePage(PageHandler):
    """Own places, the line, reservations. Moves on by itself when a session is ready."""

    async def get(self) -> None:
        """Works without JavaScript: the page asks to be read again every few seconds while one waits."""
        context, person, now = self.ctx, self.person, self.ctx.clock()
        tickets = await line(context, person)
        recent = await context.store(
            lambda s: [joining.describe(r) for r in s.tickets.find(None, user=person.name, limit=20)]
        )
        followed = self.get_query_argument("ticket", "")
        followed = followed if re.fullmatch(TICKET, followed) else ""  # it goes into a header
        for row in recent:
            if row["id"] == followed and row["state"] == "started":
                self.redirect(context.urls.server(person.name, row["server"]))
                return
        mine = [t for t in tickets if t["mine"]]
        if mine:
            follow = followed or mine[0]["id"]
            self.set_header("Refresh", f"{REFRESH_S}; url={context.urls.service}queue?ticket={follow}")
        runner = context.extra.get("queue")
        self.page(
            "queue.html",
            mine=[{**t, "wait": wait_text(t)} for t in mine],
            tickets=tickets,
            over=[r for r in recent if r["state"] not in LIVE][::-1][:RECENT],
            reservations=await context.store(lambda s: booking.coming(s, now)),
            problem=runner.problem if runner else "",
        )


class QueueLeave(PageHandler):
    """The button."""

    async def post(self) -> None:
        """Give one place up and show the line again."""
        await give_up(self.ctx, self.get_body_argument("ticket"), self.person)
        self.redirect(f"{self.ctx.urls.service}queue")


def wait_text(ticket: TicketJson) -> str:
    """The estimate in words."""
    estimate = ticket.get("estimate")
    if not estimate:
        return ""
    usual, most = (text.duration(s) for s in (estimate["p50_s"], estimate["p90_s"]))
    return f"about {usual}; 90 % of such waits end within {most}"


def notifier(context: Context) -> Notifier | None:
    """The site's ways to reach people who are away, or None; a hook that cannot be loaded is logged."""
    settings = context.settings
    channels: list[Channel] = []
    ways: list[Callable[[], Channel]] = [partial(channel_for, a) for a in settings.notice_webhooks]
    ways += [partial(_hook, name) for name in settings.notice_hooks]
    for way in ways:
        try:
            channels.append(way())
        except DS01Error as error:
            log.error("%s", error)
    return Notifier(channels) if channels else None


def _hook(name: str) -> Channel:
    return HookChannel(load_hook(name), name)


def link(context: Context) -> Callable[[str, str], str]:
    """Addresses of sessions for messages: whole ones where the site says what its hub is called outside."""
    outside = urlsplit(context.settings.hub_url)
    origin = f"{outside.scheme}://{outside.netloc}" if outside.netloc else ""
    if origin_of(context.urls.hub):
        return context.urls.server
    return lambda user, server: f"{origin}{context.urls.server(user, server)}" if origin else ""


async def start(context: Context) -> None:
    """Begin to serve the queue."""
    announcer = TicketNotifier(context.site.store, context.clock, notifier(context), link(context))
    forget = context.snapshots.forget
    runner = Runner(context.site, context.hub, clock=context.clock, on_change=forget, announcer=announcer)
    context.extra["queue"] = runner
    context.extra["queue.task"] = asyncio.ensure_future(runner.run())


async def stop(context: Context) -> None:
    """End the loop; what is under way is found again by the next process."""
    task = context.extra.pop("queue.task", None)
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await context.extra["queue"].stop()


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"queue", QueuePage),
        (r"queue/leave", QueueLeave),
        (r"api/queue", QueueApi),
        (rf"api/queue/{TICKET}", TicketApi),
        (r"api/reservations", ReservationsApi),
        (rf"api/reservations/{TICKET}", ReservationApi),
    ]


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise web.HTTPError(400, "options is a JSON object")
    return value

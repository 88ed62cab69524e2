"""The REST API: availability, devices, sessions, events, notices, usage."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import timedelta
from typing import Any, ClassVar

from tornado import web

from ...core import freetext
from ...placement import availability
from ...store.events import as_json
from .. import actions, mine, retiring, views
from ..handler_base import ApiHandler
from ..openapi import Operation, Operations

MAX_EVENTS = 1000


class AvailabilityApi(ApiHandler):
    """What is free for the person, by profile."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Free and busy devices by profile, at most a few seconds old", "Availability")
    }

    async def get(self) -> None:
        """From the shared reading."""
        snapshot = await self.ctx.snapshots.get()
        statuses = snapshot.statuses(self.person)
        self.json(
            {
                "updated": snapshot.updated,
                "mode": snapshot.reading.inventory.mode,
                "problem": snapshot.problem or None,
                "free": sum(s.state == "free" for s in statuses),
                "profiles": [asdict(a) for a in availability(statuses)],
            }
        )


class DevicesApi(ApiHandler):
    """Every device; the shape is that of ``ds01 gpus --json``."""

    openapi: ClassVar[Operations] = {
        "get": Operation("Every device with its state and the reason", "Devices")
    }

    async def get(self) -> None:
        """Holders are named only where the site shows them, and to admins."""
        snapshot = await self.ctx.snapshots.get()
        show = self.ctx.settings.show_holders or self.person.admin
        devices = []
        for status in snapshot.statuses(self.person):
            row = asdict(status)
            mine_too = any(h.partition("/")[0] == self.person.name for h in status.holder.split(" and "))
            row["holder"] = status.holder if show or mine_too else None
            devices.append(row)
        inventory = snapshot.reading.inventory
        self.json({"mode": inventory.mode, "attach": self.ctx.settings.attach, "devices": devices})


class SessionsApi(ApiHandler):
    """Running sessions."""

    openapi: ClassVar[Operations] = {
        "get": Operation(
            "Own running sessions with the idle decision; `all=1` for admins", "Sessions", query=("all",)
        )
    }

    async def get(self) -> None:
        """Own, or everybody's for admins."""
        snapshot = await self.ctx.snapshots.get()
        everybody = self.get_query_argument("all", "") in ("1", "true")
        if everybody:
            self.need_admin()
        found = await mine.decisions(self.ctx, [r.labels.session for r in snapshot.ledger.sessions])
        records = [r for r in snapshot.ledger.sessions if everybody or r.labels.user == self.person.name]
        urls = self.ctx.urls
        intents = {i.session: i for i in await asyncio.to_thread(self.ctx.site.intents.open)}
        rows = [
            views.session_json(r, snapshot, found.get(s := r.labels.session), urls, intents.get(s))
            for r in records
        ]
        self.json({"updated": snapshot.updated, "sessions": rows})


class SessionApi(ApiHandler):
    """One session, by its id."""

    openapi: ClassVar[Operations] = {
        "get": Operation("One session", "Session"),
        "delete": Operation(
            "Retire it; the workspace is kept. Admins give a reason that its owner sees. 202 while it is not"
            " gone yet: it is being retired, also when the container engine does not answer",
            "Done",
            body={"reason": {"type": "string", "maxLength": retiring.MAX_REASON}},
        ),
    }

    async def get(self, session: str) -> None:
        """Own, or anybody's for admins."""
        snapshot = await self.ctx.snapshots.get()
        record = actions.find(snapshot, session=session)
        actions.allow(self.person, record.labels.user)
        found = await mine.decisions(self.ctx, [session])
        intent = await asyncio.to_thread(self.ctx.site.intents.get, session)
        self.json(views.session_json(record, snapshot, found.get(session), self.ctx.urls, intent))

    async def delete(self, session: str) -> None:
        """Retire."""
        snapshot = await self.ctx.snapshots.renewed()
        record = actions.find(snapshot, session=session)
        labels = record.labels
        actions.allow(self.person, labels.user)
        reason = self.body().get("reason", "")
        if not isinstance(reason, str):
            raise web.HTTPError(400, "reason is a text")
        if why := freetext.problem(reason, lines=True):
            raise web.HTTPError(400, f"reason is printable text; {why}")
        if labels.user != self.person.name and not reason.strip():
            raise web.HTTPError(400, "say why in `reason`: the session's owner will read it")
        outcome = await retiring.retire(self.ctx, self.person, record, reason)
        if outcome.gone:
            self.json({"ok": True, "session": session, "state": "retired"})
            return
        self.json({"session": session, "state": "retiring", "message": outcome.sentence}, 202)


class KeepAliveApi(ApiHandler):
    """Keeping one session alive."""

    openapi: ClassVar[Operations] = {
        "post": Operation(
            "Keep a session alive for some time, within the caps of the policy",
            "Granted",
            body={"seconds": {"type": "integer", "minimum": 60}},
        )
    }

    async def post(self, session: str) -> None:
        """Book what the caps leave."""
        seconds = self.body().get("seconds")
        if isinstance(seconds, bool) or not isinstance(seconds, int) or not 60 <= seconds <= 366 * 86400:
            raise web.HTTPError(400, "seconds is a whole number of at least 60")
        snapshot = await self.ctx.snapshots.get()
        record = actions.find(snapshot, session=session)
        actions.allow(self.person, record.labels.user)
        grant = await actions.keep(self.ctx, self.person, record, seconds, "api")
        self.json(asdict(grant))


class EventsApi(ApiHandler):
    """What happened: own events, or all for admins."""

    openapi: ClassVar[Operations] = {
        "get": Operation(
            "Events after a number, oldest first; own ones, `all=1` for admins",
            "Events",
            query=("after", "limit", "topic", "all"),
        )
    }

    async def get(self) -> None:
        """Page through with ``after``."""
        everybody = self.get_query_argument("all", "") in ("1", "true")
        if everybody:
            self.need_admin()
        user = None if everybody else self.person.name
        after = self.number("after", 0, 0, 10**12 - 1)
        limit = self.number("limit", 200, 1, MAX_EVENTS)
        topic = self.get_query_argument("topic", "")[:64] or None
        found = await self.ctx.store(lambda s: s.events.find(after, topic=topic, user=user, limit=limit))
        self.json({"events": [as_json(e) for e in found], "next": found[-1].id if found else after})


class NoticesApi(ApiHandler):
    """What the person should read."""

    openapi: ClassVar[Operations] = {"get": Operation("Notices not dismissed, newest first", "Notices")}

    async def get(self) -> None:
        """Reading over the API does not mark them as seen."""
        now = self.ctx.clock()
        found = await self.ctx.store(lambda s: s.notices.of(self.person.name, now))
        fields = ("id", "kind", "level", "text", "server", "created_at", "expires_at", "seen_at")
        self.json({"notices": [{k: getattr(n, k) for k in fields} for n in found]})


class NoticeApi(ApiHandler):
    """One notice."""

    openapi: ClassVar[Operations] = {"delete": Operation("Dismiss a notice", "Done")}

    async def delete(self, number: str) -> None:
        """Dismissed means dismissed."""
        now = self.ctx.clock()
        if not await self.ctx.store(lambda s: s.notices.dismiss(int(number), self.person.name, now)):
            raise web.HTTPError(404, "there is no such notice of yours")
        self.json({"ok": True})


class UsageApi(ApiHandler):
    """Accounting."""

    openapi: ClassVar[Operations] = {
        "get": Operation(
            "GPU-, session- and CPU-hours over `days`; own, or `by=user|group|course|project` for admins",
            "Usage",
            query=("days", "by"),
        )
    }

    async def get(self) -> None:
        """Own use, or everybody's for admins."""
        now = self.ctx.clock()
        since = now - timedelta(days=self.number("days", 30, 1, 3660))
        by: Any = self.get_query_argument("by", "")
        if by:
            self.need_admin()
            if by not in ("user", "group", "course", "project"):
                raise web.HTTPError(400, "by is user, group, course or project")
            rows = await self.ctx.store(lambda s: s.usage.by(by, since, now))
            self.json({"by": by, "since": since, "until": now, "rows": [asdict(r) for r in rows]})
            return
        name = self.person.name
        rows = await self.ctx.store(lambda s: s.usage.by("user", since, now))
        own = next((asdict(r) for r in rows if r.key == name), {"key": name, "sessions": 0, "gpu_hours": 0.0})
        self.json({"since": since, "until": now, **own})


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"api/availability", AvailabilityApi),
        (r"api/devices", DevicesApi),
        (r"api/sessions", SessionsApi),
        (r"api/sessions/([A-Za-z0-9_-]{1,64})", SessionApi),
        (r"api/sessions/([A-Za-z0-9_-]{1,64})/keep-alive", KeepAliveApi),
        (r"api/events", EventsApi),
        (r"api/notices", NoticesApi),
        (r"api/notices/([0-9]{1,9})", NoticeApi),
        (r"api/usage", UsageApi),
    ]

"""The admins' page: every session, every device, drains, what happened, and retire with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from tornado import web

from ...core import freetext, text
from ...core.errors import StoreError
from ...engines.base import EngineSession
from ...store.rows import BlockRow, EventRow
from .. import actions, mine, retiring, views
from ..handler_base import PageHandler
from ..site_reading import Snapshot

NAV_ADMIN = (("admin", "Admin"),)
EVENTS_SHOWN = 50


class Admin(PageHandler):
    """One page; every act on it needs a reason, which the person concerned will read."""

    async def get(self) -> None:
        """Show everything."""
        self.need_admin()
        context = self.ctx
        snapshot = await context.snapshots.get()
        now = context.clock()
        found = await mine.decisions(context, [r.labels.session for r in snapshot.ledger.sessions])
        problem = ""
        events: list[EventRow] = []
        drains: list[BlockRow] = []
        try:
            events, drains = await context.store(
                lambda s: (s.events.find(latest=True, limit=EVENTS_SHOWN), s.blocks.live(now, "drain"))
            )
        except StoreError as error:
            problem = str(error)
        policy_problem = await asyncio.to_thread(lambda: context.site.policy.problem)
        intents = {i.session: i for i in await asyncio.to_thread(context.site.intents.open)}
        rows = [
            {
                "info": views.session_info(r, snapshot),
                "labels": r.labels,
                "state": views.state_told(r.state, intents.get(r.labels.session), now),
                "why": found[r.labels.session].reason if r.labels.session in found else text.UNKNOWN,
                "standing": r.standing.value,
            }
            for r in snapshot.ledger.sessions
        ]
        rows += [_other(r, snapshot) for r in snapshot.ledger.others]
        self.page(
            "admin.html",
            rows=sorted(rows, key=lambda r: (r["labels"].user, r["labels"].server)),
            statuses=snapshot.statuses(),
            events=events[::-1],
            drained={d.uuid: d for d in drains},
            problem=problem or policy_problem or "",
            now=now,
        )


def _other(record: EngineSession, snapshot: Snapshot) -> dict[str, Any]:
    """A row of what is no session of this hub: as it says of itself, but with the devices it really has."""
    held = tuple(h.uuid for h in snapshot.ledger.holdings if h.container == record.container)
    true = replace(record, labels=replace(record.labels, gpu_uuids=held))
    return {
        "info": views.session_info(true, snapshot),
        "labels": record.labels,
        "state": record.state,
        "why": text.UNKNOWN,
        "standing": record.standing.value,
        "container": record.name,
    }


class AdminRetire(PageHandler):
    """Force-retire with a reason the owner sees."""

    async def post(self) -> None:
        """Retire one session by its id."""
        self.need_admin()
        reason = _reason(self)
        snapshot = await self.ctx.snapshots.renewed()
        record = actions.find(snapshot, session=self.get_body_argument("session"))
        await retiring.retire(self.ctx, self.person, record, f"{reason} ({self.person.name})")
        self.redirect(f"{self.ctx.urls.service}admin")


class AdminDrain(PageHandler):
    """Take a device out of service, or back."""

    async def post(self) -> None:
        """``act`` is ``drain`` (with a reason) or ``undrain``. Sessions on it stay until they end."""
        self.need_admin()
        uuid, act = self.get_body_argument("uuid"), self.get_body_argument("act")
        snapshot = await self.ctx.snapshots.get()
        if uuid not in {s.uuid for s in snapshot.statuses()}:
            raise web.HTTPError(404, "there is no such device")
        now, by = self.ctx.clock(), self.person.name
        if act == "undrain":
            await self.ctx.store(lambda s: s.blocks.undrain(uuid, by, now))
        else:
            reason = _reason(self)
            await self.ctx.store(lambda s: s.blocks.drain(uuid, reason, by, now))
        await self.ctx.snapshots.changed()
        self.redirect(f"{self.ctx.urls.service}admin")


def _reason(handler: PageHandler) -> str:
    reason = handler.get_body_argument("reason", "").strip()
    if not reason:
        raise web.HTTPError(400, "say why: the person concerned will read it")
    if why := freetext.problem(reason):
        raise web.HTTPError(400, f"the reason is one line of printable text; {why}")
    return reason[: retiring.MAX_REASON]


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [(r"admin", Admin), (r"admin/retire", AdminRetire), (r"admin/drain", AdminDrain)]

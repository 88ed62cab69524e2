"""Pages about one's sessions: retire, keep alive, notices. They ask first and work without JavaScript."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tornado import web

from ...core import text
from ...core.errors import Refused, StoreError
from ...notify.channels import banner
from ...store.rows import NoticeRow
from .. import actions, keeping, retiring, views
from ..handler_base import PageHandler

DEFAULT_KEEP_S = 3600
WAIT_S = 30.0
"""How long a page waits for a session to be gone, before Home says that it is being retired."""
KEEP_CHOICES = (3600, 2 * 3600, 4 * 3600, 8 * 3600)


class Retire(PageHandler):
    """What is kept and removed, and the button."""

    async def get(self) -> None:
        """Ask. A server that is still starting has no session yet and can be cancelled all the same."""
        server, project, found = self.get_query_argument("server", ""), "", None
        snapshot = await self.ctx.snapshots.get()
        try:
            record = actions.find(snapshot, user=self.person.name, server=server)
            project = record.labels.project
        except Refused:
            options = await actions.last_options(self.ctx, self.person.name, server)
            project = str(options.get("project", "default"))
        else:
            found = await keeping.packages(self.ctx, record)
        limits = await self.limits()
        then = self.get_query_argument("then", "")[:8]
        self.page(
            "retire.html", server=server, project=project, then=then, packages=found,
            may_save=limits.images.commit,
        )  # fmt: skip

    async def post(self) -> None:
        """Retire, then go home, or to the launch page with CPU chosen."""
        server = self.get_body_argument("server", "")
        name = self.person.name
        options = await actions.last_options(self.ctx, name, server)
        snapshot = await self.ctx.snapshots.renewed()
        own = views.own_sessions(snapshot, name)
        record = next((r for r in own if r.labels.server == server), None)
        keep = self.get_body_argument("keep", "")
        if record and keep == "packages":
            await keeping.keep(self.ctx, self.person, record)
        elif record and keep == "image":
            await keeping.save(self.ctx, self.person, record)
        if record:
            await retiring.retire(self.ctx, self.person, record, "")
            outcome = await retiring.wait_gone(self.ctx, record.labels.session, WAIT_S)
            if not outcome.gone:  # Home shows it until it is gone
                self.redirect(f"{self.ctx.urls.hub}home")
                return
        else:
            await actions.cancel(self.ctx, name, server)
        await actions.wait_gone(self.ctx, name, server)
        if self.get_body_argument("then", "") == "cpu":
            kept = {k: options[k] for k in ("project", "environment") if options.get(k)}
            query = urlencode({f"opt-{k}": v for k, v in {**kept, "gpu": "none"}.items()})
            self.redirect(f"{self.ctx.urls.spawn(name, server)}?{query}")
            return
        if record and keep in ("packages", "image"):
            query = urlencode(
                {"said": "kept" if keep == "packages" else "saved", "project": record.labels.project}
            )
            self.redirect(f"{self.ctx.urls.service}environments?{query}")
            return
        self.redirect(f"{self.ctx.urls.hub}home")


class KeepAlive(PageHandler):
    """How long more, within the allowance."""

    async def get(self) -> None:
        """Ask."""
        await self.show()

    async def show(self, result: str = "", refused: str = "", server: str | None = None) -> None:
        """The form, with what came of the last request."""
        server = self.get_query_argument("server", "") if server is None else server
        snapshot = await self.ctx.snapshots.get()
        record = actions.find(snapshot, user=self.person.name, server=server)
        limits = await self.limits()
        now = self.ctx.clock()
        session = record.labels.session
        keep = await self.ctx.store(lambda s: views.keep_alive(s, limits, session, self.person.name, now))
        self.page(
            "keep_alive.html",
            server=server,
            project=record.labels.project,
            keep=keep,
            choices=[(s, text.duration(s)) for s in KEEP_CHOICES],
            result=result,
            refused=refused,
        )

    async def post(self) -> None:
        """Book what the caps leave, and say what it came to."""
        server = self.get_body_argument("server", "")
        raw = self.get_body_argument("seconds", "")
        seconds = int(raw) if raw in {str(s) for s in KEEP_CHOICES} else DEFAULT_KEEP_S
        snapshot = await self.ctx.snapshots.get()
        record = actions.find(snapshot, user=self.person.name, server=server)
        try:
            grant = await actions.keep(self.ctx, self.person, record, seconds, "button")
        except Refused as refused:
            self.set_status(refused.refusal.status)
            await self.show(refused=refused.refusal.sentence, server=server)
            return
        await self.show(result=grant.sentence, server=server)


class Notices(PageHandler):
    """What the person should read, with a button to dismiss each: the banner's page without scripts."""

    async def get(self) -> None:
        """Most urgent first."""
        now, problem = self.ctx.clock(), ""
        found: list[NoticeRow] = []
        try:
            found = await self.ctx.store(lambda store: banner(store, self.person.name, now))
        except StoreError as error:
            problem = str(error)
        self.page("notices.html", notices=found, problem=problem)

    async def post(self) -> None:
        """Dismiss one; dismissed means dismissed."""
        raw = self.get_body_argument("number", "")
        if not raw.isascii() or not raw.isdigit() or len(raw) > 15:
            raise web.HTTPError(400, "number is the number of a notice")
        now = self.ctx.clock()
        await self.ctx.store(lambda store: store.notices.dismiss(int(raw), self.person.name, now))
        self.redirect(f"{self.ctx.urls.service}notices")


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [(r"retire", Retire), (r"keep-alive", KeepAlive), (r"notices", Notices)]

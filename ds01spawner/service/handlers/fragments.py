"""Live parts of pages: availability, the person's sessions, notices."""

from __future__ import annotations

from typing import Any

from ...core.errors import StoreError
from ...pages.compute import live_counts
from .. import mine, views
from ..handler_base import FragmentHandler


class AvailabilityFragment(FragmentHandler):
    """The strip, and the counts beside the compute choices."""

    async def get(self) -> None:
        """Rendered from the shared reading."""
        snapshot = await self.ctx.snapshots.get()
        found = await mine.decisions(self.ctx, [r.labels.session for r in snapshot.ledger.sessions])
        shown = views.strip(
            snapshot, self.person, self.ctx.settings.show_holders, mine.activity(snapshot, found)
        )
        self.fragment("availability.html", strip=shown, counts=live_counts(snapshot.statuses(self.person)))


class SessionsFragment(FragmentHandler):
    """Cards of the person's sessions."""

    async def get(self) -> None:
        """``dialogs`` asks for retire dialogs, which only pages of the hub can use.

        Those also say which servers the hub knew of as the page was made (``known``, ``server``).
        """
        running = self.get_query_arguments("server") if self.get_query_argument("known", "") else None
        cards = await mine.cards(self.ctx, self.person, running)
        self.fragment("sessions.html", cards=cards, dialogs=bool(self.get_query_argument("dialogs", "")))


async def show_notices(handler: FragmentHandler) -> None:
    """Render the notices as they are now."""
    found = await mine.notices(handler.ctx, handler.person, handler.ctx.clock())
    handler.fragment("notices.html", notices=found, service_url=handler.ctx.urls.told)


class NoticesFragment(FragmentHandler):
    """What the person should read."""

    async def get(self) -> None:
        """Newest first; shown once means seen."""
        await show_notices(self)


class DismissFragment(FragmentHandler):
    """Dismissing a notice; dismissed means dismissed."""

    async def post(self, number: str) -> None:
        """Dismiss one, and show the rest."""
        now = self.ctx.clock()
        try:
            await self.ctx.store(lambda store: store.notices.dismiss(int(number), self.person.name, now))
        except StoreError:
            self.set_status(503)
        await show_notices(self)


def routes() -> list[tuple[str, Any]]:
    """Paths below the service's prefix."""
    return [
        (r"fragments/availability", AvailabilityFragment),
        (r"fragments/sessions", SessionsFragment),
        (r"fragments/notices", NoticesFragment),
        (r"fragments/notices/([0-9]{1,9})/dismiss", DismissFragment),
    ]

"""Delivers the idle service's warnings, and takes back those that no longer hold."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from ..core.errors import DS01Error
from .case import Case, Parts
from .decide import mark_visible
from .model import Memory, Session, Warned

log = logging.getLogger(__name__)


class Warner:
    """``memory`` in its methods is that of the pass under way, by session: what was seen is marked in it."""

    def __init__(self, parts: Parts, dry_run: bool) -> None:
        self._parts, self._dry_run = parts, dry_run

    async def tell(self, case: Case, before: Memory | None, memory: dict[str, Memory]) -> None:
        """Deliver a new warning, and take back one that no longer holds."""
        after, parts = case.decision.memory, self._parts
        if self._dry_run:  # pretends that every warning is seen, to go on as it would
            memory[case.session.id] = mark_visible(after, parts.clock())
            return
        standing = {(w.cause, w.at) for w in after.warnings}
        for warning in before.warnings if before else ():
            if (warning.cause, warning.at) not in standing and warning.visible_at is not None:
                text = "The warning for this session is withdrawn: " + case.decision.reason
                notice = case.notice("withdrawn", _key(case.session, warning), text, parts.clock())
                await parts.notifier.send(notice)
        if case.decision.warn:
            await self._warn(case, memory)

    async def let_go(self, gone: Iterable[Memory]) -> None:
        """A warning does not outlive its session."""
        warned = [m.session for m in gone if m.warnings]
        if not warned or self._dry_run:
            return
        try:
            await asyncio.to_thread(self._parts.book.over, warned, self._parts.clock())
        except DS01Error as error:
            log.warning("Warnings of sessions that are over stay until they expire: %s", error)

    async def _warn(self, case: Case, memory: dict[str, Memory]) -> None:
        decision, parts = case.decision, self._parts
        now = parts.clock()
        for warning in [w for w in decision.memory.warnings if w.visible_at is None]:
            notice = replace(
                case.notice("warning", _key(case.session, warning), decision.reason, now),
                retire_at=decision.retire_at,
                cause=warning.cause,
            )
            if not await parts.notifier.send(notice):
                log.warning("%s cannot be warned anywhere; it is kept", case.session.address)
                return
        # The lead begins when the warning can be seen, so the time is taken after the delivery.
        memory[case.session.id] = mark_visible(decision.memory, parts.clock())
        try:
            await asyncio.to_thread(parts.book.warned, case.session, decision, now)
        except DS01Error as error:
            log.warning("The warning of %s is not in the event log: %s", case.session.address, error)


def _key(session: Session, warning: Warned) -> str:
    return f"{session.id}:{warning.cause}:{warning.at.isoformat()}"

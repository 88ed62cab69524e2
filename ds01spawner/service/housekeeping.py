"""The reconciler: history agrees with the engine, and no start that died leaves a container behind.

One list call of the engine a pass. It removes only containers of this hub that never came up or have
ended, and only when they are older than any start may take; a running one it never touches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from ..engines.docker.retire import leftovers, retire
from ..errors import DS01Error, StoreError
from ..site import Site
from ..store import SessionRecord

INTERVAL_S = 30.0
log = logging.getLogger(__name__)


def tidy(site: Site, now: datetime) -> list[str]:
    """One pass, blocking; returns the sessions whose leftovers were removed.

    An engine that does not answer ends the pass: from a list that failed nothing follows.
    """
    snapshot = site.holdings()
    mine = [r for r in snapshot.sessions if r.labels.hub == site.settings.hub_id]
    older = timedelta(seconds=site.settings.start_timeout)
    removed = []
    for record in leftovers(mine, site.settings.hub_id, now, older):
        try:
            done = retire(site.engine.client, record)
        except DS01Error as error:
            log.error("A leftover stays: %s", error)
            continue
        log.warning("Removed what a start of %s left behind: %s", record.labels.address, done.log_tail[-500:])
        removed.append(record.labels.session)
    try:
        site.store().reconcile_sessions(
            [
                SessionRecord.from_labels(r.labels, now)
                for r in mine
                if r.labels.session not in removed and r.state == "running"
            ],
            now,
        )
    except StoreError as error:
        log.warning("History could not be reconciled: %s", error)
    return removed


async def keep_tidy(site: Site, now: Callable[[], datetime], interval: float = INTERVAL_S) -> None:
    """Tidy for ever."""
    while True:
        try:
            await asyncio.to_thread(tidy, site, now())
        except DS01Error as error:
            log.warning("Not reconciled: %s", error)
        except Exception:
            log.exception("Not reconciled")
        await asyncio.sleep(interval)

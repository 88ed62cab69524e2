"""Tell people whose session has written more outside its project than the policy allows, and retire it where
the policy says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ..core.errors import DS01Error
from ..engines.base import EngineSession
from ..engines.docker.engine import docker_of
from ..engines.docker.layers import LayerUse, LayerWatch
from ..messages import notes
from ..policy.plan import SessionUse
from ..policy.units import say_size
from ..site import Site
from .retiring import Hub, retire_session

INTERVAL_S = 60.0
WELL_BELOW = 0.9
"""Share of the limit below which a session has to come before it is told again."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Over:
    """A session that wrote more than it may."""

    record: EngineSession
    used: int
    limit: int
    retire: bool


def judge(use: LayerUse) -> Over | None:
    """Whether a session has written more than it may. Pure."""
    known = SessionUse.from_labels(use.record.labels)
    if known.layer is None or use.used.bytes <= known.layer:
        return None
    return Over(use.record, use.used.bytes, known.layer, known.layer_retire)


def tell(site: Site, uses: list[LayerUse], now: datetime) -> list[Over]:
    """Write the notices of one pass; returns who is over. Blocking."""
    found, store = [], site.store()
    for use in uses:
        labels, key = use.record.labels, f"layer:{use.record.labels.session}"
        over = judge(use)
        if over is None:
            limit = SessionUse.from_labels(labels).layer
            below = use.used.complete and (limit is None or use.used.bytes < WELL_BELOW * limit)
            if below and store.notices.by_key(key) is not None:
                store.notices.delete(key)
            continue
        found.append(over)
        if store.notices.by_key(key) is not None:
            continue
        text = notes.layer_over(labels.project, say_size(over.used), say_size(over.limit), over.retire)
        store.notices.add(
            labels.user, text, now, kind="layer", level="warning", key=key,
            server=labels.server, session=labels.session,
        )  # fmt: skip
        store.events.add(
            now, "session", "limited", user=labels.user, project=labels.project, reason=text,
            server=labels.server, session=labels.session,
        )  # fmt: skip
    return found


async def keep_watch(
    site: Site, hub: Hub, clock: Callable[[], datetime], sizes: dict[str, int], interval: float = INTERVAL_S
) -> None:
    """Measure and tell for ever; ``sizes`` is what each running session was last found to have written."""
    watch = LayerWatch()

    def look() -> list[Over]:
        sessions = site.engine.look().sessions
        uses = watch.look(lambda: docker_of(site.engine).client, sessions)
        sizes.update({u.record.labels.session: u.used.bytes for u in uses})
        for gone in sizes.keys() - {r.labels.session for r in sessions}:
            del sizes[gone]
        return tell(site, uses, clock())

    while True:
        try:
            for over in await asyncio.to_thread(look):
                if over.retire:
                    reason = notes.layer_retired(say_size(over.used), say_size(over.limit))
                    await retire_session(site, hub, over.record, clock, reason, "admin", "the policy")
        except DS01Error as error:
            log.warning("What sessions write outside their projects is not watched: %s", error)
        except Exception:
            log.exception("What sessions write outside their projects is not watched")
        await asyncio.sleep(interval)

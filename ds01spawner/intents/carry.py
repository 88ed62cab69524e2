"""Carrying intents out, by whichever process is alive. Blocking; every step may be repeated by others."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from ..core.ending import carried_out, merged
from ..core.errors import DS01Error, EngineError
from ..engines.base import NotThatSession
from .intent import UNRECORDED, Intent

if TYPE_CHECKING:
    from ..site import Site

SIDE_BY_SIDE = 8
PAUSE_S = 3.0
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Carried:
    """What came of an attempt. ``problem`` says why the container may still be there."""

    intent: Intent
    gone: bool
    problem: str = ""
    log_tail: str = ""


def carry(site: Site, intent: Intent, now: datetime) -> Carried:
    """Retire one session on the engine; the intent is over only when the engine says that it is gone."""
    try:
        # Asked shortly first: with an engine that hangs, each step of a retire would take its minute.
        site.engine.answers()
        ended = site.engine.retire(intent.target, intent.session, intent.grace)
    except NotThatSession as error:
        # A name that another start has by now, so this one is gone; an id never means two containers.
        log.warning("Nothing is left of %s to retire: %s", intent.address, error)
        site.intents.done(intent.session)
        return Carried(intent, True)
    except DS01Error as error:
        site.intents.failed(intent, str(error))
        return Carried(intent, False, str(error))
    if intent.kind not in UNRECORDED:
        decision = intent.ended(now, ended.log_tail)
        report = merged(ended.ended, carried_out(decision, ended.ended) if ended.ran else decision)
        # Written before the intent goes, and before anybody else finds the container gone and guesses why.
        site.endings.ended(report, ended.labels or intent.labels()).result()
    site.intents.done(intent.session)
    log.info("%s is retired: %s", intent.address, intent.reason)
    return Carried(intent, True, "", ended.log_tail)


def carry_open(site: Site, now: datetime, intents: Iterable[Intent] | None = None) -> list[Carried]:
    """Carry out every intent that is due and not left to whoever asked for it."""
    due = [i for i in (site.intents.open() if intents is None else intents) if i.for_others(now)]
    if not due:
        return []
    try:
        site.engine.answers()
    except EngineError as error:  # nobody waits a minute for each
        for intent in due:
            site.intents.failed(intent, str(error))
        return [Carried(i, False, str(error)) for i in due]
    with ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="ds01-retire") as pool:
        return list(pool.map(lambda i: carry(site, i, now), due))


class Carrier:
    """Goes on with intents in a thread of its own for as long as any is due; for a process without a loop
    that does it anyway."""

    def __init__(self, site: Site, clock: Callable[[], datetime], pause: float = PAUSE_S) -> None:
        self._site, self._clock, self._pause = site, clock, pause
        self._lock = threading.Lock()
        self._running = False

    def kick(self) -> None:
        """Begin, unless it is under way. Never blocks."""
        with self._lock:
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="ds01-intents", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                carry_open(self._site, self._clock())
                left = any(not i.waits(self._clock()) for i in self._site.intents.open())
            except DS01Error as error:
                log.warning("Retirements wait: %s", error)
                left = True
            except Exception:
                log.exception("Retirements wait")
                left = True
            with self._lock:
                if not left:
                    self._running = False
                    return
            time.sleep(self._pause)

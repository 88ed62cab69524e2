"""The reconciler: history agrees with the engine, and no start that died leaves a container behind.

Beside it: what nobody needs any more on the engine goes, and people are told of processes that the kernel
ended for want of memory.

One list call of the engine a pass. It removes only containers of this hub that never came up or have
ended, and only when they are older than any start may take; a running one it never touches.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from ..core.errors import DS01Error, StoreError
from ..engines.base import EngineSession
from ..engines.docker import fetching, steplayers
from ..engines.docker.endings import moment
from ..engines.docker.engine import docker_of
from ..engines.docker.image_store import REMOVES_S, asking
from ..engines.docker.memory import MemoryWatch
from ..engines.docker.retire import leftovers
from ..environments.builder.builds import FINAL
from ..intents.carry import carry
from ..intents.intent import IntentError
from ..intents.orphans import Present, leftover
from ..messages import notes
from ..policy.plan import SessionUse
from ..policy.units import say_size
from ..site import Site
from ..store import SessionRecord
from ..store.ends import CLOCK_WRONG
from ..workspace.starter_files import sweep_starters
from .ends import report_dead, report_missing
from .watch import watch_devices

PRUNED = "pruned"
ALIVE = ("running", "paused", "restarting")
MOST_COURSES = 10_000
"""That many the store lists."""
INTERVAL_S = 30.0
WATCH_S = 10.0
log = logging.getLogger(__name__)


def tidy(site: Site, now: datetime) -> list[str]:
    """One pass, blocking; returns the sessions whose leftovers were removed.

    An engine that does not answer ends the pass: from a list that failed nothing follows.
    """
    open_before = open_in_history(site)
    mine = site.engine.look().sessions
    older = timedelta(seconds=site.settings.start_timeout)
    removed = []
    for record in leftovers(mine, now, older):
        intent = leftover(Present(record.labels, record.container, record.state), now)
        with suppress(IntentError):  # it is found again
            intent = site.intents.ask(intent)
        done = carry(site, intent, now)
        if not done.gone:
            log.error("A leftover stays: %s", done.problem)
            continue
        log.warning("Removed what a start of %s left behind: %s", record.labels.address, done.log_tail[-500:])
        removed.append(record.labels.session)
    reconcile(site, [r for r in mine if r.labels.session not in removed], now, open_before)
    try:
        site.engine.tidy(now)
    except DS01Error as error:
        log.warning("What belongs to none stays on the engine: %s", error)
    return removed


def open_in_history(site: Site) -> list[str]:
    """The sessions that history has as running; none while it cannot tell. Blocking.

    Read before the engine is asked: what the engine does not list then has ended, whatever the clocks say.
    """
    site.endings.take_in()
    try:
        return site.store().ends.still_open()
    except StoreError as error:
        log.warning("Which sessions ended unseen cannot be told now: %s", error)
        return []


def reconcile(
    site: Site, mine: Iterable[EngineSession], now: datetime, open_before: Iterable[str] = ()
) -> None:
    """Make history agree with the engine's list of this hub's sessions, in whatever state. Blocking.

    ``open_before`` are those that history had as running before that list was read.
    """
    listed = list(mine)
    running = [r for r in listed if r.state in ALIVE]
    there = [r.labels.session for r in listed]
    try:
        records = [as_begun(r, now) for r in running]
        report = site.store().ends.reconcile(records, now, open_before, leave=there)
        report_dead(site, listed, now)
        for session in report_missing(site, report["missing"]):
            log.warning("The engine has no record of how session %s ended", session)
    except StoreError as error:
        log.warning("History could not be reconciled: %s", error)


def as_begun(listed: EngineSession, now: datetime) -> SessionRecord:
    """A listed session as history keeps its begin: by its label, unless the engine's own time shows that
    the clock it was labelled by was wrong. Pure."""
    made = moment(listed.created)
    record = SessionRecord.from_labels(listed.labels, made or now)
    if made is None or abs(record.started_at - made) < CLOCK_WRONG:
        return record
    return replace(record, started_at=made)


def tell_kills(site: Site, watch: MemoryWatch, sessions: Iterable[EngineSession], now: datetime) -> int:
    """Tell people that the kernel ended processes of theirs for want of memory; returns how many. Blocking.

    Each is told once, also across restarts; a newer notice about a session takes the place of the former.
    """
    told = 0
    for kills in watch.look(lambda: docker_of(site.engine).client, sessions, now):
        labels, store = kills.record.labels, site.store()
        if store.notices.by_key(kills.key) is not None:
            continue
        memory = SessionUse.from_labels(labels).memory
        text = notes.memory_kill(labels.project, say_size(memory) if memory else "", kills.new)
        for notice in store.notices.of(labels.user, now):
            if notice.kind == "memory" and notice.session == labels.session:
                store.notices.expire(notice.key or "", now)
        end = now + timedelta(days=1)
        store.notices.add(
            labels.user,
            text,
            now,
            kind="memory",
            level="warning",
            key=kills.key,
            expires_at=end,
            server=labels.server,
            session=labels.session,
        )
        store.events.add(
            now,
            "session",
            "limited",
            user=labels.user,
            project=labels.project,
            reason=text,
            server=labels.server,
            session=labels.session,
        )
        told += 1
    return told


async def keep_watch(site: Site, now: Callable[[], datetime], interval: float = WATCH_S) -> None:
    """Watch for such kills for ever."""
    watch: MemoryWatch | None = None

    def look() -> None:
        nonlocal watch
        info = docker_of(site.engine).info()
        watch = watch or MemoryWatch(2 if str(info.get("CgroupVersion")) == "2" else 1)
        tell_kills(site, watch, site.engine.look().sessions, now())

    while True:
        try:
            await asyncio.to_thread(look)
        except DS01Error as error:
            log.warning("Memory is not watched: %s", error)
        except Exception:
            log.exception("Memory is not watched")
        await asyncio.sleep(interval)


def prune(site: Site, now: datetime) -> None:
    """Once a day, drop what the site's settings say is too old to be kept. Blocking."""
    store, settings = site.store(), site.settings
    if store.facts.get(PRUNED) == f"{now:%Y-%m-%d}":
        return
    events = store.events.prune(now - timedelta(days=settings.keep_events))
    builds = store.builds.prune(now - timedelta(days=settings.keep_builds), FINAL)
    store.ends.prune_notes(now - timedelta(days=1))
    prune_starters(site, now)
    store.facts.set(PRUNED, f"{now:%Y-%m-%d}", now)
    sweep_steps(site)
    if events or builds:
        log.info("Dropped %d old events and %d old builds", events, builds)


def prune_starters(site: Site, now: datetime) -> None:
    """Remove starter files that no course names any more, a day after they were kept. Blocking."""
    courses = site.store().courses.find()
    if len(courses) >= MOST_COURSES:
        return  # not all were listed
    kept = [(row.id, row.data.get("starter_files") or {}) for row in courses]
    named = {(course, files["archive"]) for course, files in kept if files.get("archive")}
    removed = sweep_starters(site.settings.courses, named, (now - timedelta(days=1)).timestamp())
    if removed:
        log.info("Removed starter files that no course names: %s", ", ".join(removed[:20]))


def sweep_steps(site: Site) -> None:
    """Remove what builds left without a name; an engine that is away is asked tomorrow."""
    if site.installation is None:
        return
    try:
        images = site.environments.images
        client = images.client(REMOVES_S)
        try:
            with asking("removing old steps of builds"):
                removed = steplayers.sweep(client, site.installation)
        finally:
            client.close()
    except DS01Error as error:
        log.warning("Old steps of builds are kept: %s", error)
        return
    if removed:
        log.info("Removed %d old steps of builds", removed)


async def keep_tidy(site: Site, now: Callable[[], datetime], interval: float = INTERVAL_S) -> None:
    """Tidy, and watch the devices, for ever."""
    while True:
        for work in (tidy, fetching.sweep, watch_devices, prune):
            try:
                await asyncio.to_thread(work, site, now())
            except DS01Error as error:
                log.warning("Housekeeping (%s) waits for better times: %s", work.__name__, error)
            except Exception:
                log.exception("Housekeeping (%s) failed", work.__name__)
        await asyncio.sleep(interval)

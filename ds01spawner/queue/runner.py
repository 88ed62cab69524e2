"""The loop that serves the queue: readings in a thread, decisions in `book`, starts through the hub.

It may be killed at any point. A grant is in the store before its start is asked for; after a restart each
granted or starting ticket is compared with what the hub says of that server: ready is started, pending is
left alone, nothing means that the start never reached the hub or failed, and the ticket gets its old place.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Protocol

from ..core.errors import DS01Error
from ..core.hub_client import HubError, HubServer, HubUser, Stopped
from ..engines.base import EngineSession
from ..policy.resolve import Person
from ..service.retiring import retire_session
from ..site import Site
from ..store.rows import TicketRow
from . import eviction, queue_pass, ticket_rules
from .forecast import Experience, expected_ends
from .pace import Pace
from .preempt import Preemptible
from .ticket import LIVE, Rules
from .ticket_notifier import TicketNotifier

TICK_S = 2.0
EXPERIENCE_S = 60.0
NEVER_ARRIVED = timedelta(seconds=4)
"""So long the hub must know nothing of a starting ticket's server, at two looks or more, to say that its
start never arrived or failed. The hub answers in the order of asking, and refuses a second start of a server
that starts: too early a look would cost the place its hold, and never start twice."""
EVICTING = "queue.evicting"
"""The store's fact whether preemptible sessions are warned, so that a warning outlives nobody's need."""
WARN_HORIZON = timedelta(hours=24)
_BUSY = (0, 429, 502, 503, 504, 599)
"""Answers that say nothing against the ticket: the hub, the engine or the devices were not to be had."""

log = logging.getLogger(__name__)


class Hub(Protocol):
    """What the runner needs of the hub; `hub_client.HubClient` is the real one."""

    async def user(self, name: str, max_age: float = ...) -> HubUser:
        """A user with their servers."""

    async def person(self, name: str, max_age: float = ...) -> Person:
        """A user as the policy sees them."""

    async def start(self, user: str, server: str, options: Mapping[str, object]) -> None:
        """Start a server."""

    async def stop(self, user: str, server: str) -> Stopped:
        """Retire a server."""


class Runner:
    """One for each service process; see the module's text."""

    def __init__(
        self,
        site: Site,
        hub: Hub,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
        rules: Rules | None = None,
        pace: Pace | None = None,
        on_change: Callable[[], None] = lambda: None,
        announcer: TicketNotifier | None = None,
    ) -> None:
        """``on_change`` is called when devices changed hands, so that pages read anew; ``announcer`` tells
        people what became of their places."""
        self.site, self.hub, self.clock, self.on_change = site, hub, clock, on_change
        self.rules, self.pace = rules or Rules(), pace or Pace()
        self.problem = ""
        """Why the last pass did nothing, for pages and metrics."""
        self.waiting = 0
        self._starts: dict[str, asyncio.Task[None]] = {}
        self._users: dict[str, str] = {}
        self._experience: tuple[float, Experience] | None = None
        self._warned = 0.0
        self._announcer = announcer or TicketNotifier(site.store, clock)
        self._evicting: bool | None = None  # not known: an earlier process may have warned somebody
        self._guarding = True  # an earlier process may have guarded devices
        self._owners: set[str] = set()  # of preemptible sessions, as the last pass saw them
        self._unknown: dict[str, datetime] = {}  # since when the hub knows nothing of a starting ticket
        self._retiring: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Serve until cancelled. A pass that fails is told and tried again."""
        while True:
            try:
                await self.tick()
                self.problem = ""
            except DS01Error as error:
                if str(error) != self.problem:
                    log.warning("The queue stands still: %s", error)
                self.problem = str(error)
            except Exception as error:  # the loop must outlive its own faults
                log.exception("The queue stumbled")
                self.problem = f"an internal fault: {type(error).__name__}"
            await asyncio.sleep(TICK_S)

    async def stop(self) -> None:
        """Give up waiting for starts under way; the next process finds out what became of them."""
        under_way = [*self._starts.values(), *self._retiring.values()]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    async def tick(self) -> bool:
        """One pass. Returns whether anybody waits or is being started."""
        rows, reserved = await asyncio.to_thread(self._load)
        if not rows and self._guarding:
            await asyncio.to_thread(self._unguard)
            self.on_change()
        if not rows and not reserved and not self._evicting:
            self.waiting = 0
            return False
        people, gone = await self._people({r.user for r in rows} | self._owners)
        # Sessions of somebody the hub has forgotten are warned like anybody's.
        people |= {name: Person(name) for name in gone & self._owners}
        await self._follow_up([r for r in rows if r.user not in gone])
        now = self.clock()
        done, due = await asyncio.to_thread(self._pass, now, people, frozenset(gone), reserved)
        self.waiting = done.waiting
        for row, text in done.expired:
            self._announcer.expired(row, text)
        for row, refusal in done.refused:
            self._announcer.refused(row, refusal.sentence)
        for session in due:
            self._retire(session)
        for row in done.granted:
            await self._begin(row)
        left = [r for r in rows if r.state == "granted" and r.id not in self._starts]
        for row in left[: self.pace.free(len(self._starts))]:
            await self._begin(row)  # granted by a process that is no more
        if done.granted:
            self.on_change()
        return bool(rows or self._starts)

    def _load(self) -> tuple[list[TicketRow], bool]:
        store = self.site.store()
        if self._evicting is None:
            self._evicting = bool(store.facts.get(EVICTING, False))
        return store.tickets.find(LIVE), bool(store.reservations.find())

    def _pass(
        self, now: datetime, people: Mapping[str, Person], gone: frozenset[str], reserved: bool
    ) -> tuple[queue_pass.Pass, list[Preemptible]]:
        store = self.site.store()
        ledger = self.site.engine.look()
        gpu = ledger.reading
        reading = queue_pass.Reading(now, gpu.inventory, ledger, people, gone)
        experience, kept = self._learned(now), dict[str, datetime]()
        if reserved:
            lasts = queue_pass.lasts_until(ledger)
            ends = expected_ends(gpu.inventory, ledger.holdings, lasts, experience, now)
            kept = queue_pass.keep_reservations(store, reading, ends, queue_pass.near(self.site, now))
            if time.monotonic() - self._warned > EXPERIENCE_S:
                self._warned = time.monotonic()
                queue_pass.warn_collisions(store, reading, WARN_HORIZON)
        room = self.pace.free(len(self._starts))
        self._guarding = True
        done = queue_pass.run_pass(self.site, reading, self.rules, experience, room, self._users.values())
        self._guarding = bool(done.decision.guarded)
        evicting, due = eviction.make_room(self.site, ledger, done, kept, people, now)
        self._owners = eviction.owners(ledger)
        if evicting != self._evicting:
            store.facts.set(EVICTING, evicting, now)
            self._evicting = evicting
        return done, due

    def _unguard(self) -> None:
        """Nobody waits any more: starts that did not queue need not keep off the devices."""
        now = self.clock()
        self.site.store().blocks.guard((), now, now)
        self._guarding = False

    def _retire(self, session: Preemptible) -> None:
        """Retire a preemptible session whose time has come; its reason is in the store already."""
        if session.session in self._retiring:
            return

        async def stop() -> None:
            try:
                record = await asyncio.to_thread(self._record, session.session)
                if record is None:
                    return
                reason = f"Retired: {eviction.REASON}."
                await retire_session(self.site, self.hub, record, self.clock, reason, "preempted", "queue")
                self.on_change()
            except DS01Error as error:
                log.warning("%s could not be retired, tried again: %s", session.session, error)

        task = asyncio.ensure_future(stop())
        self._retiring[session.session] = task
        task.add_done_callback(lambda _: self._retiring.pop(session.session, None))

    def _record(self, session: str) -> EngineSession | None:
        found = self.site.engine.look().sessions
        return next((r for r in found if r.labels.session == session), None)

    def _learned(self, now: datetime) -> Experience:
        if self._experience is None or time.monotonic() - self._experience[0] > EXPERIENCE_S:
            self._experience = (time.monotonic(), queue_pass.read_experience(self.site.store(), now))
        return self._experience[1]

    async def _people(self, names: set[str]) -> tuple[dict[str, Person], set[str]]:
        """Who is who; somebody the hub cannot be asked about now is in neither, and simply waits."""
        people: dict[str, Person] = {}
        gone: set[str] = set()
        for name in sorted(names):
            try:
                people[name] = await self.hub.person(name)
            except HubError as error:
                if error.status != 404:
                    raise
                gone.add(name)
        return people, gone

    async def _follow_up(self, rows: list[TicketRow]) -> None:
        """Compare what should run with what the hub says runs."""
        starting = {r.id for r in rows if r.state == "starting"}
        self._unknown = {i: at for i, at in self._unknown.items() if i in starting}
        for row in rows:
            if row.id in self._starts:
                continue
            fresh = row.state != "waiting"
            user = await (self.hub.user(row.user, 0) if fresh else self.hub.user(row.user))
            await self._compare(row, user.servers.get(row.server))

    async def _compare(self, row: TicketRow, server: HubServer | None) -> None:
        now = self.clock()
        if (server and server.up) or row.state != "starting":
            self._unknown.pop(row.id, None)
            if server and server.ready:
                await self._running(row)
            return
        since = max(self._unknown.setdefault(row.id, now), row.starting_at or now)
        if now - since >= NEVER_ARRIVED:
            del self._unknown[row.id]
            reason = "the start did not come to an end; it is tried again"
            await self._write(row, ticket_rules.give_back(row.state, now, reason, row.attempts))

    async def _running(self, row: TicketRow) -> None:
        """The session is there; its owner is told, unless they started it themselves."""
        if await self._write(row, ticket_rules.running(row.state, self.clock())):
            self.on_change()
            if row.state != "waiting":
                self._announcer.started(row)

    async def _begin(self, row: TicketRow) -> None:
        """Write that the start will be asked for, one ticket after the other, then ask side by side."""
        if not await self._write(row, ticket_rules.start(row.state, self.clock(), row.attempts)):
            return
        row = replace(row, state="starting", attempts=row.attempts + 1, version=row.version + 1)
        task = asyncio.ensure_future(self._start(row))
        self._starts[row.id], self._users[row.id] = task, row.user
        task.add_done_callback(lambda _: self._forget(row.id))

    def _forget(self, ticket: str) -> None:
        self._starts.pop(ticket, None)
        self._users.pop(ticket, None)

    async def _start(self, row: TicketRow) -> None:
        """Ask the hub for one session; every ending is written to the ticket."""
        began = time.monotonic()
        try:
            await self.hub.start(row.user, row.server, row.options)
            ready = await self._until_settled(row)
        except HubError as error:
            await self._failed(row, error)
            return
        except (OSError, asyncio.TimeoutError) as error:
            await self._failed(row, HubError(0, str(error) or "the hub did not answer"))
            return
        if ready:
            self.pace.started(time.monotonic() - began)
            await self._running(row)
        else:
            await self._failed(row, HubError(400, "the session ended while it was starting"))

    async def _until_settled(self, row: TicketRow) -> bool:
        """Wait while the hub says that the server is pending; whether it became ready.

        A place given up meanwhile by somebody who cannot ask the hub (the command) ends the start.
        """
        while True:
            if await asyncio.to_thread(self._given_up, row.id):
                await self.hub.stop(row.user, row.server)
                return False
            server = (await self.hub.user(row.user, 0)).servers.get(row.server)
            if server is None or server.ready or not server.pending:
                return server is not None and server.ready
            await asyncio.sleep(0.5)

    def _given_up(self, ticket: str) -> bool:
        row = self.site.store().tickets.get(ticket)
        return row is not None and row.state == "cancelled"

    async def _failed(self, row: TicketRow, error: HubError) -> None:
        """Back to its place; a hub that is busy slows the pace and costs no attempt."""
        try:
            user = await self.hub.user(row.user, 0)
        except DS01Error:
            log.info("The hub cannot say what became of %s/%s", row.user, row.server)
            return  # the next pass compares again
        if user.is_up(row.server):
            return
        attempts = row.attempts
        if error.status in _BUSY:
            attempts = 0
            if error.status != 503:
                self.pace.failed()
        change = ticket_rules.give_back("starting", self.clock(), str(error), attempts)
        if attempts == 0:
            change = replace(change, changes={**change.changes, "attempts": row.attempts - 1})
        if await self._write(row, change) and change.action == "failed":
            await self._announcer.failed(row, str(error))

    async def _write(self, row: TicketRow, change: ticket_rules.Change) -> bool:
        now = self.clock()
        return await asyncio.to_thread(lambda: queue_pass.apply(self.site.store(), row, change, now))

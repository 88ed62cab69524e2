"""One pass of the queue over the store, in a thread: read, decide, write. Blocking; no hub here.

Everything is decided anew from what store, engine and policy say now. A grant and its hold are written in
one transaction before anything is started, so that a crash at any point loses nothing and doubles nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from .. import messages
from ..admission.accounts import course_named, course_of
from ..admission.check import entitle
from ..admission.maintenance import longest_lead
from ..admission.situation import of
from ..core.errors import DS01Error, Refusal, Refused
from ..core.text import hour, stamp
from ..engines.base import EngineState
from ..placement import merge_blocks
from ..placement.devices import Block, GpuRequest, Inventory
from ..policy.options import parse_options
from ..policy.resolve import Person
from ..site import Site
from ..store import Store
from ..store.rows import CourseRow, TicketRow
from . import reservations, ticket_rules
from .forecast import HALF_LIFE, Experience, expected_ends, learn, served, shown, with_estimates
from .joining import CURED_BY_WAITING
from .order import Decision, decide, explain, hold_back
from .pool import PlacementPool
from .ticket import LIVE, Grant, Rules, Ticket
from .ticket import Usage as FairUsage
from .ticket_notifier import key_of
from .ticket_rules import Change

COOL_DOWN = timedelta(seconds=15)
"""Between a start that did not work and the next try."""
GUARD_FOR = timedelta(seconds=60)
"""How long devices stay guarded when the service dies; the loop renews it."""
ONE_AT_A_TIME = "your other place in the queue is being started first"
PACED = "its turn has come; sessions are started a few at a time"


@dataclass(frozen=True)
class Reading:
    """What one pass rests on."""

    now: datetime
    inventory: Inventory
    ledger: EngineState
    people: Mapping[str, Person]
    """Everybody with a live ticket whom the hub knows."""
    gone: frozenset[str] = frozenset()
    """Those whose account the hub does not know any more."""


@dataclass(frozen=True)
class Prepared:
    """A waiting ticket with its owner's rights, read now."""

    ticket: Ticket
    claim_window: timedelta
    refusal: Refusal | None = None

    @property
    def hopeless(self) -> bool:
        """Whether it is refused for something that its owner must mend: no waiting does."""
        refusal = self.refusal
        return refusal is not None and refusal.status < 500 and refusal.code not in CURED_BY_WAITING


@dataclass
class Pass:
    """What one pass did."""

    granted: list[TicketRow] = field(default_factory=list)
    expired: list[tuple[TicketRow, str]] = field(default_factory=list)
    """Places that are over, with the notice about it."""
    refused: list[tuple[TicketRow, Refusal]] = field(default_factory=list)
    """Places that could not start even if it were their turn, and that waiting does not mend."""
    waiting: int = 0
    decision: Decision = field(default_factory=Decision)
    pool: PlacementPool | None = None
    """What the pass decided on; None where nobody waited."""


def run_pass(
    site: Site, reading: Reading, rules: Rules, experience: Experience, room: int, pending: Iterable[str]
) -> Pass:
    """Grant what can be granted, at most ``room`` starts, and tell the others why they wait.

    ``pending`` are the people with a start under way.
    """
    store, now = site.store(), reading.now
    done = Pass()
    rows = _tidy(store, reading, done)
    waiting = {r.id: r for r in rows if r.state == "waiting"}
    if not waiting:
        store.blocks.guard((), now, now + GUARD_FOR)
        return done
    courses = store.courses.find()
    prepared = {
        i: _prepare(site, reading, r, courses) for i, r in waiting.items() if r.user in reading.people
    }
    lasts = lasts_until(reading.ledger)
    ends = expected_ends(reading.inventory, reading.ledger.holdings, lasts, experience, now)
    uuids = [d.uuid for d in reading.inventory.devices]
    blocks = merge_blocks(store.blocks.at(now, uuids), near(site, now))
    pool = PlacementPool(reading.inventory, reading.ledger.holdings, blocks, ends, site.settings.strategy)
    busy = {r.user for r in rows if r.state in ("granted", "starting")} | set(pending)

    def entitled(ticket: Ticket, grants: Any) -> str:
        if ticket.user in busy or any(g.ticket.user == ticket.user for g in grants):
            return ONE_AT_A_TIME
        row = waiting[ticket.id]
        if row.reason and row.granted_at is not None and now - row.granted_at < COOL_DOWN:
            return f"{row.reason}; it is tried again in a moment"
        refusal = prepared[ticket.id].refusal
        return refusal.sentence if refusal is not None else ""

    rules = replace(rules, usual=timedelta(hours=experience.length("").mean))
    line = [p.ticket for p in prepared.values()]
    decision = decide(line, pool, experience.usage, now, rules, entitled)
    hold_back(decision, pool, room, PACED)
    done.waiting, done.decision, done.pool = len(decision.waiting), decision, pool
    done.refused += [(waiting[i], p.refusal) for i, p in prepared.items() if p.refusal and p.hopeless]
    for grant in decision.grants:
        row = _grant(store, waiting[grant.ticket.id], grant, prepared[grant.ticket.id].claim_window, now)
        if row is not None:
            done.granted.append(row)
    store.blocks.guard(decision.guarded, now, now + GUARD_FOR)
    _tell(store, decision, pool, waiting, ends, _latest(reading, lasts), experience, now)
    return done


def read_experience(store: Store, now: datetime) -> Experience:
    """What history teaches; some ten milliseconds for thousands of sessions."""
    users, groups = store.usage.decayed(now, HALF_LIFE)
    past = store.tickets.find(("started",), limit=1000)
    kinds = {r.id: ticket_rules.from_row(r) for r in past}
    return learn(store.usage.lengths(now), served(past, kinds), FairUsage(users, groups))


def near(site: Site, now: datetime) -> dict[str, Block]:
    """What is kept from new sessions because its maintenance is near."""
    return site.maintenance.ahead(now, longest_lead(site.policy.current()))


def keep_reservations(
    store: Store, reading: Reading, ends: Mapping[str, datetime], out: Iterable[str] = ()
) -> dict[str, datetime]:
    """Keep the devices of reservations that hold, give back those nobody came for.

    ``out`` are devices and cards soon to be out of order.
    Returns the devices kept, with the time from which only those they are for could take them.
    """
    now, keeping = reading.now, dict[str, datetime]()
    for row in store.reservations.find():
        reservation = reservations.from_row(row)
        owner = f"reservation:{reservation.id}"
        live = store.blocks.live(now)
        kept = tuple(b.uuid for b in live if b.owner == owner)
        occurrence = reservations.current(reservation, now)
        if occurrence is None:
            if kept:
                store.blocks.release(owner, now)
            continue
        holdings = reading.ledger.holdings
        if reservations.no_show(reservation, occurrence, kept, holdings, now):
            store.reservations.release(reservation.id, occurrence.start, "nobody came within the grace", now)
            continue
        taken = frozenset(b.uuid for b in live if b.owner != owner and b.kind != "guard") | set(out)
        wanted = reservations.choose(
            reservation, reading.inventory, holdings, taken, ends, kept, courses_of(reading.ledger)
        )
        keeping |= dict.fromkeys(wanted, occurrence.start - reservations.LEAD)
        if set(wanted) != set(kept):
            title = reservation.title or reservation.subject
            reason = f"reserved for {title} until {hour(occurrence.end)}"
            store.reservations.keep(reservation.id, wanted, reason, now, occurrence.end, reservation.exempt)
    return keeping


def warn_collisions(store: Store, reading: Reading, horizon: timedelta) -> int:
    """A notice to everybody whose session could run into a reservation; once for each of both."""
    found = reservations.collisions(
        [reservations.from_row(r) for r in store.reservations.find()],
        reading.inventory,
        reading.ledger.holdings,
        lasts_until(reading.ledger),
        reading.now,
        horizon,
        courses_of(reading.ledger),
    )
    sure = [c for c in found if c.sure]
    for c in sure:
        at = c.occurrence.start
        text = (
            f"The GPU of your session {c.holding.holder} is reserved from {stamp(at)}. Save your "
            "work and retire the session before then if you can."
        )
        store.notices.add(
            c.holding.user, text, reading.now, kind="reservation", level="warning", server=c.holding.server,
            session=c.holding.session, expires_at=c.occurrence.end,
            key=f"collision:{c.occurrence.reservation}:{at.isoformat()}:{c.holding.session}",
        )  # fmt: skip
    return len(sure)


def apply(store: Store, row: TicketRow, change: Change, now: datetime) -> bool:
    """Write a change to the ticket as it was read; False when somebody else was faster."""
    return store.tickets.move(
        row.id,
        row.version,
        now,
        change.changes,
        action=change.action,
        hold=change.hold,
        release=change.release,
    )


def lasts_until(ledger: EngineState) -> dict[str, datetime]:
    """When each session ends by its lifetime, by session id; those without a lifetime are left out."""
    found = {}
    for record in ledger.sessions:
        try:
            at = datetime.fromisoformat(record.labels.expires_at.replace("Z", "+00:00"))
        except ValueError:
            continue
        if at.tzinfo is not None:
            found[record.labels.session] = at
    return found


def courses_of(ledger: EngineState) -> dict[str, str]:
    """Of what course each session is, by session id; those of none are left out."""
    environments = {r.labels.session: r.labels.environment for r in ledger.sessions}
    return {session: course for session, e in environments.items() if (course := course_named(e))}


def _tidy(store: Store, reading: Reading, done: Pass) -> list[TicketRow]:
    """Expire what is overdue and cancel places of people who are gone; the rows that are left."""
    changed = False
    rows = store.tickets.find(LIVE)
    for row in rows:
        if row.user in reading.gone:
            why = "the account does not exist any more"
            changed |= apply(store, row, ticket_rules.cancel(row.state, reading.now, why), reading.now)
        elif (why := ticket_rules.overdue(row, reading.now)) and (
            text := _expire(store, row, why, reading.now)
        ):
            done.expired.append((row, text))
            changed = True
    return store.tickets.find(LIVE) if changed else rows


def _expire(store: Store, row: TicketRow, why: str, now: datetime) -> str:
    """What its owner is told; nothing where somebody else was faster."""
    if not apply(store, row, ticket_rules.expire(row.state, now, why), now):
        return ""
    text = f"Your place in the queue for {ticket_rules.from_row(row).kind} is over: {why}."
    key = key_of(row.id, "expired")
    store.notices.add(row.user, text, now, kind="queue", level="warning", key=key)
    return text


def _prepare(site: Site, reading: Reading, row: TicketRow, courses: Iterable[CourseRow]) -> Prepared:
    """The ticket with its owner's present rights: quota and rules are checked here, not at the door."""
    person = reading.people[row.user]
    limits = site.limits(person, reading.now)
    window = timedelta(seconds=limits.queue.claim_window)
    ticket = partial(
        ticket_rules.from_row,
        row,
        groups=tuple(sorted(person.groups)),
        course=course_of(row.options.get("environment", ""), person, courses),
        priority=limits.queue.priority,
    )
    try:
        options = parse_options(row.options)
        situation = of(site, person, reading.now, reading.inventory, reading.ledger, courses=tuple(courses))
        answer = entitle(situation, options, row.server)
    except Refused as refused:
        answer = refused.refusal
    except DS01Error as error:
        answer = messages.not_readable_now(str(error))
    if isinstance(answer, Refusal):
        return Prepared(ticket(), window, answer)
    # The quota left goes into the plan's own check; in the request it would make a class of every person.
    request = GpuRequest(
        answer.gpu.profile,
        answer.gpu.count,
        allowed=answer.gpu.allowed,
        full_gpu=answer.gpu.full_gpu,
        max_equivalents=answer.gpu.max_equivalents if answer.gpu.profile == "auto" else None,
        preemptible=answer.gpu.preemptible,
    )
    length = None if answer.lifetime_s is None else timedelta(seconds=answer.lifetime_s)
    return Prepared(ticket(request=request, length=length), window)


def _grant(store: Store, row: TicketRow, grant: Grant, window: timedelta, now: datetime) -> TicketRow | None:
    change = ticket_rules.grant(row.state, grant.devices, now, window)
    if not apply(store, row, change, now):
        return None
    return replace(row, **change.changes, version=row.version + 1)


def _latest(reading: Reading, lasts: Mapping[str, datetime]) -> dict[str, datetime]:
    """When each device must have come free, by UUID."""
    return {h.uuid: lasts[h.session] for h in reading.ledger.holdings if h.session in lasts}


def _tell(
    store: Store,
    decision: Decision,
    pool: PlacementPool,
    waiting: Mapping[str, TicketRow],
    ends: Mapping[str, datetime],
    latest: Mapping[str, datetime],
    experience: Experience,
    now: datetime,
) -> None:
    """Write what each waiting ticket is told, where it has changed."""
    eligible = {t.id: pool.eligible(t) for t in decision.waiting}
    waits = with_estimates(explain(decision, pool), eligible, ends, latest, experience, now)
    told = {w.ticket.id: shown(w, waiting[w.ticket.id].shown or {}) for w in waits}
    store.tickets.show({i: s for i, s in told.items() if s != waiting[i].shown})

"""Warning preemptible sessions and saying which are due: what the runner does with `preempt.victims`.

Warn, then wait, then retire: the warning is a notice in the store, so its time survives every restart, and
it is withdrawn as soon as nobody needs the device any more. Blocking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from ..core.text import hour
from ..engines.base import EngineState
from ..policy.resolve import Person
from ..site import Site
from ..store.rows import NoticeRow
from .preempt import Preemptible, victims
from .queue_pass import Pass

KIND = "preempt"
REASON = "somebody entitled to its device waited, and this session was started as preemptible"


def make_room(
    site: Site,
    ledger: EngineState,
    done: Pass,
    reserved: Mapping[str, datetime],
    people: Mapping[str, Person],
    now: datetime,
) -> tuple[bool, list[Preemptible]]:
    """One pass: whether anybody is warned now, and who is due to be retired.

    ``people`` are the owners of preemptible sessions with their groups, by which the policy says how long
    ahead they are warned. Who is not among them is warned by a later pass.
    """
    warned = warnings(site, ledger, now)
    sessions = preemptible(ledger, warned)
    if not sessions:
        return False, []
    pool, limited = done.pool, done.decision.limited
    entitled = [
        t
        for t in done.decision.waiting
        if t.id not in limited and t.request.wants_gpu and not t.request.preemptible
    ]
    place = pool.fits if pool is not None else lambda ticket, holdings: None
    holdings = ledger.holdings if pool is None else pool.holdings
    chosen = victims(entitled, sessions, holdings, place, reserved)
    due = evict(site, chosen, warned, people, now)
    return bool(chosen), due


def preemptible(ledger: EngineState, warned: Mapping[str, object]) -> dict[str, Preemptible]:
    """Running preemptible sessions that hold devices, by session id."""
    found = {}
    for record in ledger.sessions:
        labels = record.labels
        if not labels.preemptible or not labels.gpu_uuids or record.state != "running":
            continue
        started = datetime.fromisoformat(labels.created_at)
        found[labels.session] = Preemptible(
            labels.session, labels.user, labels.server, labels.project, started, labels.session in warned
        )
    return found


def warnings(site: Site, ledger: EngineState, now: datetime) -> dict[str, NoticeRow]:
    """The live warnings of preemptible sessions, by session id."""
    owners = {r.labels.user for r in ledger.sessions if r.labels.preemptible}
    found = {}
    for user in owners:
        for notice in site.store().notices.of(user, now, dismissed=True):
            if notice.kind == KIND:
                found[notice.session] = notice
    return found


def owners(ledger: EngineState) -> set[str]:
    """Whose preemptible sessions run."""
    return {s.user for s in preemptible(ledger, {}).values()}


def evict(
    site: Site,
    chosen: Iterable[Preemptible],
    warned: Mapping[str, NoticeRow],
    people: Mapping[str, Person],
    now: datetime,
) -> list[Preemptible]:
    """Warn those who were not, withdraw what is no longer so; returns those who are due now.

    Their reason is written before they are retired.
    """
    store, chosen, due = site.store(), list(chosen), []
    for session in chosen:
        known, owner = warned.get(session.session), people.get(session.user)
        if owner is None:
            continue
        ahead = lead(site, owner, now)
        if known is None:
            store.notices.add(
                session.user, text(session, now + ahead), now, kind=KIND, level="warning",
                server=session.server, session=session.session, key=key(session),
            )  # fmt: skip
            store.events.add(
                now, "session", "warned", user=session.user, by="queue", reason=REASON, kind="preempted",
                server=session.server, session=session.session, project=session.project,
            )  # fmt: skip
        elif now >= known.created_at + ahead:
            store.ends.retiring(session.session, now, f"Retired: {REASON}.", "preempted")
            due.append(session)
    wanted = {s.session for s in chosen}
    for number in set(warned) - wanted:
        store.notices.delete(warned[number].key or "")  # deleted, so that a later need warns afresh
    return due


def lead(site: Site, owner: Person, now: datetime) -> timedelta:
    """How long before a session's end its owner is warned: the policy's lead for lifetimes and deadlines."""
    limits = site.limits(owner, now)
    return timedelta(seconds=limits.idle.lifetime_lead)


def key(session: Preemptible) -> str:
    """The notice's key."""
    return f"preempt:{session.session}"


def text(session: Preemptible, at: datetime) -> str:
    """The warning."""
    return (
        f"Your session on {session.project} is preemptible, and somebody entitled to its GPU waits. It ends "
        f"at {hour(at)} unless they leave the queue. Save your work; your project folder stays."
    )

"""From what the service has read to what its pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from .. import messages
from ..core import text
from ..engines.base import EngineSession
from ..environments.catalogue import update_available
from ..environments.offered import Environments
from ..idle import keepalive
from ..idle.model import Decision
from ..idle.rules import from_policy
from ..intents.intent import Intent
from ..pages.cards import Clock, SessionCard, session_card
from ..pages.inputs import KeepAlive, Runs, Series, SessionInfo
from ..pages.strip import Strip, build_strip, card_titles
from ..pages.unfinished import sentence
from ..policy.resolve import Limits, Person
from ..store import Store
from ..store.rows import SessionRow
from ..store.usage import UsageRow
from ..workspace.spaces import Spaces
from ..workspace.used_space import Measured
from .context import Context, Urls
from .site_reading import Snapshot

KEEP_STEP = timedelta(hours=1)
POLL_S = 60.0


def strip(snapshot: Snapshot, person: Person, show_holders: bool, activity: Mapping[str, str]) -> Strip:
    """The strip as ``person`` may see it; admins always see who holds what."""
    return build_strip(
        snapshot.statuses(person),
        person.name,
        show_holders=show_holders or person.admin,
        activity=activity,
        problem=snapshot.problem,
        updated=snapshot.updated,
    )


def own_sessions(snapshot: Snapshot, person: str) -> list[EngineSession]:
    """The person's sessions on this hub, oldest first."""
    mine = [r for r in snapshot.ledger.sessions if r.labels.user == person]
    return sorted(mine, key=lambda r: r.labels.created_at)


def session_info(record: EngineSession, snapshot: Snapshot) -> SessionInfo:
    """A ledger record as the pages take it, its devices in words."""
    labels = record.labels
    devices = snapshot.reading.inventory.by_uuid()
    titles = card_titles(snapshot.statuses())
    gpus = []
    for uuid in labels.gpu_uuids:
        device = devices.get(uuid)
        if device is None:
            gpus.append(f"a device that is not there any more ({uuid[:12]}…)")
        elif device.parent is None:
            gpus.append(f"whole {titles.get(device.uuid, 'GPU')}, {text.memory(device.memory_mib)}")
        else:
            gpus.append(f"{device.profile} on {titles.get(device.card, 'a GPU')}")
    return SessionInfo(
        user=labels.user,
        server=labels.server,
        project=labels.project,
        environment=labels.environment,
        gpus=tuple(gpus),
        started_at=text.parse_time(labels.created_at) or text.parse_time(record.started_at),
        expires_at=text.parse_time(labels.expires_at),
        state=record.state,
        preemptible=labels.preemptible,
    )


def keep_alive(store: Store, limits: Limits, session: str, user: str, now: datetime) -> KeepAlive:
    """What keeping a session alive is still worth. Blocking."""
    caps = from_policy(limits.idle, limits.source("idle.timeout"), POLL_S).keep_alive
    granted = [keepalive.Extension(r.at, r.seconds) for r in store.extensions.find(session=session)]
    day = store.extensions.since(user, now - timedelta(days=1))
    left = min(caps.session - sum(e.seconds for e in granted), caps.day - day)
    step = min(KEEP_STEP, timedelta(seconds=max(60.0, caps.request)))
    off = "Keeping sessions alive is switched off here." if min(caps.session, caps.day) <= 0 else ""
    return KeepAlive(step, timedelta(seconds=max(0.0, left)), keepalive.until(granted), off)


def runs(environments: Environments, person: Person, records: Sequence[EngineSession]) -> dict[str, Runs]:
    """What each session runs, by session id; one whose environment is gone is left out. Blocking."""
    by_id = {e.id: e for e in environments.all(person)}
    found = {}
    for labels in (r.labels for r in records):
        environment = by_id.get(labels.environment)
        if environment is None:
            continue
        facts = environments.facts(environment.pinned or environment.image)
        newer = update_available(labels.image, facts.id if facts else "")
        found[labels.session] = Runs(environment.name, environment.kind, newer)
    return found


def cards(
    snapshot: Snapshot,
    person: Person,
    context: Context,
    now: datetime,
    keeps: Mapping[str, KeepAlive],
    decisions: Mapping[str, Decision],
    series: Mapping[str, Sequence[Series]],
    known: Mapping[str, Runs],
    unwatched: str,
    intents: Mapping[str, Intent],
) -> list[SessionCard]:
    """The person's sessions as cards; the maps are by session id."""
    urls: Urls = context.urls
    return [
        with_intent(
            intents.get(r.labels.session),
            urls,
            now,
            session_card(
                session_info(r, snapshot),
                now,
                decision=decisions.get(r.labels.session),
                series=series.get(r.labels.session, ()),
                keep=keeps.get(r.labels.session),
                runs=known.get(r.labels.session),
                unwatched=unwatched,
                hub_url=urls.hub,
                user_url=urls.server(r.labels.user, r.labels.server),
                service_url=urls.told,
            ),
        )
        for r in own_sessions(snapshot, person.name)
    ]


def with_intent(intent: Intent | None, urls: Urls, now: datetime, card: SessionCard) -> SessionCard:
    """The card of a session that is being retired or lost: what can still be done to it. Pure."""
    if intent is None:
        return card
    why = sentence(intent, now)
    if intent.waits(now):  # the hub can neither open nor stop it, the service can
        back = urls.spawn(intent.user, intent.server)
        ends = Clock("Retired at the latest", intent.due, text.duration(intent.due - now), None, False)
        return replace(
            card, state="lost by the hub", why=why, open_url=back, keep_alive="", stop_url="", clocks=(ends,)
        )
    return replace(
        card,
        state="being retired",
        why=why,
        clocks=(),
        open_url="",
        keep_alive="",
        keep_alive_note="",
        stop_url="",
        retire_url="",
    )


def state_told(state: str, intent: Intent | None, now: datetime) -> str:
    """A session's state for people: that it is being retired, or unknown to the hub, where it is. Pure."""
    if intent is None:
        return state
    if intent.waits(now):
        return f"unknown to the hub, ends {text.moment(intent.due)} unless its owner comes back to it"
    return messages.retiring(intent.problem).removeprefix("it is ")


def session_json(
    record: EngineSession,
    snapshot: Snapshot,
    decision: Decision | None,
    urls: Urls,
    intent: Intent | None = None,
) -> dict[str, object]:
    """A session for the API."""
    labels = record.labels
    return {
        **labels.identity(),
        "state": record.state,
        **({"retiring": _intent_json(intent)} if intent else {}),
        "created_at": labels.created_at,
        "expires_at": labels.expires_at or None,
        "preemptible": labels.preemptible,
        "gpu": {
            "uuids": list(labels.gpu_uuids),
            "equivalents": labels.gpu_equivalents,
            "devices": list(session_info(record, snapshot).gpus),
        },
        "url": urls.server(labels.user, labels.server),
        "idle": decision.as_dict() if decision else None,
    }


def _intent_json(intent: Intent) -> dict[str, object]:
    return {"at": intent.due.isoformat(), "reason": intent.reason, "problem": intent.problem or None}


@dataclass(frozen=True)
class ProjectRow:
    """One project of a person's on the page of their use."""

    project: str
    disk: str
    bytes: int
    """-1 where they are not known."""
    sessions: int
    gpu_hours: str


def project_rows(spaces: Spaces | None, used: Sequence[UsageRow], person: str) -> list[ProjectRow]:
    """Disk, sessions and GPU-hours of each project, the largest first. Pure.

    ``used`` is the person's use by project as the store counts it; ``spaces`` None while nobody knows.
    """
    known = spaces.projects if spaces else {}
    lines = {line.key.removeprefix(f"{person}/"): line for line in used}
    nothing = UsageRow("")
    found = [
        ProjectRow(
            project=name,
            disk=_disk(known.get(name), gone=spaces is not None and spaces.complete),
            bytes=known[name].bytes if name in known else -1,
            sessions=lines.get(name, nothing).sessions,
            gpu_hours=text.amount(lines.get(name, nothing).gpu_hours),
        )
        for name in {*known, *lines}
    ]
    return sorted(found, key=lambda r: (-r.bytes, r.project))


def _disk(measured: Measured | None, *, gone: bool) -> str:
    if measured is None:
        return "no folder (any more)" if gone else text.UNKNOWN
    return text.size(measured.bytes) if measured.complete else f"at least {text.size(measured.bytes)}"


def space_told(spaces: Spaces | None, now: datetime) -> dict[str, str]:
    """What lies beside the projects, the whole, and how old the figures are."""
    if spaces is None:
        return {"rest": text.UNKNOWN, "total": text.UNKNOWN, "measured": ""}
    return {
        "rest": _disk(spaces.rest, gone=False),
        "total": _disk(spaces.total, gone=False),
        "measured": text.ago(spaces.at, now),
    }


@dataclass(frozen=True)
class HistoryRow:
    """One session, past or running, in a table."""

    user: str
    project: str
    environment: str
    profile: str
    started_at: datetime
    lasted: str
    ended_at: datetime | None
    gpu_hours: str
    reason: str


def history_rows(rows: Sequence[SessionRow], now: datetime, titles: Mapping[str, str]) -> list[HistoryRow]:
    """Past and running sessions for a table; an environment that is gone is named by its id."""
    found = []
    for r in rows:
        lasted = (r.ended_at or now) - r.started_at
        found.append(
            HistoryRow(
                user=r.user,
                project=r.project,
                environment=titles.get(r.environment, r.environment),
                profile=r.profile or "CPU only",
                started_at=r.started_at,
                lasted=text.duration(lasted),
                ended_at=r.ended_at,
                gpu_hours=text.amount(r.equivalents * lasted.total_seconds() / 3600),
                reason=r.reason if r.ended_at else "running",
            )
        )
    return found

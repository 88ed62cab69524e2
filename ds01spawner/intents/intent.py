"""What an intent says, and how it is written down. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from ..core.ending import Ended
from ..core.errors import DS01Error
from ..core.labels import SessionLabels

VERSION = 1
MAX_TEXT = 300
"""Characters kept of each text: a reason comes from people, a problem from the engine."""
ASKER_MARGIN = timedelta(seconds=10)
"""How much longer than the grace an intent is left to whoever asked for it, before others take it up."""
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNRECORDED = frozenset({"failed", "ended"})
"""Kinds of which history knows the end: a start that never came up, a session that ended by itself."""

Kind = Literal[
    "retired",
    "stopped",
    "idle",
    "lifetime",
    "admin",
    "preempted",
    "orphan",
    "leftover",
    "failed",
    "ended",
]
"""Those of `core.ending.RANKS`, and two that history does not hear of."""
TEXTS = (
    "session",
    "user",
    "server",
    "project",
    "hub",
    "reason",
    "kind",
    "by",
    "container",
    "name",
    "problem",
)


class IntentError(DS01Error):
    """An intent cannot be written or read."""


@dataclass(frozen=True)
class Intent:
    """One session's retirement. ``due`` is when it may be carried out; an orphan's lies ahead, so that its
    owner can come back to it. ``others_from`` is when those who did not ask for it take it up."""

    session: str
    user: str
    server: str
    project: str
    hub: str
    reason: str
    kind: str
    by: str
    asked_at: datetime
    due: datetime
    others_from: datetime
    grace: int = 30
    container: str = ""
    """The container's id; empty where only its name is known, as for a start that was cut off."""
    name: str = ""
    problem: str = field(default="", compare=False)
    """Why the last attempt did not succeed; empty before the first."""

    def waits(self, now: datetime) -> bool:
        """Whether it is not to be carried out yet. What was to be done at once never waits: where ``now`` is
        before that, one of the two clocks was wrong."""
        return self.asked_at < self.due and now < self.due

    def for_others(self, now: datetime) -> bool:
        """Whether somebody who did not ask for it may carry it out now. A clock that was set back does not
        hold it up."""
        return not self.waits(now) and (now >= self.others_from or now < self.asked_at)

    @property
    def address(self) -> str:
        """``user`` or ``user/server``."""
        return f"{self.user}/{self.server}" if self.server else self.user

    @property
    def target(self) -> str:
        """What to ask the engine for."""
        return self.container or self.name

    def ended(self, at: datetime, log_tail: str = "") -> Ended:
        """The end that carrying it out makes, for the session's record."""
        return Ended(self.session, at, self.kind, self.reason, by=self.by, since=self.due, log_tail=log_tail)

    def labels(self) -> SessionLabels:
        """The session, as far as the intent knows it."""
        return SessionLabels(self.user, self.server, self.project, self.hub, self.session)


def intend(
    labels: SessionLabels,
    now: datetime,
    *,
    reason: str,
    kind: Kind,
    by: str,
    container: str = "",
    name: str = "",
    grace: int = 30,
    due: datetime | None = None,
    alone: bool = False,
) -> Intent:
    """An intent for a session. ``alone``: whoever asks does not carry it out, so others need not wait."""
    due = due or now
    margin = timedelta(0) if alone else timedelta(seconds=grace) + ASKER_MARGIN
    return Intent(
        session=labels.session,
        user=labels.user,
        server=labels.server,
        project=labels.project,
        hub=labels.hub,
        reason=reason.strip()[:MAX_TEXT],
        kind=kind,
        by=by[:MAX_TEXT],
        asked_at=now,
        due=due,
        others_from=due + margin,
        grace=grace,
        container=container,
        name=name,
    )


def troubled(intent: Intent, problem: str) -> Intent:
    """The intent with what stood in the way of the last attempt."""
    return replace(intent, problem=" ".join(problem.split())[:MAX_TEXT])


def dump(intent: Intent) -> str:
    """The intent as it is written down."""
    data = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(intent).items()}
    return json.dumps({"version": VERSION, **data}, ensure_ascii=False)


def load(text: str) -> Intent:
    """Read an intent back; `IntentError` for anything that is not wholly one of this version."""
    try:
        data = json.loads(text)
        version = data.pop("version")
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise IntentError(f"it is not an intent: {error}") from error
    if version != VERSION:
        raise IntentError(f"it is of version {str(version)[:20]}, which this release does not know")
    try:
        return _from(data)
    except (ValueError, KeyError, TypeError) as error:
        raise IntentError(f"it is damaged: {error!r}"[:MAX_TEXT]) from error


def _from(data: Mapping[str, Any]) -> Intent:
    times = {k: datetime.fromisoformat(data[k]) for k in ("asked_at", "due", "others_from")}
    for key in TEXTS:
        if not isinstance(data[key], str):
            raise TypeError(f"{key} is not text")
    if any(t.tzinfo is None for t in times.values()):
        raise ValueError("a time has no zone")
    if not SESSION.fullmatch(data["session"]) or not (data["container"] or data["name"]):
        raise ValueError("it names no session")
    grace = data["grace"]
    if isinstance(grace, bool) or not isinstance(grace, int) or not 0 <= grace <= 3600:
        raise ValueError("grace is no number of seconds")
    fields: dict[str, Any] = {**{k: data[k] for k in TEXTS}, **times, "grace": grace}
    return Intent(**fields)

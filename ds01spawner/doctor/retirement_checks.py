"""Retirements that are not finished, and sessions that the hub does not know."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

from .. import messages
from ..core import text
from ..core.settings import Settings
from ..engines.base import Finding
from ..intents.files import Intents
from ..intents.intent import Intent

LATE = timedelta(minutes=1)


def check_retirements(settings: Settings) -> Iterator[Finding]:
    """From the state folder alone, so that it is told also while the engine does not answer."""
    yield from findings(Intents(settings.intents), datetime.now(timezone.utc))


def findings(intents: Intents, now: datetime) -> Iterator[Finding]:
    """What is wrong, or that nothing is."""
    open_, unreadable = intents.open(), intents.unreadable()
    late = [i for i in open_ if not i.waits(now) and (now - i.due > LATE or now < i.asked_at)]
    if not unreadable and not late and not any(i.waits(now) for i in open_):
        yield Finding("ok", "no retirement is late, and the hub knows every session")
    yield from (_lost(i) for i in open_ if i.waits(now))
    yield from (_late(i, now) for i in late)
    for file in unreadable:
        yield Finding(
            "error",
            f"{file.path} is no decision to retire a session that this release can read: {file.why}",
            "whether that session is to end is not known, so it is left alone",
            "retire the session by hand if it still runs, then remove the file",
        )


def _lost(intent: Intent) -> Finding:
    return Finding(
        "error",
        f"{intent.address} runs on project {intent.project}, and the hub does not know it",
        f"it holds what it has until {text.moment(intent.due)}, when it is retired",
        "its owner comes back to it by starting it again under that name; or "
        f"ds01 retire {intent.address} --reason …",
    )


def _late(intent: Intent, now: datetime) -> Finding:
    why = f"{intent.reason}; the last attempt: {intent.problem or 'none yet'}"
    return Finding(
        "error",
        f"{intent.address}: {messages.retiring(intent.problem)}, for {text.duration(now - intent.due)} now",
        f"until then it holds what it has ({why})",
        "see that the container engine answers and that the service runs; it is tried again by itself",
    )

"""Sessions that are being retired, and those that the hub has lost, on their owner's pages. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from .. import messages
from ..intents.intent import UNRECORDED, Intent
from ..messages import notes


@dataclass(frozen=True)
class Unfinished:
    """One of them. ``lost``: it runs, and can be started again to be back in it until ``until``."""

    server: str
    project: str
    sentence: str
    lost: bool
    until: datetime


def unfinished(intents: Iterable[Intent], user: str, now: datetime) -> list[Unfinished]:
    """Those of one person, the oldest first."""
    return [
        Unfinished(i.server, i.project, sentence(i, now), i.waits(now), i.due)
        for i in intents
        if i.user == user and i.kind not in UNRECORDED  # what a start left was no session
    ]


def sentence(intent: Intent, now: datetime) -> str:
    """What its owner reads."""
    if intent.waits(now):
        return notes.unknown_to_hub(intent.project)
    told = messages.retiring(intent.problem)
    return f"{told[0].upper()}{told[1:]}. Until then it holds its device. Your files are kept."

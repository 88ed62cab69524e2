"""Retirements as the idle service sees them: which are open, how one is asked for, how all are finished.

Also sessions that the hub has lost: the idle rules, lifetimes and deadlines hold for them too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

from ..core.hub_client import HubServer
from ..core.labels import SessionLabels
from ..engines.docker.engine_reader import Running
from ..intents.carry import carry, carry_open
from ..intents.intent import Intent, Kind, intend
from ..site import Site
from .model import Decision, IdleRules

KINDS: Mapping[str, Kind] = {"idle": "idle", "lifetime": "lifetime", "deadline": "admin"}


class Retirements(Protocol):
    """What the service asks; every call blocks and runs in a thread."""

    def open(self) -> dict[str, Intent]:
        """The open intents by session."""

    def ask(self, running: Running, decision: Decision, now: datetime) -> None:
        """Make the decision durable; `IntentError` where that fails."""

    def end(self, running: Running, decision: Decision, now: datetime) -> bool:
        """End a session on the engine, one that the hub does not know (any more); whether it is gone."""

    def go_on(self, now: datetime) -> None:
        """Carry out what is due, whoever asked for it."""


class EngineRetirements:
    """The real ones."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def open(self) -> dict[str, Intent]:
        """See `Retirements`."""
        return {i.session: i for i in self._site.intents.open()}

    def ask(self, running: Running, decision: Decision, now: datetime) -> None:
        """See `Retirements`."""
        self._site.intents.ask(_intent(running, decision, now))

    def end(self, running: Running, decision: Decision, now: datetime) -> bool:
        """See `Retirements`."""
        intent = self._site.intents.get(running.labels.session) or _intent(running, decision, now)
        return carry(self._site, intent, now).gone

    def go_on(self, now: datetime) -> None:
        """See `Retirements`."""
        carry_open(self._site, now)


def _intent(running: Running, decision: Decision, now: datetime) -> Intent:
    return intend(
        running.labels,
        now,
        reason=decision.reason,
        kind=KINDS[decision.cause or "idle"],
        by="idle service",
        container=running.container,
    )


def lost_servers(
    running: Collection[Running],
    servers: Mapping[tuple[str, str], HubServer],
    intents: Mapping[str, Intent],
    base_url: str = "/",
) -> dict[tuple[str, str], HubServer]:
    """Servers in place of those the hub has lost, so that their sessions are looked at like any. Pure."""
    found = {}
    for labels in (r.labels for r in running):
        intent, key = intents.get(labels.session), (labels.user, labels.server)
        if intent is not None and intent.kind == "orphan" and key not in servers:
            path = f"{base_url}user/{quote(labels.user, safe='@~')}/"
            path += f"{quote(labels.server, safe='')}/" if labels.server else ""
            found[key] = HubServer(labels.user, labels.server, path, ready=True, lost=True)
    return found


def ours(
    running: Running,
    servers: Mapping[tuple[str, str], HubServer],
    intents: Mapping[str, Intent],
    now: datetime,
) -> bool:
    """Whether a session is looked at: what starts or stops is left alone, and what is being retired."""
    intent = intents.get(running.labels.session)
    if intent is not None and not intent.waits(now):
        return False
    server = servers.get((running.labels.user, running.labels.server))
    return server is not None and server.ready and not server.pending


def rules_of(rules: IdleRules, server: HubServer, labels: SessionLabels) -> IdleRules:
    """The rules of a session. Whose groups the hub does not tell keeps the idle limit it started with."""
    if not server.lost:
        return rules
    try:
        own = json.loads(labels.limits)["idle"]
    except (ValueError, KeyError, TypeError):
        return rules
    return replace(rules, timeout=float(own) if isinstance(own, (int, float)) else None)

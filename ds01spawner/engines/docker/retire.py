"""Retire a session, or clear a leftover, straight on the engine: checked to be ours, verified after.

For the command line and the reconciler, which work with or without a hub. Blocking.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import docker.errors
import requests
from urllib3.exceptions import HTTPError

from ... import logtail
from ...core.ending import Ended
from ...core.installation import Standing
from ...errors import EngineError
from ...labels import SessionLabels
from . import endings
from .bounded import log_tail
from .ledger import SessionRecord

VERIFY_S = 10.0
EVENTS_BACK = timedelta(hours=1)


@dataclass(frozen=True)
class Retired:
    """What a retire did. ``log_tail`` are the session's last lines."""

    record: SessionRecord
    log_tail: str = ""
    ended: Ended | None = None
    """How it ended, where it had ended by itself or the engine told the time; see `endings.explain`."""


def retire(client: Any, record: SessionRecord, grace: int = 30) -> Retired:
    """Stop and remove a session's container; `EngineError` when it is not gone afterwards.

    Its labels are read again first, so that an id that now means something else is never touched, and a
    session of another installation, or a forged one, never is.
    """
    try:
        found = client.inspect_container(record.container)
        labels = SessionLabels.from_labels(found["Config"].get("Labels") or {})
        ours = record.standing is Standing.OURS
        if not ours or labels is None or labels.session != record.labels.session:
            raise EngineError(
                f"the container of {record.labels.address} is not that session's; nothing was done"
            )
        if found["State"]["Running"]:
            client.stop(record.container, timeout=grace)
        tail = _tail(client, record.container)
        now = datetime.now(timezone.utc)
        evidence = endings.read(client, record.container, now - EVENTS_BACK, now)
        ended = endings.of_session(labels, evidence, tail)
        client.remove_container(record.container, force=True, v=True)
    except docker.errors.NotFound:
        return Retired(record)
    except docker.errors.APIError as error:
        if error.status_code != 409:  # a removal is under way already
            raise EngineError(f"{record.labels.address} could not be retired: {error.explanation}") from error
        tail, ended = "", None
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise EngineError(f"the engine did not answer while retiring: {error}") from error
    verify_gone(client, record.container)
    return Retired(record, tail, ended)


def verify_gone(client: Any, container: str, patience: float = VERIFY_S) -> None:
    """Return when the engine says there is no such container; `EngineError` when it stays."""
    deadline = time.monotonic() + patience
    while True:
        try:
            client.inspect_container(container)
        except docker.errors.NotFound:
            return
        if time.monotonic() > deadline:
            raise EngineError(f"the container {container[:12]} is still there after its removal")
        time.sleep(0.1)


def leftovers(sessions: Iterable[SessionRecord], now: datetime, older_than: timedelta) -> list[SessionRecord]:
    """Containers of ours that no session can come of: not running, and older than any start takes.

    A running container is never one, whatever the hub believes. Pure.
    """
    found = []
    for record in sessions:
        if record.standing is not Standing.OURS or record.state not in ("created", "exited", "dead"):
            continue
        try:
            created = datetime.fromisoformat(record.labels.created_at)
        except ValueError:
            continue
        if now - created > older_than:
            found.append(record)
    return found


def _tail(client: Any, container: str) -> str:
    try:
        read = log_tail(client, container, logtail.READ_BYTES, tail=logtail.READ_LINES)
        return logtail.tail(read)
    except (docker.errors.DockerException, requests.RequestException, EngineError, HTTPError):
        return ""

"""Retire a session, or clear a leftover, straight on the engine: checked to be ours, verified after.

For the command line and the reconciler, which work with or without a hub. Blocking.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import docker.errors
import requests
from urllib3.exceptions import HTTPError

from ...core import logtail
from ...core.errors import EngineError
from ...core.labels import SESSION, SessionLabels
from .. import ends
from ..base import NotThatSession, Retired, leftovers
from . import endings
from .bounded import log_tail

VERIFY_S = 10.0
SessionIn = Callable[[Mapping[str, Any]], SessionLabels | None]
"""The session of this installation that an inspected container is, or None; see `Site.session_in`."""
EVENTS_BACK = timedelta(hours=1)
log = logging.getLogger(__name__)
__all__ = ["NotThatSession", "Retired", "SessionIn", "end", "leftovers", "tail_of", "verify_gone"]


def end(client: Any, container: str, session: str, ours: SessionIn, grace: int = 30) -> Retired:
    """Stop and remove a session's container, by its id or name; may be repeated, also side by side.

    Its labels are read again first, so that an id or name that now means something else is never touched,
    and a session of another installation, or a forged one, never is. Returns only when the engine says that
    it is gone, `EngineError` otherwise.
    """
    try:
        found = client.inspect_container(container)
        labels = ours(found)
        if labels is None or labels.session != session:
            raise _not_that(found, container, session)
        ran = bool(found["State"]["Running"])
        if ran:
            _stop(client, found["Id"], grace)
        tail = tail_of(client, found["Id"])
        now = datetime.now(timezone.utc)
        evidence = endings.read(client, found["Id"], now - EVENTS_BACK, now)
        ended = ends.of_session(labels, evidence, tail)
        _remove(client, found["Id"])
    except docker.errors.NotFound:
        return Retired(None)
    except docker.errors.APIError as error:
        raise EngineError(f"the engine could not retire {container[:63]}: {error.explanation}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise EngineError(f"the engine did not answer while retiring: {error}") from error
    verify_gone(client, found["Id"])
    return Retired(labels, tail, ended, ran)


def _not_that(found: Mapping[str, Any], container: str, session: str) -> EngineError:
    said = (found["Config"].get("Labels") or {}).get(SESSION)
    if said == session:
        return EngineError(
            f"the labels of {container[:63]} are not of this installation, so nothing was done to it"
        )
    return NotThatSession(f"the container {container[:63]} is not that session's; nothing was done")


def _stop(client: Any, container: str, grace: int) -> None:
    try:
        client.stop(container, timeout=grace)
    except docker.errors.NotFound:
        raise
    except docker.errors.APIError as error:
        log.warning("%s did not stop, so it is removed by force: %s", container[:12], error.explanation)


def _remove(client: Any, container: str) -> None:
    try:
        client.remove_container(container, force=True, v=True)
    except docker.errors.APIError as error:
        if error.status_code != 409:  # a removal is under way already
            raise


def verify_gone(client: Any, container: str) -> None:
    """Return when the engine says there is no such container; `EngineError` when it stays."""
    deadline = time.monotonic() + VERIFY_S
    while True:
        try:
            client.inspect_container(container)
        except docker.errors.NotFound:
            return
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise EngineError(f"the engine does not say whether it is gone: {error}") from error
        if time.monotonic() > deadline:
            raise EngineError(f"the container {container[:12]} is still there after its removal")
        time.sleep(0.1)


def tail_of(client: Any, container: str) -> str:
    """A container's last lines; empty where they cannot be read."""
    try:
        read = log_tail(client, container, logtail.READ_BYTES, tail=logtail.READ_LINES)
        return logtail.tail(read)
    except (docker.errors.DockerException, requests.RequestException, EngineError, HTTPError):
        return ""

"""What a hub needs of Docker before it starts: the sessions' network, and where to listen."""

from __future__ import annotations

import time
from collections.abc import Callable

import docker
import requests
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env
from traitlets.config import Config

from ...core.errors import EngineError
from ...core.installation import load as load_installation
from ...core.settings import Settings
from . import settling
from .network import BUILT_IN, ensure_network, remember, remembered

ENGINE_TIMEOUT_S = 20
ENGINE_TRIES, ENGINE_PAUSE_S = 4, 2.0
FAILURES = (DockerException, requests.RequestException)


def prepare(hub: Config, settings: Settings) -> None:
    """Make the network of the sessions, and let the hub listen where sessions can reach it.

    Where the admin says where to listen, no engine is asked here: `background` sees to the network.
    """
    name = settings.network
    if name in BUILT_IN or "hub_ip" in hub or "hub_bind_url" in hub or "hub_connect_ip" in hub:
        return
    hub["hub_ip"] = _patiently(lambda: _gateway(name, settings))


def _patiently(ask: Callable[[], str]) -> str:
    """What the engine answers; one that comes up beside the hub, or drops a connection, is asked again."""
    tries = 1
    while True:
        try:
            return ask()
        except (EngineError, *FAILURES) as error:
            if not _unanswered(error) or tries >= ENGINE_TRIES:
                raise _said(error) from error.__cause__ or error
        tries += 1
        time.sleep(ENGINE_PAUSE_S)  # nothing runs in the hub's process before it is configured


def _said(error: Exception) -> EngineError:
    """The error in a sentence for the hub's log."""
    if isinstance(error, EngineError):
        return error
    does = "refuses what the hub needs" if isinstance(error, APIError) else "does not answer"
    return EngineError(f"the Docker engine {does}, so the hub cannot start: {error}")


def _unanswered(error: BaseException) -> bool:
    """Whether the engine gave no answer at all, so that asking again may help."""
    cause = error.__cause__ if isinstance(error, EngineError) else error
    return isinstance(cause, FAILURES) and not isinstance(cause, APIError)


def _gateway(name: str, settings: Settings) -> str:
    """The host's address on the network of the sessions, which is made where it is missing."""
    extra = {"base_url": settings.docker_host} if settings.docker_host else kwargs_from_env()
    client = docker.APIClient(version="auto", timeout=ENGINE_TIMEOUT_S, **extra)
    settling.settle(client, settings)
    # With the addresses it had before, so that sessions which run find the hub again.
    known = remembered(settings.state_dir, name)
    mine = load_installation(settings.state_dir)
    network = ensure_network(client, name, settings.hub_id, known, mine.id if mine else "")
    if network != known:
        remember(settings.state_dir, network)
    return network.gateway

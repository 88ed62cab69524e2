"""What the hub's process does beside serving: keep the sessions' network, try that it keeps them apart, and
find sessions that do not find this hub. In threads of its own, begun by `configure`.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

import docker.errors
import requests
from jupyterhub.app import JupyterHub

from ...core.errors import DS01Error
from ...core.settings import Settings
from ...messages import notes
from ...site import Site
from . import hub_address, isolation_record, mount_sources
from .engine import docker_of
from .hub_address import HubAddress
from .network import BUILT_IN, HubNetwork, ensure_network, remember, remembered
from .network_watch import LOOK_S, NetworkWatch
from .settling import settle

log = logging.getLogger(__name__)
STARTED_WITHIN_S = 600.0
END_WITHIN_S = 30.0
PROBE_EVERY_S = 12 * 3600.0
AGAIN_S = 300.0
"""Seconds until a probe that could tell nothing is repeated."""
FAILURES = (DS01Error, docker.errors.DockerException, requests.RequestException, OSError)


def begin(settings: Settings, connect_url: str = "") -> None:
    """Start the threads, in a process that is to be a hub; they wait for it to be up.

    ``connect_url`` is the address that the site's configuration tells sessions instead of the hub's own.
    """
    if not JupyterHub.initialized():
        return  # a configuration that is only read
    threading.Thread(target=_run, args=(settings, connect_url), name="ds01-background", daemon=True).start()


def _run(settings: Settings, connect_url: str) -> None:
    app = _started_hub()
    if app is None:
        return
    site = Site.for_settings(settings.model_dump())
    _settle(site)
    _guarded(lambda: tell_stranded(site, _address(app, connect_url), datetime.now(timezone.utc)))
    _guarded(
        lambda: mount_sources.sweep(
            (r.labels.session for r in site.engine.look().sessions), mount_sources.hold_of(site.installation)
        )
    )
    watch = None if settings.network in BUILT_IN else _watch(site, app.hub.ip)
    prober = Prober(site)
    prober.ask()
    while True:
        if watch is not None:
            state = watch.look()
            if state == "remade":
                prober.ask()
            if watch.hopeless:
                end_process(f"the network {watch.network.name} cannot be made anew: {watch.why}")
                return
        elif settings.network not in BUILT_IN:
            watch = _watch(site, app.hub.ip)
        prober.tick()
        time.sleep(LOOK_S)


def _started_hub() -> Any:
    """The hub of this process once it serves; None where it is something else (``jupyterhub token``)."""
    until = time.monotonic() + STARTED_WITHIN_S
    while time.monotonic() < until:
        app = JupyterHub.instance()
        if app.http_server is not None:
            return app
        time.sleep(0.5)
    return None


def _address(app: Any, connect_url: str) -> HubAddress:
    bound = urlsplit(app.hub.bind_url)
    told = connect_url.rstrip("/") + urlsplit(app.hub.api_url).path if connect_url else app.hub.api_url
    return HubAddress(str(told), bound.hostname or "", int(bound.port or 0))


def tell_stranded(site: Site, address: HubAddress, now: datetime) -> int:
    """Tell the owners of sessions that do not find this hub; returns how many those are. Blocking."""
    hub_address.remember(site.settings.state_dir, address)
    mine = site.engine.look().sessions
    lost = hub_address.stranded(docker_of(site.engine).client, mine, address)
    for each in lost:
        labels = each.record.labels
        log.error(
            "Session %s was told the hub is at %s; it is at %s", labels.address, each.told, address.api_url
        )
        site.store().notices.delete(_key(labels.session))
        site.store().notices.add(
            labels.user,
            notes.hub_moved(labels.project),
            now,
            kind="hub-moved",
            level="danger",
            server=labels.server,
            session=labels.session,
            key=_key(labels.session),
        )
    for session in {r.labels.session for r in mine} - {s.record.labels.session for s in lost}:
        site.store().notices.expire(_key(session), now)
    return len(lost)


def _key(session: str) -> str:
    return f"hub-moved:{session}"


def _watch(site: Site, listens_at: str) -> NetworkWatch | None:
    """A watch over the network as it was when the configuration was read, or as it is now."""
    settings = site.settings
    network: HubNetwork | None = remembered(settings.state_dir, settings.network)
    mine = site.installation.id if site.installation else ""
    try:
        if network is None:
            network = ensure_network(
                docker_of(site.engine).client, settings.network, settings.hub_id, installation=mine
            )
            remember(settings.state_dir, network)
    except FAILURES as error:
        docker_of(site.engine).say_once(f"the sessions' network is not watched: {error}")
        return None
    vital = listens_at == network.gateway
    return NetworkWatch(
        lambda: docker_of(site.engine).client, network, settings.hub_id, vital=vital, installation=mine
    )


class Prober:
    """Probes one at a time in a thread of its own, when asked and twice a day."""

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site, self._clock = site, clock
        self._due = 0.0
        self._thread: threading.Thread | None = None

    def ask(self) -> None:
        """Probe as soon as no other probe is under way."""
        self._due = 0.0

    def tick(self) -> None:
        """Begin a probe when one is due. Never blocks."""
        if not self._site.settings.isolation_probe:
            return
        if self._clock() < self._due or (self._thread and self._thread.is_alive()):
            return
        self._due = self._clock() + PROBE_EVERY_S
        self._thread = threading.Thread(target=self._probe, name="ds01-isolation", daemon=True)
        self._thread.start()

    def _probe(self) -> None:
        settings = self._site.settings
        found = isolation_record.probe_site(
            settings, docker_of(self._site.engine).client, datetime.now(timezone.utc)
        )
        if found.verdict == "open":
            log.critical(
                "Sessions on the network %s reach each other (%s)%s",
                settings.network,
                ", ".join(found.ways),
                "" if settings.allow_open_network else "; no session is started until that is put right",
            )
        elif found.verdict == "unknown":
            log.warning("Whether sessions are kept apart could not be tried: %s", found.why)
            self._due = self._clock() + AGAIN_S
        else:
            log.info("Sessions on the network %s cannot reach each other", settings.network)


def _settle(site: Site) -> None:
    try:
        settle(docker_of(site.engine).client, site.settings)
    except FAILURES as error:
        log.error("%s", error)


def _guarded(work: Callable[[], Any]) -> None:
    try:
        work()
    except FAILURES as error:
        log.warning("What runs could not be looked at: %s", error)


def end_process(reason: str) -> None:
    """End the hub so that its supervisor starts it again; sessions run on. The exit code is 1."""
    log.critical(
        "The hub ends because its own address is gone: %s. Its supervisor must start it again", reason
    )
    atexit.register(lambda: os._exit(1))  # last of all: JupyterHub ends with 0 after a signal
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(END_WITHIN_S)
    os._exit(1)

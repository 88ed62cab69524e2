"""Builds the idle service out of the site's settings and the hub's environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from datetime import datetime, timezone
from importlib import import_module
from typing import Any

from ..core.errors import DS01Error
from ..core.hub_client import HubClient, HubServer
from ..core.settings import Settings, load_settings
from ..engines.docker.engine_reader import EngineReader, Running, connect
from ..gpu import read_gpu
from ..notify.channels import BannerChannel, Channel, FileChannel, HookChannel, LabChannel, Notifier
from ..notify.mail import channel_for
from ..policy.resolve import Person
from ..site import Site
from ..workspace.session_files import ProjectFolder
from .arbiter import Arbiter
from .case import Parts, Settled
from .idle_store import Book
from .lab import LabClient
from .model import IdleRules
from .observe import Observer, Sensors
from .procs import HostSampler
from .retirements import EngineRetirements
from .rules import from_policy
from .service import IdleService
from .state import IdleFiles


def build(settings: Settings, api_url: str, token: str, settled: Settled | None = None) -> IdleService:
    """A service ready to run."""
    settled = settled or Settled()
    site = Site(settings)
    engine = EngineReader(lambda: connect(settings), lambda: site.installation)

    def folder(user: str, project: str) -> ProjectFolder:
        return ProjectFolder(settings.workspace_root, user, project)

    sensors = Sensors(
        host=HostSampler(),
        engine=engine,
        lab=LabClient(token),
        gpu=lambda: read_gpu(settings, activity=True),
        folder=folder,
        port=settled.port,
    )
    observer = Observer(sensors, settled.window)
    channels: list[Channel] = [
        BannerChannel(site.store),
        FileChannel(folder),
        LabChannel(observer.show_in_lab),
    ]
    channels += [HookChannel(load_hook(h), h) for h in settled.hooks]
    channels += [channel_for(address) for address in settled.webhooks]
    parts = Parts(
        hub=HubClient(
            api_url,
            token,
            timeout=settled.timeout,
            parallel=settled.at_once,
            page_size=settled.page_size,
            ssl_options=settled.tls,
        ),
        observer=observer,
        running=engine.running,
        rules=lambda server, now: rules_for(site, server, now, settled.poll),
        book=Book(site.store),
        notifier=Notifier(channels),
        files=IdleFiles(settings.state_dir),
        clock=utcnow,
        retirements=EngineRetirements(site),
        base_url=os.environ.get("JUPYTERHUB_BASE_URL") or "/",
        share=lambda running: share_in_use(site, running),
    )
    return IdleService(parts, settled)


def arbiter(**options: Any) -> Arbiter:
    """The arbiter for the stock culler, from the environment a hub-managed service runs in.

    ``options`` are those of `case.Settled`.
    """
    url, token = hub_environment()
    return Arbiter(build(load_settings(), url, token, Settled(**options)))


def hub_environment(url: str | None = None) -> tuple[str, str]:
    """API address and token that the hub gives its services; `DS01Error` where there are none."""
    url = url or os.environ.get("JUPYTERHUB_API_URL", "")
    token = os.environ.get("JUPYTERHUB_API_TOKEN", "")
    if not url or not token:
        raise DS01Error(
            "the idle service needs JUPYTERHUB_API_URL and JUPYTERHUB_API_TOKEN; "
            "the hub sets both for the services it starts"
        )
    return url, token


def rules_for(site: Site, server: HubServer, now: datetime, poll: float) -> IdleRules:
    """The idle rules of a server's owner."""
    limits = site.limits(Person(server.user, server.groups, server.admin), now)
    return from_policy(limits.idle, limits.source("idle.timeout"), poll)


def share_in_use(site: Site, running: Collection[Running]) -> float:
    """Share of the machine's devices that this hub's sessions hold; 0 when it cannot be told."""
    devices = site.engine.inventory().inventory.devices
    held = {u for r in running for u in r.labels.gpu_uuids}
    taken = [d for d in devices if d.uuid in held]
    busy = sum(1 for d in devices if any(d.excludes(t) for t in taken))
    return busy / len(devices) if devices else 0.0


def load_hook(name: str) -> Callable[..., Any]:
    """A function by ``module:function``; `DS01Error` when there is none."""
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise DS01Error(f"the notice hook {name!r} cannot be loaded: {error}") from error
    if not callable(found):
        raise DS01Error(f"the notice hook {name!r} is not a function")
    return found  # type: ignore[no-any-return]


def utcnow() -> datetime:
    """The present instant."""
    return datetime.now(timezone.utc)

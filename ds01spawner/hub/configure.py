"""`configure(c)`: the whole installation. It adds to what the admin set and overwrites nothing.

Set your own traits first, then call it at the end of ``jupyterhub_config.py``.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.app import JupyterHub
from traitlets.config import Config

from ..core import orphan_watch
from ..core.errors import DS01Error
from ..core.public_urls import origin_of, service_address
from ..core.settings import DEFAULT_IMAGE, Settings
from ..courses.publication import TEACH_SCOPE
from ..engines import engine_for
from ..pages import template_dirs
from ..pages.hub import template_var
from ..pages.keys import LogOuts, load_secret
from ..workspace.folder_modes import make_private, narrow, sqlite_path, watched

log = logging.getLogger(__name__)
SERVICE = "ds01"
SERVICE_PORT = 10201
IDLE_SERVICE = "ds01-idle"

SERVICE_SCOPES = [
    "list:users",
    "read:users:name",
    "read:users:groups",
    "read:users:activity",
    "read:servers",
    "admin:server_state",
    "servers",  # includes start:servers, a scope that hub 5 does not know by its own name
    "delete:servers",
    "read:hub",
]
"""What the service may do: see who runs what, start granted tickets, retire. Nothing about accounts."""

IDLE_SCOPES = [
    "list:users",
    "read:users:name",
    "read:users:groups",
    "read:users:activity",
    "read:servers",
    "delete:servers",
    "access:servers",
]
"""What the idle service may do: see who runs what, ask sessions for their kernels, retire."""


def configure(
    c: Config, *, service: bool = True, idle: bool = True, idle_arguments: Sequence[str] = ()
) -> Settings:
    """Install spawner, templates, service and idle culler into a JupyterHub configuration.

    ``service`` and ``idle`` leave those parts out; ``idle_arguments`` are given to
    ``python -m ds01spawner.idle`` (see its ``--help``), such as ``("--cull-every=30",)``. The sessions'
    network is made where it is missing, and the hub listens at its gateway unless you say otherwise.

    Returns the effective settings, which are also written to ``<state_dir>/settings.json`` for the
    service and the ``ds01`` command. `EngineError` when the engine does not answer and nothing else
    says where the hub should listen.
    """
    from ..engines.docker import background, settling
    from ..site import Site
    from .people import look_after_people
    from .process_setup import end_keys_with_log_in, tune_hub_process
    from .traits import SETTINGS_TRAITS, START_TIMEOUT_S, SiteTraits, settings_from

    hub = c.JupyterHub
    _default(hub, "spawner_class", "ds01spawner.spawner.DS01Spawner")
    # A hub that goes away must leave the sessions alone.
    _default(hub, "cleanup_servers", False)
    _default(hub, "allow_named_servers", True)
    # Starts take turns (`queue.turns`): a class that clicks at once waits, and is not sent away.
    _default(hub, "concurrent_spawn_limit", 500)
    traits = SiteTraits.class_traits()
    given = {**c.Spawner, **c.SiteTraits, **c.SessionSpawner, **c.DockerSpawner, **c.DS01Spawner}
    given.setdefault("start_timeout", START_TIMEOUT_S)
    settings = settings_from({n: given[n] if n in given else traits[n].default() for n in SETTINGS_TRAITS})
    image = given.get("image")
    image = image if isinstance(image, str) else DEFAULT_IMAGE
    settings = settings.model_copy(update={"image": image, "own_logo": _own_logo(hub), **_of_the_hub(hub)})
    settling.make(settings)
    settings.write()
    _keep_private(settings)
    engine_for(settings).prepare(hub)
    _append(hub, "template_paths", template_dirs())
    _secure_cookies(hub)
    _refuse_internal_ssl(hub)
    _templates(hub, settings, _service_address(hub))
    _scopes(hub)
    if service:
        _service(c, settings)
    if idle:
        _idle(c, settings, idle_arguments)
    if JupyterHub.initialized():  # else a configuration that is only read
        tune_hub_process(settings.hub_database)
    look_after_people(Site.for_settings(settings.model_dump()))
    end_keys_with_log_in(LogOuts(settings.state_dir), lambda: datetime.now(timezone.utc))
    background.begin(settings, _told_url(given))
    return settings


def _told_url(given: Mapping[str, Any]) -> str:
    """The address of the hub that the admin has sessions told; empty where it is the hub's own."""
    env = given.get("environment")
    told = (env if isinstance(env, Mapping) else {}).get("JUPYTERHUB_API_URL")
    if isinstance(told, str):
        return told.removesuffix("/api").removesuffix("/hub")
    url = given.get("hub_connect_url")
    return url if isinstance(url, str) else ""


def _default(section: Config, name: str, value: Any) -> None:
    if name not in section:
        section[name] = value


def _append(section: Config, name: str, values: list[Any]) -> None:
    section[name] = [*_listed(section, name), *values]


def _on_command_line() -> Mapping[str, Any]:
    """What the hub's command line says; it comes before its configuration."""
    said: Mapping[str, Any] = JupyterHub.instance().cli_config.JupyterHub if JupyterHub.initialized() else {}
    return said


def _own_logo(hub: Config) -> bool:
    """Whether the site has a logo of its own, by its configuration or on the hub's command line."""
    return "logo_file" in hub or "logo_file" in _on_command_line()


def _of_the_hub(hub: Config) -> dict[str, Any]:
    """What of JupyterHub's own configuration the site's other parts want to know."""
    url, host = _on_command_line().get("db_url", hub.get("db_url")), hub.get("subdomain_host")
    database = sqlite_path(url if isinstance(url, str) else "sqlite:///jupyterhub.sqlite", Path.cwd())
    return {"hub_database": database, "subdomain_host": host if isinstance(host, str) else ""}


def _keep_private(settings: Settings) -> None:
    """Nobody but the hub's account and group reads the hub's state, whoever made it with whatever umask."""
    make_private(settings.hub_database)
    databases = [settings.hub_database, sqlite_path(settings.store, settings.state_dir)]
    for wide in narrow(watched(settings.state_dir, databases)):
        log.warning("%s stays readable for more accounts than it should (%o)", wide.path, wide.mode)


def _listed(section: Config, name: str) -> list[Any]:
    # A trait that was only touched (``c.X.y.append(...)``) is a lazy value, not a list yet.
    value = section.get(name)
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else list(value.get_value([]))


def _secure_cookies(hub: Config) -> None:
    """Where the hub is reached by TLS, its XSRF cookie is for TLS alone, as its other cookies are."""
    if not str(hub.get("public_url") or "").startswith("https://"):
        return
    given = hub.get("tornado_settings")
    settings = dict(given if isinstance(given, Mapping) else given.get_value({}) if given else {})
    hub["tornado_settings"] = {
        **settings,
        "xsrf_cookie_kwargs": {"secure": True, **settings.get("xsrf_cookie_kwargs", {})},
    }


def _service_path(hub: Config) -> str:
    base = hub.get("base_url")
    if not isinstance(base, str):
        base = urlsplit(str(hub.get("bind_url") or "")).path or "/"
    return f"{base.rstrip('/')}/services/{SERVICE}/"


def _service_address(hub: Config) -> str:
    """Where browsers find the service: on a domain of its own where the hub has subdomains."""
    host, hook = hub.get("subdomain_host"), hub.get("subdomain_hook")
    return service_address(_service_path(hub), host if isinstance(host, str) else "", hook)


def _refuse_internal_ssl(hub: Config) -> None:
    """`DS01Error` where the hub would use certificates of its own making inside: sessions have none."""
    if hub.get("internal_ssl"):
        raise DS01Error(
            "c.JupyterHub.internal_ssl is on, and ds01spawner cannot give its sessions the certificates for "
            "that. Take it out: hub, proxy and sessions talk on a network of this machine alone. "
            "docs/admins/tls.md says how browsers reach the hub by TLS."
        )


def _templates(hub: Config, settings: Settings, service_url: str) -> None:
    from ..notify.board import NoticeBoard
    from ..pages.unfinished import unfinished
    from ..site import Site

    def clock() -> datetime:
        return datetime.now(timezone.utc)

    site = Site.for_settings(settings.model_dump())
    given = hub.get("template_vars")
    mine = template_var(
        service_url,
        load_secret(settings.state_dir),
        site.endings.shown,
        clock,
        NoticeBoard(site.store, clock).of,
        own_logo=settings.own_logo,
        left=lambda user: unfinished(site.intents.open(), user, clock()),
    )
    hub["template_vars"] = {**(given if isinstance(given, Mapping) else {}), "ds01": mine}


PASSED = (
    "LD_LIBRARY_PATH",
    *("DS01_BUILD_NETWORK", "DS01_BUILD_ARGS", "DS01_BUILD_FILES", "DS01_BUILD_HOST_PORTS"),
)
"""Variables of the hub that its services get, beside those of the engine's client."""


def _environment(settings: Settings) -> dict[str, str]:
    """What a process beside the hub needs to find the site."""
    return {
        "DS01_STATE_DIR": str(settings.state_dir.resolve()),
        "PATH": os.environ.get("PATH", ""),
        **orphan_watch.variable(),
        # Where the driver's library is found, on a machine that does not have it in the usual place.
        **{k: v for k, v in os.environ.items() if k.startswith("DOCKER_") or k in PASSED},
    }


def _public(hub: Config) -> dict[str, str]:
    """What tells the service that browsers find the hub and itself on different domains; else nothing."""
    address, host = _service_address(hub), hub.get("subdomain_host")
    return {"DS01_PUBLIC_SERVICE": address, "DS01_PUBLIC_HUB": str(host)} if origin_of(address) else {}


def _service(c: Config, settings: Settings) -> None:
    _append(
        c.JupyterHub,
        "services",
        [
            {
                "name": SERVICE,
                "url": f"http://127.0.0.1:{os.environ.get('DS01_SERVICE_PORT', SERVICE_PORT)}",
                "command": [sys.executable, "-m", "ds01spawner.service"],
                "environment": {**_environment(settings), **_public(c.JupyterHub)},
                "oauth_no_confirm": True,
                "oauth_client_allowed_scopes": [TEACH_SCOPE],
                "display": False,  # our own entry is in the navigation bar
            }
        ],
    )
    role = {"name": "ds01-service", "scopes": SERVICE_SCOPES, "services": [SERVICE]}
    _append(c.JupyterHub, "load_roles", [role])
    _let_users_in(c.JupyterHub)


def _let_users_in(hub: Config) -> None:
    """Everybody may open the service's pages: one more scope in the role of all users, whoever defined it."""
    access = f"access:services!service={SERVICE}"
    roles = [dict(role) for role in _listed(hub, "load_roles")]
    mine = next((role for role in roles if role.get("name") == "user"), None)
    if mine is None:
        mine = {"name": "user", "scopes": ["self"]}
        roles.append(mine)
    mine["scopes"] = [*mine.get("scopes", []), access]
    hub["load_roles"] = roles


def _scopes(hub: Config) -> None:
    """Define the scope for people who teach. Give it by a role, filtered on the group of a roster::

    c.JupyterHub.load_roles = [
        {"name": "teach-nlp", "users": ["prof.ada"], "scopes": ["custom:ds01:course:teach!group=nlp-s26"]}
    ]
    """
    given = hub.get("custom_scopes")
    hub["custom_scopes"] = {
        TEACH_SCOPE: {"description": "Apply, build and publish courses of ds01spawner."},
        **(given if isinstance(given, Mapping) else {}),
    }


def _idle(c: Config, settings: Settings, arguments: Sequence[str]) -> None:
    _append(
        c.JupyterHub,
        "services",
        [
            {
                "name": IDLE_SERVICE,
                "command": [sys.executable, "-m", "ds01spawner.idle", *arguments],
                "environment": _environment(settings),
            }
        ],
    )
    _append(
        c.JupyterHub,
        "load_roles",
        [{"name": IDLE_SERVICE, "scopes": IDLE_SCOPES, "services": [IDLE_SERVICE]}],
    )

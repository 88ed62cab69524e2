"""`configure(c)`: the whole installation. It adds to what the admin set and overwrites nothing.

Set your own traits first, then call it at the end of ``jupyterhub_config.py``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

from traitlets.config import Config

from .images.course import TEACH_SCOPE
from .pages import template_dirs
from .pages.hub import template_var
from .pages.keys import load_secret
from .settings import DEFAULT_IMAGE, Settings

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
    ``python -m ds01spawner.idle`` (see its ``--help``), such as ``("--poll", "30")``.
    Returns the effective settings, which are also
    written to ``<state_dir>/settings.json`` for the service and the ``ds01`` command.
    """
    from .session import SETTINGS_TRAITS, START_TIMEOUT_S, SessionMixin, settings_from

    hub = c.JupyterHub
    _default(hub, "spawner_class", "ds01spawner.spawner.DS01Spawner")
    # A hub that goes away must leave the sessions alone.
    _default(hub, "cleanup_servers", False)
    _default(hub, "allow_named_servers", True)
    # Starts take turns (`queue.turns`): a class that clicks at once waits, and is not sent away.
    _default(hub, "concurrent_spawn_limit", 500)
    traits = SessionMixin.class_traits()
    given = {**c.Spawner, **c.SessionMixin, **c.DockerSpawner, **c.DS01Spawner}
    given.setdefault("start_timeout", START_TIMEOUT_S)
    settings = settings_from({n: given[n] if n in given else traits[n].default() for n in SETTINGS_TRAITS})
    image = given.get("image")
    settings = settings.model_copy(update={"image": image if isinstance(image, str) else DEFAULT_IMAGE})
    settings.write()
    _append(hub, "template_paths", template_dirs())
    _templates(hub, settings, _service_path(hub))
    _scopes(hub)
    if service:
        _service(c, settings)
    if idle:
        _idle(c, settings, idle_arguments)
    return settings


def _default(section: Config, name: str, value: Any) -> None:
    if name not in section:
        section[name] = value


def _append(section: Config, name: str, values: list[Any]) -> None:
    section[name] = [*_listed(section, name), *values]


def _listed(section: Config, name: str) -> list[Any]:
    # A trait that was only touched (``c.X.y.append(...)``) is a lazy value, not a list yet.
    value = section.get(name)
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else list(value.get_value([]))


def _service_path(hub: Config) -> str:
    base = hub.get("base_url")
    if not isinstance(base, str):
        base = urlsplit(str(hub.get("bind_url") or "")).path or "/"
    return f"{base.rstrip('/')}/services/{SERVICE}/"


def _templates(hub: Config, settings: Settings, service_url: str) -> None:
    from .noticeboard import NoticeBoard
    from .site import Site

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
    )
    hub["template_vars"] = {**(given if isinstance(given, Mapping) else {}), "ds01": mine}


def _environment(settings: Settings) -> dict[str, str]:
    """What a process beside the hub needs to find the site."""
    return {
        "DS01_STATE_DIR": str(settings.state_dir.resolve()),
        "PATH": os.environ.get("PATH", ""),
        # Where the driver's library is found, on a machine that does not have it in the usual place.
        **{k: v for k, v in os.environ.items() if k.startswith("DOCKER_") or k == "LD_LIBRARY_PATH"},
    }


def _service(c: Config, settings: Settings) -> None:
    _append(
        c.JupyterHub,
        "services",
        [
            {
                "name": SERVICE,
                "url": f"http://127.0.0.1:{os.environ.get('DS01_SERVICE_PORT', SERVICE_PORT)}",
                "command": [sys.executable, "-m", "ds01spawner.service"],
                "environment": _environment(settings),
                "oauth_no_confirm": True,
                "oauth_client_allowed_scopes": [TEACH_SCOPE],
                "display": False,  # our own entry is in the navigation bar
            }
        ],
    )
    _append(
        c.JupyterHub,
        "load_roles",
        [
            {"name": "ds01-service", "scopes": SERVICE_SCOPES, "services": [SERVICE]},
            {"name": "user", "scopes": ["self", f"access:services!service={SERVICE}"]},
        ],
    )


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

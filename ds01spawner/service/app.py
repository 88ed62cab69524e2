"""The service's application: handlers of every area under one prefix, and how it is started."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyterhub._data import DATA_FILES_PATH
from jupyterhub.services.auth import HubOAuthCallbackHandler
from jupyterhub.utils import url_path_join
from tornado import web
from tornado.httpserver import HTTPServer

from ..core.hub_client import HubClient
from ..core.lag import watch
from ..core.onlyone import Holder, only_one
from ..core.settings import Settings, load_settings
from ..pages.keys import load_secret
from ..site import Site
from .context import Context, Urls, make_templates
from .handler_base import ApiHandler
from .openapi import document
from .places import use_threads
from .site_reading import Snapshots

HUB_STATIC = Path(DATA_FILES_PATH) / "static"
STATIC = Path(__file__).resolve().parent / "static"
MODULES = (
    "pages",
    "session_pages",
    "fragments",
    "api",
    "metrics",
    "admin",
    "queue_pages",
    "request_pages",
    "environment_pages",
    "environments_api",
    "courses",
    "reconciling",
    "eventlog",
    "sampling",
)
"""Modules of `handlers` with ``routes()``. One may also have ``NAV`` (path and title of its pages), and
``start(context)`` and ``stop(context)`` for what it runs beside its handlers."""

LOCK = "service.lock"
"""In the state folder; who holds it has the service's port."""

SWITCH_S = 0.001
"""Seconds for which a thread that computes (a build's log, say) keeps the others from running. A page gives
way some dozen times until it is answered; at Python's five milliseconds, a loud build cost all a second."""

log = logging.getLogger(__name__)


class OpenApi(ApiHandler):
    """The description of the API."""

    async def get(self) -> None:
        """Built from the routes."""
        urls = self.ctx.urls
        self.json(document(self.application.settings["ds01_routes"], urls.service, _version()))


def modules() -> list[Any]:
    """The handler modules. One that is missing is an error: its pages, or the reconciler, would be gone
    unsaid."""
    return [import_module(f"{__package__}.handlers.{name}") for name in MODULES]


def make_app(context: Context, areas: Iterable[Any] | None = None, **settings: Any) -> web.Application:
    """The tornado application; ``context.urls.service`` is the prefix of everything."""
    areas = modules() if areas is None else list(areas)
    prefix = context.urls.service
    routes = [route for area in areas for route in area.routes()]
    context.nav = tuple(entry for area in areas for entry in getattr(area, "NAV", ()))
    pages = import_module(f"{__package__}.handlers.pages")
    rules: list[Any] = [
        (url_path_join(prefix, "oauth_callback"), HubOAuthCallbackHandler),
        (rf"{prefix}static/(.*)", web.StaticFileHandler, {"path": str(STATIC)}),
        (rf"{prefix}hub-static/(.*)", web.StaticFileHandler, {"path": str(HUB_STATIC)}),
        (rf"{prefix}api/openapi\.json", OpenApi),
        *((f"{prefix}{pattern}/?" if pattern else prefix, handler) for pattern, handler in routes),
        (rf"{prefix.rstrip('/')}", web.RedirectHandler, {"url": prefix}),
        (r".*", pages.NotFound),
    ]
    return web.Application(
        rules,
        **{
            "cookie_secret": secrets.token_bytes(32),
            "ds01": context,
            "ds01_routes": routes,
            "ds01_areas": areas,
            **settings,
        },
    )


def make_context(settings: Settings, env: dict[str, str]) -> Context:
    """What the handlers reach, from the site's settings and what the hub tells its services."""
    site = Site.for_settings(settings.model_dump())
    hub_base = env.get("JUPYTERHUB_BASE_URL", "/")
    urls = Urls(
        hub=env.get("DS01_PUBLIC_HUB", "").rstrip("/") + url_path_join(hub_base, "hub") + "/",
        address=env.get("DS01_PUBLIC_SERVICE", ""),
        service=env.get("JUPYTERHUB_SERVICE_PREFIX", url_path_join(hub_base, "services/ds01") + "/"),
    )
    return Context(
        site=site,
        hub=HubClient(env["JUPYTERHUB_API_URL"], env["JUPYTERHUB_API_TOKEN"]),
        urls=urls,
        secret=load_secret(settings.state_dir),
        snapshots=Snapshots(site),
        templates=make_templates(),
    )


async def serve(settings: Settings, env: dict[str, str]) -> None:
    """Run until the process is told to end."""
    use_threads(asyncio.get_running_loop())
    sys.setswitchinterval(SWITCH_S)
    context = make_context(settings, env)
    secure = env.get("JUPYTERHUB_PUBLIC_URL", "").startswith("https://")
    app = make_app(context, **({"xsrf_cookie_kwargs": {"secure": True}} if secure else {}))
    address = urlsplit(env["JUPYTERHUB_SERVICE_URL"])
    server = HTTPServer(app, xheaders=True, max_body_size=2 * 1024 * 1024)
    try:
        server.listen(address.port or 80, address.hostname or "127.0.0.1")
    except OSError as error:
        raise SystemExit(
            f"The service cannot listen at {env['JUPYTERHUB_SERVICE_URL']} ({error.strerror}): end the "
            "program that does, or set DS01_SERVICE_PORT to a port that is free and start the hub again."
        ) from error
    log.info("Serving %s at %s", context.urls.service, env["JUPYTERHUB_SERVICE_URL"])
    for area in app.settings["ds01_areas"]:
        if hasattr(area, "start"):
            await area.start(context)
    over = asyncio.Event()
    watch()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, over.set)
    try:
        await over.wait()
    finally:
        for area in app.settings["ds01_areas"]:
            if hasattr(area, "stop"):
                await area.stop(context)


def main() -> None:
    """``python -m ds01spawner.service``."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname).1s %(asctime)s %(name)s] %(message)s")
    missing = [
        n
        for n in ("JUPYTERHUB_API_TOKEN", "JUPYTERHUB_API_URL", "JUPYTERHUB_SERVICE_URL")
        if n not in os.environ
    ]
    if missing:
        raise SystemExit(
            f"The hub starts this service and tells it {', '.join(missing)}; see ds01spawner.configure."
        )
    settings = load_settings()
    with suppress(KeyboardInterrupt), only_one(settings.state_dir / LOCK, Holder.this(settings.state_dir)):
        asyncio.run(serve(settings, dict(os.environ)))


def _version() -> str:
    try:
        return version("ds01spawner")
    except PackageNotFoundError:
        return "unknown"

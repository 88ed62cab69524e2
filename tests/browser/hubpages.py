"""Pages as the hub renders them, without a hub: its templates, ours over them, and a made-up person."""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub._data import DATA_FILES_PATH

from ds01spawner.pages import template_dirs
from ds01spawner.pages.hub import HubContext
from ds01spawner.pages.launch_inputs import LaunchInputs
from ds01spawner.pages.launch_page import launch_view
from ds01spawner.pages.render import render

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit" / "pages"))

STATIC = Path(DATA_FILES_PATH) / "static"
SERVICE_STATIC = ROOT / "ds01spawner" / "service" / "static"
AXE = ROOT / "tests" / "vendor" / "axe.min.js"
ORIGIN = "http://hub.test"
NOW = datetime(2026, 3, 3, 14, 5, tzinfo=timezone.utc)


def environment() -> Environment:
    """The Jinja environment the hub makes (`JupyterHub.init_tornado_settings`), with our folder first."""
    base = str(Path(DATA_FILES_PATH) / "templates")
    loader = ChoiceLoader(
        [
            PrefixLoader({"templates": FileSystemLoader([base])}, "/"),
            FileSystemLoader([*template_dirs(), base]),
        ]
    )
    return Environment(loader=loader, autoescape=True)


def spawner(name: str = "", active: bool = True, **changes: Any) -> SimpleNamespace:
    """A spawner as templates see it."""
    values: dict[str, Any] = {
        "name": name,
        "active": active,
        "ready": active,
        "pending": None,
        "options_form": True,
        "user_options": {"profile": "thesis · pytorch-2.6 · 1g.10gb", "gpu": "1g.10gb"},
        "orm_spawner": SimpleNamespace(started=NOW.replace(tzinfo=None)),
    }
    return SimpleNamespace(**values | changes)


def person(name: str = "alice", spawners: tuple[SimpleNamespace, ...] = ()) -> SimpleNamespace:
    """A hub user as templates see one."""
    return SimpleNamespace(
        name=name,
        escaped_name="alice",
        json_escaped_name="alice",
        spawner=spawner(active=False),
        spawners={s.name: s for s in spawners},
        all_spawners=lambda include_default=True: iter(spawners),
        server_url=lambda server="": f"/user/alice/{server}",
    )


def hub_page(template: str, ending: Any = None, **context: Any) -> str:
    """A page of the hub; ``context`` overrides what its handler would pass."""
    values = {
        "base_url": "/hub/",
        "prefix": "/",
        "user": person(),
        "login_url": "/hub/login",
        "logout_url": "/hub/logout",
        "static_url": lambda path, **_: f"/hub/static/{path}",
        "version_hash": "",
        "services": [],
        "parsed_scopes": {},
        "expanded_scopes": set(),
        "xsrf": "token",
        "xsrf_token": "token",
        "announcement": "",
        "ds01": HubContext("/services/ds01/", "key", lambda server: ending),
        "url": "/hub/spawn?_xsrf=token",
        "allow_named_servers": True,
        "named_server_limit_per_user": 5,
        "spawner": spawner(),
        "progress_url": "/hub/api/progress",
        "server_name": "",
        "spawn_url": "/hub/spawn/alice",
    }
    return environment().get_template(template).render(**values | context)


def launch_page(inputs: LaunchInputs, **context: Any) -> str:
    """The launch form in the hub's page."""
    form = render("ds01/launch_form.html", view=launch_view(inputs))
    return hub_page("spawn.html", spawner_options_form=form, for_user=None, **context)


def serve(page: Any, pages: dict[str, str]) -> None:
    """Answer a Playwright page's requests from ``pages`` by path, and from the static folders."""

    def answer(route: Any) -> None:
        path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
        if path in pages:
            headers = {"DS01-Fragment": "1"} if "/fragments/" in path else {}
            route.fulfill(body=pages[path], content_type="text/html; charset=utf-8", headers=headers)
            return
        for prefix, folder in (("/hub/static/", STATIC), ("/services/ds01/static/", SERVICE_STATIC)):
            if path.startswith(prefix) and (folder / path.removeprefix(prefix)).is_file():
                route.fulfill(path=folder / path.removeprefix(prefix))
                return
        if path == "/hub/logo":
            route.fulfill(path=STATIC / "images" / "jupyterhub-80.png")
            return
        route.fulfill(status=404, body="")

    page.route("**/*", answer)

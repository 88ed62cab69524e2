"""Every page of service and hub, wide and narrow, light and dark, with what people usually write and with
what nobody should: readable, not too wide, and text stays text. The lists of pages follow the routes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import docker
import pytest
from jupyterhub._data import DATA_FILES_PATH
from playwright.sync_api import Browser, expect
from support.people import Visitor
from support.running_hub import POLICY, RunningHub
from support.service_api import MAY_MAKE_TOKENS, images_removed
from support.stage import Stage, typed, visible
from support.words import KINDS, PROBE, WATCH
from tornado.web import RequestHandler

from ds01spawner.environments.naming import user_image
from ds01spawner.service.app import modules
from ds01spawner.service.handler_base import PageHandler

pytestmark = pytest.mark.timeout(900)
SCREENS: dict[str, tuple[tuple[int, Literal["light", "dark"], bool], ...]] = {
    "ordinary": ((375, "light", False), (375, "dark", True), (1440, "dark", False), (1440, "light", True)),
    "hostile": ((1440, "light", False), (375, "dark", True)),
}
"""Width, theme, and whether axe looks too."""
RULES = """  idle: {keep_alive: {per_session: 4h, per_day: 8h}}
  images: {use: [lab, breaks, hangs, "ds01-*"]}
"""
COURSE_ROUTE = r"courses/([a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?)"

# Route of the service: who looks, the address, and what of `Words` must be read there.
SERVICE_PAGES: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {
    "": (("student", "", ("reason", "group")), ("admin", "", ("reason",))),
    "gpus": (("student", "gpus", ("reason",)), ("admin", "gpus", ("reason", "user"))),
    "usage": (("student", "usage", ("project", "group")),),
    "start": (("student", "start", ("project", "title")),),
    "queue": (("student", "queue", ("title",)), ("admin", "queue", ("title", "user"))),
    "requests": (("student", "requests", ("reason",)), ("admin", "requests", ("reason", "user"))),
    "environments": (("student", "environments", ("title", "description", "project")),),
    "environments/edit": (
        ("student", "environments/edit", ("project",)),
        ("student", "environments/edit?project={project}", ("project",)),
    ),
    r"builds/(b-[0-9a-f]{1,32})": (("student", "builds/{build}", ("printed", "project")),),
    "courses": (("admin", "courses", ("title", "group")),),
    COURSE_ROUTE: (("admin", "courses/{course}", ("title", "group", "user")),),
    "retire": (("student", "retire?server={server}", ("project",)),),
    "keep-alive": (("student", "keep-alive?server={server}", ("project",)),),
    "notices": (("student", "notices", ("reason",)),),
    "admin": (("admin", "admin", ("user", "project", "reason", "folder")),),
}
PARTS = {rf"{COURSE_ROUTE}/class", rf"{COURSE_ROUTE}/pull"}
"""Routes that answer with a part of a page that is looked at."""

# Template of the hub: who looks, and where. `None`: looked at where the page comes up by itself.
HUB_PAGES: dict[str, tuple[str, str] | None] = {
    "login": ("stranger", "hub/login"),
    "spawn": ("student", "hub/spawn"),
    "home": ("student", "hub/home"),
    "token": ("student", "hub/token"),
    "admin": ("admin", "hub/admin"),
    "404": ("student", "hub/nowhere"),
    "oauth": ("admin", "user/{user}/{server}/"),
    "error": ("student", "hub/accept-share?code=none"),
    "spawn_pending": None,
    "not_running": None,
}
NOT_SEEN = {
    "page": "the frame of all others",
    "logout": "the hub shows it to sites that log people in by themselves",
    "stop_pending": "gone within seconds, and has no text of anybody; see test_pages_static",
    "accept-share": "sharing is not switched on",
}

THEIRS = {"hub admin": {"button-name", "color-contrast", "target-size"}}
"""What axe finds on pages that are wholly the hub's own, by rule."""

# Addresses that somebody sends in a link, with `{x}` for what they like.
LINKS = (
    "services/ds01/{x}",
    "services/ds01/start?project={x}",
    "services/ds01/start?{x}=1",
    "services/ds01/start?environment={x}&gpu=none",
    "services/ds01/usage?days={x}",
    "services/ds01/queue?ticket={x}",
    "services/ds01/requests?key={x}",
    "services/ds01/environments?said=kept&project={x}",
    "services/ds01/environments/edit?project={x}&base={x}&tag={x}",
    "services/ds01/environments/edit?base={x}",
    "services/ds01/builds/b-{x}",
    "services/ds01/courses/{x}",
    "services/ds01/retire?server={x}&then={x}",
    "services/ds01/keep-alive?server={x}",
    "hub/spawn?opt-project={x}&opt-environment={x}&opt-gpu={x}",
    "hub/spawn?{x}={x}",
    "hub/{x}",
    "user/{x}/lab",
)
# Forms of the service, what is typed into which field, and the button.
FORMS: tuple[tuple[str, str, dict[str, str], str], ...] = (
    (
        "student",
        "environments/edit",
        {"#ds01-project-new": "short", "#ds01-pip": "long", "#ds01-base": "short", "#ds01-title": "short"},
        "Build",
    ),
    (
        "student",
        "requests?key=session.max",
        {"#ds01-value": "short", "#ds01-until": "day", "#ds01-reason": "long"},
        "Ask",
    ),
    ("admin", "courses", {"#ds01-course-text": "long"}, "Apply"),
    ("admin", "courses", {"#ds01-course-text": "yaml"}, "Show what would change"),
)


def test_the_lists_have_every_page_there_is():
    routes = {
        pattern
        for area in modules()
        for pattern, handler in area.routes()
        if issubclass(handler, PageHandler) and handler.get is not RequestHandler.get
    }
    assert set(SERVICE_PAGES) | PARTS == routes
    templates = {p.stem for p in (Path(DATA_FILES_PATH) / "templates").glob("*.html")}
    assert set(HUB_PAGES) | set(NOT_SEEN) == templates


@pytest.fixture(scope="module")
def hub_options(engine: docker.DockerClient, odd_catalogue: str) -> Iterator[dict[str, Any]]:
    """Two people in groups of their own, and everything else that a page shows somewhere."""
    people = {w.user: "student" for w in KINDS.values()}
    groups = {name: {"users": [w.user]} for w in KINDS.values() for name in (w.group, typed(w.group))}
    rules = "".join(
        f"  {json.dumps(w.group, ensure_ascii=False)}: {{gpu: {{max_equivalents: 0.4}}}}\n"
        for w in KINDS.values()
    )
    options = {
        "extra": f"import ds01spawner.demo; ds01spawner.demo.ACCOUNTS.update({people!r})\n"
        f"c.JupyterHub.load_groups.update({groups!r})\n{MAY_MAKE_TOKENS}{odd_catalogue}",
        "users": set(people),
        "policy": POLICY.replace("groups:", RULES + "groups:") + rules,
    }
    with images_removed(engine, *(user_image(u, "x").partition("/")[0][5:] for u in people)):
        yield options


class Looker:
    """Looks at one page after the other and keeps what is wrong with it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.seen = stage, 0
        self.faults: list[str] = []

    def look(self, person: Visitor, name: str, shows: tuple[str, ...] = ()) -> None:
        """On every screen; what must be read on it is there."""
        page = person.page
        self.seen += 1
        text = " ".join((page.locator("body").text_content() or "").split())
        for word in shows:
            begin = " ".join(self.stage.words.begin(word).split())
            if begin not in text:
                self.faults.append(f"{name}: {word} {begin!r} is not on it")
        for width, theme, thoroughly in SCREENS[self.stage.kind]:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            expect(page.locator("html")).to_have_attribute("data-bs-theme", theme)
            if page.evaluate("document.scrollingElement.scrollWidth > innerWidth"):
                self.faults.append(f"{name}: wider than {width} px: {page.evaluate(WIDEST)}")
            if thoroughly:
                found = [f for f in person.serious() if f[1] not in THEIRS.get(name, ())]
                self.faults += [f"{name}, {theme}: {fault}" for fault in found]
        self.probe(person, name)

    def probe(self, person: Visitor, name: str) -> None:
        """Only that text is text on it."""
        self.faults += [f"{name}: {fault}" for fault in person.page.evaluate(PROBE)]


WIDEST = """() => [...document.querySelectorAll("body *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".table-responsive, pre"))
  .slice(0, 4).map((e) => e.outerHTML.slice(0, 120))"""


@pytest.fixture
def people(browser: Browser, hub: RunningHub, visit: Any) -> Iterator[Any]:
    """``people(name)``: a visitor whose page reports what the content policy refused."""
    arrived: list[Visitor] = []

    def come(user: str) -> Visitor:
        person = Visitor(browser, hub, user, reduced_motion="reduce")
        person.context.add_init_script(WATCH)
        # A page that reads itself again cannot be looked at in peace.
        person.page.route("**/services/ds01/queue**", _without_refresh)
        arrived.append(person)
        return person

    yield come
    for person in arrived:
        person.leave(None)


def _without_refresh(route: Any) -> None:
    answer = route.fetch(max_redirects=0)
    headers = {k: v for k, v in answer.headers.items() if k.lower() != "refresh"}
    route.fulfill(response=answer, headers=headers)


@pytest.mark.parametrize("kind", KINDS)
def test_every_page(hub, engine, people, busybox_image, kind):
    stage = Stage(hub, engine, kind)
    try:
        stage.set(busybox_image)
        walk(stage, people)
    finally:
        stage.clear()


def walk(stage: Stage, people: Any) -> None:
    """Look at everything."""
    looker, words = Looker(stage), stage.words
    stranger = people("nobody")
    student, admin = people(words.user).log_in(), people("admin").log_in()
    who = {"student": student, "admin": admin, "stranger": stranger}
    for pages in SERVICE_PAGES.values():
        for person, path, shows in pages:
            who[person].go("services/ds01/" + stage.address(path))
            looker.look(who[person], f"service {path} ({person})", shows)
    for template, where in HUB_PAGES.items():
        if where is not None:
            who[where[0]].go(stage.address(where[1]))
            if template == "home":
                expect(student.page.locator("a[data-ds01-dialog]").first).to_be_visible()
            looker.look(who[where[0]], f"hub {template}")
    student.go("services/ds01/nowhere")
    looker.look(student, "service nowhere")
    student.go("hub/home").locator("a[data-ds01-dialog]").first.click()
    looker.look(student, "retire dialog", ("project",))

    stage.start("hangs")
    student.go(f"hub/spawn-pending/{stage.user}")
    expect(student.page.locator('[data-step="container"]')).to_have_attribute("data-state", "done")
    looker.look(student, "hub spawn_pending", ("project",))
    student.page.get_by_role("button", name="Cancel").click()
    expect(student.start_button).to_be_visible()

    button = admin.page.get_by_role("button", name="Retire")  # which a session of another hub has not
    rows = admin.page.get_by_role("row").filter(has_text=words.begin("user")).filter(has=button)
    for _ in range(30):  # the page may be some seconds old and still have the start that was cancelled
        admin.go("services/ds01/admin")
        if rows.count() == 1:
            break
        admin.page.wait_for_timeout(500)
    row = rows.first
    row.get_by_placeholder("Reason").fill(typed(words.reason)[:250])
    row.get_by_role("button", name="Retire").click()
    expect(admin.page.get_by_role("region", name="Events")).to_contain_text("admin")
    stage.hub.wait_for(lambda: not stage.model(words.server).get("ready"), 60, "the admin's retire")
    student.go(stage.address("user/{user}/{server}/lab"))
    expect(student.page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    looker.look(student, "hub not_running", ("reason", "project"))
    student.go("services/ds01/usage")
    looker.look(student, "usage afterwards", ("reason",))
    student.go("hub/home")
    looker.look(student, "home, nothing running")
    stage.start("breaks")
    with suppress(AssertionError):
        stage.hub.wait_for(lambda: not stage.model("").get("pending"), 60, "it to break")
    student.go(f"hub/spawn-pending/{stage.user}")
    expect(student.page.get_by_role("main")).to_contain_text("last words & farewell")
    looker.look(student, "hub not_running, failed")

    if stage.kind == "hostile":
        send(looker, who)

    assert "\n".join(looker.faults) == ""
    assert looker.seen == sum(map(len, SERVICE_PAGES.values())) + len(HUB_PAGES) + 5
    assert [*student.errors, *admin.errors, *stranger.errors] == []


def send(looker: Looker, who: dict[str, Visitor]) -> None:
    """Follow links somebody else made, and send forms that are answered with what was typed."""
    student, words = who["student"], looker.stage.words
    attack = quote(words.reason[:300], safe="").replace("%2F", "")
    for link in LINKS:
        student.go(link.format(x=attack))
        looker.probe(student, link)
    fill = {
        "short": words.title,
        "long": visible(words.reason).replace("\x1b", ""),
        "yaml": f"version: 1\ncourse: {json.dumps(words.title, ensure_ascii=False)}\n",
        "day": f"{datetime.now(timezone.utc) + timedelta(days=9):%Y-%m-%d}",
    }
    for person, path, fields, button in FORMS:
        page = who[person].go(f"services/ds01/{path}")
        for selector, kind in fields.items():
            page.fill(selector, fill[kind])
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.get_by_role("alert").first).to_be_visible()
        looker.look(who[person], f"{path} with {fill['short'][:11]}")
        looker.seen -= 1

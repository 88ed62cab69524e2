"""Every page of ours in Chromium, without a hub: axe-core, both widths, both themes, no sideways scroll."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from hubpages import AXE, NOW, ORIGIN, hub_page, launch_page, person, serve, spawner
from page_samples import hostile, sample
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from ds01spawner.hub.progress import Progress
from ds01spawner.idle.model import Decision, Ground, Memory
from ds01spawner.pages.cards import session_card
from ds01spawner.pages.inputs import KeepAlive, Runs, Series, SessionInfo
from ds01spawner.pages.render import render
from ds01spawner.policy.options import LaunchOptions

CHROMIUM = os.environ.get("DS01_CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDTHS = (375, 1440)
THEMES = ("light", "dark")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

ENDED = SimpleNamespace(
    at=NOW,
    reason="Idle for 60 min: no kernel running, CPU 0.3 %, network 0.1 MB",
    project="thesis",
    log_tail="Killed\n",
    kind="crashed",
)
TURN = Progress()
for name in ("checks", "image", "workspace", "device", "container"):
    TURN.step(name)
TURN.step("turn", "3 starts are before yours", finished=False)
RACE = LaunchOptions(project="brand-new", environment="cpu", gpu="3g.40gb", wait=True)

CARDS = render(
    "ds01/sessions.html",
    dialogs=True,
    cards=[
        session_card(
            SessionInfo(
                "alice",
                "",
                "thesis",
                "pytorch-2.6",
                ("1g.10gb on GPU 1",),
                NOW - timedelta(hours=3),
                NOW + timedelta(hours=9),
            ),
            NOW,
            decision=Decision(
                "idle",
                "Idle for 20 min: no kernel runs, CPU 0.3 % of a core, network 0.1 kB/s.",
                Memory("s1"),
                why=(
                    Ground("kernels", "idle", "none runs", "a running cell"),
                    Ground("cpu", "idle", "0.3 % of a core", "5 % of a core"),
                    Ground("gpu", "unsupported", "the load of this slice cannot be measured"),
                ),
                cause="idle",
                retire_at=NOW + timedelta(minutes=40),
                idle_seconds=1200,
                limit=3600,
            ),
            series=(
                Series("CPU", (0.1, 0.9, 3.6, 3.8, 3.7, 2.0, 0.2, 0.1, 0.1), 4.0, "cores"),
                Series(
                    "Memory", tuple(v * 2.0**30 for v in (1, 2, 6, 9, 9, 9, 9, 9, 9)), 16 * 2.0**30, "bytes"
                ),
                Series(
                    "GPU memory",
                    tuple(v * 2.0**30 for v in (0, 1, 7, 8, 8, 8, 8, 8, 8)),
                    9.5 * 2**30,
                    "bytes",
                ),
                Series("GPU activity", unavailable="the load of this slice cannot be measured"),
            ),
            keep=KeepAlive(timedelta(hours=1), timedelta(hours=3)),
            runs=Runs("PyTorch 2.6", "lab", newer=True),
            user_url="/user/alice/",
            service_url="/services/ds01/",
        )
    ],
)

PAGES = {
    "/services/ds01/fragments/sessions": CARDS,
    "/launch": launch_page(sample()),
    "/launch-first-time": launch_page(sample(last=None, projects=())),
    "/launch-refused": launch_page(sample(chosen=RACE), error_message="3g.40gb has just been taken."),
    "/launch-no-gpu": launch_page(sample(statuses=(), inventory_problem="The GPU driver does not answer.")),
    "/launch-hostile": launch_page(hostile()),
    "/pending": hub_page("spawn_pending.html"),
    "/pending-turn": hub_page("spawn_pending.html", spawner=spawner(progress_log=TURN)),
    "/stopping": hub_page("stop_pending.html"),
    "/ended": hub_page("not_running.html", ending=ENDED),
    "/failed": hub_page("not_running.html", failed=True, failed_message="The image has no Jupyter server."),
    "/home": hub_page("home.html", user=person(spawners=(spawner(), spawner("s2")))),
    "/home-empty": hub_page("home.html"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of the system."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


def open_page(browser: Browser, path: str, width: int, theme: str, javascript: bool = True) -> Page:
    """A page in a context of its own."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=javascript
    )
    page = context.new_page()
    serve(page, PAGES)
    page.goto(ORIGIN + path)
    return page


@pytest.fixture(
    scope="module", params=[(w, t) for w in WIDTHS for t in THEMES], ids=lambda p: f"{p[0]}-{p[1]}"
)
def screen(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """One page per width and theme, used for every page of ours in turn."""
    width, theme = request.param
    page = open_page(browser, "/home", width, theme)
    yield page
    page.context.close()


@pytest.mark.parametrize("path", [p for p in PAGES if "/fragments/" not in p])
def test_accessible_and_as_wide_as_the_screen(screen: Page, path: str) -> None:
    dialogs: list[str] = []
    screen.on("dialog", lambda dialog: dialogs.append(dialog.message))
    screen.goto(ORIGIN + path)
    screen.evaluate(Path(AXE).read_text())
    found = screen.evaluate("rules => axe.run(document, {runOnly: rules})", RULES)["violations"]
    serious = [
        (v["impact"], v["id"], [n["html"][:200] for n in v["nodes"]])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]
    assert serious == []
    assert screen.evaluate("document.documentElement.scrollWidth <= innerWidth")
    theme = screen.evaluate("matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'")
    assert screen.evaluate("document.documentElement.dataset.bsTheme") == theme
    assert dialogs == []


def submitted(page: Page) -> dict[str, list[str]]:
    """What the form would send if it were submitted now."""
    script = """() => {
        const data = {};
        for (const [name, value] of new FormData(document.querySelector("#spawn_form")))
            (data[name] ||= []).push(value);
        return data;
    }"""
    found: dict[str, list[str]] = page.evaluate(script)
    return found


def test_a_new_project_takes_back_the_picked_one_and_back(browser: Browser) -> None:
    page = open_page(browser, "/launch", 1440, "light")
    page.fill("#ds01-project-new", "fresh")
    assert "project" not in submitted(page)
    page.fill("#ds01-project-new", "")
    assert submitted(page)["project"] == ["thesis"]
    page.fill("#ds01-project-new", "fresh")
    page.check('input[name="project"][value="scratch"]')
    assert (submitted(page)["project"], submitted(page)["project_new"]) == (["scratch"], [""])
    page.context.close()


def test_the_browser_checks_project_names_as_the_server_does(browser: Browser) -> None:
    page = open_page(browser, "/launch", 1440, "light")
    field = page.locator("#ds01-project-new")
    for name, valid in [("thesis-2", True), ("a_b.c", True), ("-x", False), ("A", False), ("a/b", False)]:
        field.fill(name)
        assert field.evaluate("e => e.checkValidity()") is valid, name
    page.context.close()


def test_the_permalink_follows_the_choices(browser: Browser) -> None:
    page = open_page(browser, "/launch", 1440, "light")
    page.check('input[name="gpu"][value="2g.20gb"]')
    page.check('input[name="environment"][value="cpu"]')
    href = page.locator("a[data-ds01-share]").evaluate("e => e.href")
    assert href == f"{ORIGIN}/services/ds01/start?project=thesis&environment=cpu&gpu=2g.20gb"
    page.context.close()


def test_by_keyboard_alone_every_choice_is_reached_even_those_not_available(browser: Browser) -> None:
    page = open_page(browser, "/launch", 1440, "light")
    page.locator('input[name="gpu"]:checked').focus()
    seen = []
    for _ in range(5):
        page.keyboard.press("ArrowDown")
        seen.append(page.evaluate("document.activeElement.value"))
    assert seen == ["2g.20gb", "3g.40gb", "full", "none", "1g.10gb"]
    page.context.close()


def test_live_parts_swap_only_fragments_of_ours(browser: Browser) -> None:
    PAGES["/services/ds01/fragments/availability"] = (
        "<p id='fresh'>just read</p><span id='ds01-free-1g-10gb' hx-swap-oob='true'>0 of 3 free</span>"
    )
    page = open_page(browser, "/launch", 1440, "light")
    page.evaluate("htmx.ajax('GET', '/services/ds01/fragments/availability', '#ds01-strip')")
    page.wait_for_selector("#fresh")
    assert page.inner_text("#ds01-free-1g-10gb") == "0 of 3 free"
    PAGES["/login"] = "<p id='login'>Log in</p>"  # answered without our header, as a login page would be
    page.evaluate("htmx.ajax('GET', '/login', '#ds01-strip')")
    page.wait_for_timeout(300)
    assert page.query_selector("#fresh")
    assert not page.query_selector("#login")
    page.context.close()


def test_progress_ticks_steps_and_marks_the_one_that_failed(browser: Browser) -> None:
    events = [
        {"progress": 5, "message": "Limits and options checked", "step": "checks", "finished": True},
        {"progress": 18, "message": "Pulling: 3.2 of 8.1 GB", "step": "image", "finished": False},
        {"progress": 25, "message": "<b>Environment</b>", "step": "image", "finished": True},
        {"progress": 100, "message": "Spawn failed: the folder is read-only", "failed": True},
    ]
    stream = "".join(f"data: {json.dumps(e)}\n\n" for e in events)
    context = browser.new_context()
    page = context.new_page()
    serve(page, PAGES)
    page.route("**/hub/api/progress", lambda r: r.fulfill(body=stream, content_type="text/event-stream"))
    page.goto(ORIGIN + "/pending")
    page.wait_for_selector('[data-step][data-state="failed"]')
    states = {
        e.get_attribute("data-step"): e.get_attribute("data-state")
        for e in page.query_selector_all("[data-step]")
    }
    assert states == {
        "checks": "done",
        "image": "done",
        "workspace": "failed",
        "device": None,
        "container": None,
        "started": None,
        "jupyter": None,
    }
    assert page.inner_text('[data-step="image"] [data-text]') == "<b>Environment</b>"
    assert "Pulling: 3.2 of 8.1 GB" in page.text_content("#progress-log")
    context.close()


def test_a_step_that_not_every_start_has_gets_its_row_when_it_happens(browser: Browser) -> None:
    events = [
        {"progress": 5, "message": "checked", "step": "checks", "finished": True},
        {"progress": 15, "message": "Cloning <b>x</b>", "step": "fetch", "finished": False},
        {"progress": 20, "message": "Cloned", "step": "fetch", "finished": True},
        *(
            {"progress": 25, "step": s, "finished": True}
            for s in ("image", "workspace", "device", "container")
        ),
        {"progress": 61, "message": "3 starts are before yours", "step": "turn", "finished": False},
    ]
    stream = "".join(f"data: {json.dumps(e)}\n\n" for e in events)
    context = browser.new_context()
    page = context.new_page()
    serve(page, PAGES)
    page.route("**/hub/api/progress", lambda r: r.fulfill(body=stream, content_type="text/event-stream"))
    page.goto(ORIGIN + "/pending")
    expect(page.locator('[data-step="turn"]')).to_contain_text("3 starts are before yours")
    rows = page.locator("#ds01-steps li")
    assert [r.get_attribute("data-step") for r in rows.all()] == [
        "checks", "fetch", "image", "workspace", "device", "container", "turn", "started", "jupyter",
    ]  # fmt: skip
    assert page.locator('[data-step="fetch"]').get_attribute("data-state") == "done"
    assert page.locator('[data-step="fetch"] [data-text]').inner_text() == "Cloned"
    context.close()


@pytest.mark.parametrize("event", ["ready", "failed"])
@pytest.mark.parametrize("cancelled", [True, False])
def test_what_the_start_does_while_it_is_cancelled_takes_nobody_off_the_page(
    browser: Browser, event: str, cancelled: bool
) -> None:
    context = browser.new_context()
    page = context.new_page()
    serve(page, PAGES)
    held: dict[str, list[Route]] = {"progress": [], "server": []}
    page.route("**/hub/api/progress", lambda r: held["progress"].append(r))
    page.route("**/hub/api/users/*/server", lambda r: held["server"].append(r))
    page.route("**/hub/api/users/alice", lambda r: r.fulfill(json={"servers": {}}))
    page.route("**/hub/spawn/alice", lambda r: r.fulfill(body="<h1>Start a session</h1>"))
    page.goto(ORIGIN + "/pending")
    page.evaluate("window.first = true")
    page.get_by_role("button", name="Cancel").click()
    stream = f"data: {json.dumps({'progress': 100, 'message': 'so it is', event: True})}\n\n"
    held["progress"][0].fulfill(body=stream, content_type="text/event-stream")
    expect(page.locator("#progress-message")).to_have_text("so it is")
    page.wait_for_timeout(1500)
    assert page.evaluate("window.first")
    if cancelled:
        held["server"][0].fulfill(status=204)
        expect(page.get_by_role("heading", name="Start a session")).to_be_visible()
    else:
        held["server"][0].fulfill(status=503, json={"message": "the hub is stopping"})
        expect(page.locator("[data-ds01-status]")).to_contain_text("the hub is stopping")
        page.wait_for_function("!window.first")  # now the page goes where the start went
    context.close()


def test_nothing_is_called_retired_that_the_hub_does_not_say_has_ended(browser: Browser) -> None:
    context = browser.new_context()
    page = context.new_page()
    serve(page, PAGES)
    page.clock.install()
    asked: list[str] = []

    def away(route: Route) -> None:
        asked.append(route.request.url)
        route.abort("connectionrefused")

    page.route("**/hub/api/users/*/server", lambda r: r.fulfill(status=202))
    page.route("**/hub/api/users/alice", away)
    page.goto(ORIGIN + "/pending")
    button, status = page.get_by_role("button", name="Cancel"), page.locator("[data-ds01-status]")
    button.click()
    for _ in range(150):
        page.clock.run_for(1000)
        if button.is_enabled():
            break
    assert len(asked) > 10
    expect(status).to_contain_text("the hub has not said yet that it has")
    assert page.url == ORIGIN + "/pending"
    context.close()


def test_without_javascript_the_steps_so_far_are_shown(browser: Browser) -> None:
    page = open_page(browser, "/pending-turn", 375, "light", javascript=False)
    states = {
        r.get_attribute("data-step"): r.get_attribute("data-state")
        for r in page.locator("#ds01-steps li").all()
    }
    assert (states["container"], states["turn"], states["started"]) == ("done", "now", None)
    expect(page.locator('[data-step="turn"]')).to_contain_text("3 starts are before yours")
    page.context.close()


def test_without_javascript_the_form_is_whole(browser: Browser) -> None:
    page = open_page(browser, "/launch", 375, "light", javascript=False)
    assert page.is_visible("text=Start session")
    assert page.is_hidden("#noscript")
    assert page.locator('input[type="search"]:visible').count() == 0
    page.context.close()

"""Every page of a running hub on a phone in the dark and on a wide screen: readable, usable, not too wide."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect
from support.people import Visitor

SCREENS = {
    "phone-dark": {"viewport": {"width": 375, "height": 740}, "color_scheme": "dark"},
    "wide-light": {"viewport": {"width": 1440, "height": 900}, "color_scheme": "light"},
}
SERVICE_PAGES = (
    "",
    "gpus",
    "usage",
    "queue",
    "environments",
    "keep-alive?server=",
    "retire?server=",
    "nowhere",
)


@pytest.fixture(scope="module")
def hub_options(odd_catalogue: str) -> dict[str, Any]:
    """With an environment that stays on the pending page, and one that fails."""
    return {"extra": odd_catalogue}


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page(hub, browser, visit, screen):
    seen: dict[str, Any] = {}

    def look(person: Visitor, name: str) -> None:
        wanted = SCREENS[screen]["color_scheme"]
        seen[name] = (
            person.serious(),
            person.scrolls_sideways(),
            person.page.evaluate("document.documentElement.dataset.bsTheme") == wanted,
        )

    stranger = Visitor(browser, hub, "alice", **SCREENS[screen])
    stranger.go("hub/login")
    look(stranger, "login")
    stranger.leave(None)

    alice = visit("alice", **SCREENS[screen])
    expect(alice.start_button).to_be_visible()
    look(alice, "launch")
    alice.choose(environment="breaks")
    alice.start_button.click()
    expect(alice.page.locator(".ds01-log").filter(has_text="farewell")).to_be_visible()
    look(alice, "failed")
    alice.go("hub/spawn")
    alice.choose(environment="hangs")
    alice.start_button.click()
    expect(alice.page.locator('[data-step="container"]')).to_have_attribute("data-state", "done")
    look(alice, "starting")
    alice.page.get_by_role("button", name="Cancel").click()
    expect(alice.start_button).to_be_visible()

    hub.start_session("alice", {"project": "p", "gpu": "1g.10gb", "environment": "lab"})
    alice.go("hub/home")
    expect(alice.page.locator("#ds01-sessions .ds01-tag")).to_have_text("running")
    look(alice, "home")
    alice.page.locator("a[data-ds01-dialog]").click()
    look(alice, "retire dialog")
    for path in SERVICE_PAGES:
        alice.go(f"services/ds01/{path}")
        look(alice, f"service {path}")
    hub.retire("alice")
    alice.go("user/alice/lab")
    expect(alice.page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    look(alice, "not running")
    alice.go("hub/home")
    look(alice, "home, nothing running")

    admin = visit("admin", **SCREENS[screen])
    admin.go("services/ds01/admin")
    expect(admin.page.get_by_role("heading", name="Devices")).to_be_visible()
    look(admin, "admin")

    assert [(name, found) for name, found in seen.items() if found != ([], False, True)] == []
    assert len(seen) == 9 + len(SERVICE_PAGES)
    assert alice.errors == admin.errors == []

"""What a student sees when a start does not end in JupyterLab: a crash, and one's own change of mind."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect


@pytest.fixture(scope="module")
def hub_options(odd_catalogue: str) -> dict[str, Any]:
    """One environment that works, one that breaks and one that hangs."""
    return {"extra": odd_catalogue}


def test_a_crash_shows_the_last_lines_of_the_log_as_text(hub, visit, sessions_of):
    alice = visit("alice")
    alice.choose(project="p", gpu="1g.10gb", environment="breaks")
    alice.start_button.click()
    shown = alice.page.locator(".ds01-log").filter(has_text="last words & farewell")
    expect(shown).to_be_visible()
    expect(shown).to_contain_text("ImportError: no module named <script>alert(1)</script>")
    expect(alice.page.get_by_role("main")).to_contain_text("exit code 3")
    assert alice.errors == []
    assert sessions_of("alice") == []
    # The way on: the same form with the choices kept, and an environment that works.
    again = alice.page.get_by_role("link", name="Start again")
    expect(again.or_(alice.start_button).first).to_be_visible()
    if again.count():
        again.click()
    chosen = alice.chosen()
    assert (chosen["gpu"], chosen["environment"]) == ("1g.10gb", "breaks")
    assert "p" in (chosen.get("project"), chosen.get("project_new"))
    alice.choose(environment="lab")
    alice.start_button.click()
    alice.in_lab()


def test_cancel_while_it_starts(hub, visit, sessions_of):
    bob = visit("bob")
    bob.choose(project="p", gpu="1g.10gb", environment="hangs")
    bob.start_button.click()
    expect(bob.page.get_by_role("heading", name="Starting your session")).to_be_visible()
    expect(bob.page.locator('[data-step="container"]')).to_have_attribute("data-state", "done")
    expect(bob.page.locator('[data-step="jupyter"]')).not_to_have_attribute("data-state", "done")
    went = []
    bob.page.on("request", lambda r: went.append(r.url) if r.is_navigation_request() else None)
    bob.page.get_by_role("button", name="Cancel").click()
    expect(bob.start_button).to_be_visible()
    assert [url.removeprefix(hub.url) for url in went] == ["hub/spawn/bob"]  # straight to the form
    assert sessions_of("bob") == []
    assert not hub.server("bob").get("pending")
    assert bob.chosen()["environment"] == "hangs"
    assert bob.errors == []


def test_cpu_instead_while_it_starts(hub, visit, sessions_of):
    bob = visit("bob")
    bob.choose(project="p", gpu="1g.10gb", environment="hangs")
    bob.start_button.click()
    bob.page.get_by_role("link", name="Take CPU only instead").click()
    bob.page.get_by_role("button", name="Cancel it and take CPU only").click()
    expect(bob.start_button).to_be_visible()
    assert bob.chosen()["gpu"] == "none"
    assert sessions_of("bob") == []

"""A hub that does not live at the root of its address: every link, live part and page below its prefix."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Response, expect


@pytest.fixture(scope="module")
def hub_options() -> dict[str, Any]:
    """Two levels, as behind a proxy of a faculty."""
    return {"base_url": "/lab/hub-x/"}


def test_a_session_from_log_in_to_retire(hub, visit, sessions_of):
    alice = visit("alice")
    page, strays = alice.page, []
    live: list[str] = []

    def answered(response: Response) -> None:
        path = response.url.partition(f":{hub.port}")[2].partition("?")[0]
        if response.status >= 400 or not path.startswith("/lab/hub-x/"):
            strays.append(f"{response.status} {path}")
        if response.headers.get("ds01-fragment"):
            live.append(path)

    page.on("response", answered)
    with page.expect_response("**/services/ds01/fragments/availability") as response:
        pass
    assert response.value.status == 200
    page.get_by_role("link", name="GPUs and sessions").first.click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    for title in ("GPUs", "My usage"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=title, exact=True).click()
        expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    alice.go("services/ds01/start?project=far&gpu=1g.10gb")
    expect(alice.start_button).to_be_visible()
    alice.start_button.click()
    hub.wait_ready("alice")
    assert strays == []

    page.wait_for_url("**/lab/hub-x/user/alice/lab**")
    page.remove_listener("response", answered)  # JupyterLab's own requests are its own affair
    page.goto("about:blank")
    page.on("response", answered)
    alice.go("hub/home")
    expect(page.locator("#ds01-sessions .ds01-tag")).to_have_text("running")
    page.locator("a[data-ds01-dialog]").click()
    page.get_by_role("dialog").get_by_role("button", name="Retire", exact=True).click()
    expect(page.locator("#ds01-sessions")).to_contain_text("No session is running")
    assert sessions_of("alice") == []
    assert strays == []
    assert {p.removeprefix("/lab/hub-x/services/ds01/fragments/") for p in live} >= {
        "availability",
        "sessions",
    }
    page.remove_listener("response", answered)
    alice.go("user/alice/lab")
    page.get_by_role("link", name="Change options").click()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()
    assert alice.errors == []

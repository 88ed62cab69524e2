"""A hub whose sessions and services have domains of their own: its pages work as on one domain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Response, expect
from support.people import Visitor
from support.running_hub import PASSWORD, RunningHub

HOST = """
address = c.JupyterHub.bind_url.replace("127.0.0.1", "hub.localhost").rstrip("/")
c.JupyterHub.subdomain_host = address
"""


@pytest.fixture(scope="module")
def hub_options() -> dict[str, Any]:
    """Chromium finds every name below ``localhost`` on this machine, without a resolver."""
    # The demo's own log-in takes no other name of this machine.
    plain = 'c.JupyterHub.authenticator_class = "dummy"\n' + f"c.DummyAuthenticator.password = {PASSWORD!r}\n"
    return {"extra": HOST, "after": plain}


@pytest.fixture
def arrive(browser: Browser, visit: Any, hub: RunningHub) -> Iterator[Callable[[str], Visitor]]:
    """Logged in at the hub's own domain; ``visit`` ends the sessions afterwards."""
    visitors: list[Visitor] = []

    def come(user: str) -> Visitor:
        outside = SimpleNamespace(url=hub.url.replace("127.0.0.1", "hub.localhost"))
        visitors.append(Visitor(browser, outside, user).log_in())
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.leave(None)


def test_pages_live_parts_and_links_lead_to_the_services_domain(arrive, hub: RunningHub) -> None:
    alice = arrive("alice")
    page, faults, live = alice.page, [], set()
    service = hub.url.replace("127.0.0.1", "ds01--service.hub.localhost") + "services/ds01/"

    def seen(response: Response) -> None:
        if response.status >= 400 and "favicon" not in response.url:
            faults.append(f"{response.status} {response.request.method} {response.url}")
        if response.headers.get("ds01-fragment"):
            live.add(response.url.partition("?")[0].removeprefix(service))

    page.on("response", seen)
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    with page.expect_response(lambda r: "fragments/notices" in r.url and r.request.method == "GET"):
        alice.go("hub/home")
    page.wait_for_function("document.querySelector('#ds01-notices') !== null")
    with page.expect_response(lambda r: "fragments/availability" in r.url and r.request.method == "GET"):
        alice.go("hub/spawn")
    links = page.eval_on_selector_all(
        "[src], [href], [hx-get]",
        "all => all.map(e => e.getAttribute('src') || e.getAttribute('hx-get') || e.getAttribute('href'))",
    )
    ours = [link for link in links if "services/ds01" in link]
    assert len(ours) >= 5
    assert [link for link in ours if not link.startswith(service)] == []
    page.get_by_role("link", name="GPUs and sessions").click()
    expect(page).to_have_url(service)
    expect(page.get_by_role("heading", name="Your sessions")).to_be_visible()
    page.get_by_role("link", name="Queue", exact=True).click()
    expect(page).to_have_url(f"{service}queue")
    page.goto(f"{service}start?gpu=none&project=thesis")
    expect(page).to_have_url(
        hub.url.replace("127.0.0.1", "hub.localhost") + "hub/spawn/alice?opt-project=thesis"
    )
    assert {"fragments/notices", "fragments/availability"} <= live
    assert faults == []

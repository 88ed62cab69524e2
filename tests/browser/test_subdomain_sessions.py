"""A session at its user's own domain: JupyterLab answers there, pages act on it, others do not get in."""

from __future__ import annotations

from datetime import datetime, timezone

from playwright.sync_api import expect
from support.running_hub import RunningHub
from test_subdomains import arrive, hub_options  # noqa: F401

from ds01spawner.store import Store


def at(hub: RunningHub, name: str) -> str:
    """The address of a domain below the hub's."""
    return hub.url.replace("127.0.0.1", f"{name}.hub.localhost")


def test_a_session_at_its_users_domain(arrive, hub: RunningHub, sessions_of) -> None:  # noqa: F811
    alice = arrive("alice")
    page, service = alice.page, at(hub, "ds01--service") + "services/ds01/"
    alice.go("hub/spawn")
    alice.choose(project="thesis")
    alice.click(alice.start_button)
    alice.in_lab()
    assert page.url.startswith(at(hub, "alice") + "user/alice/lab")
    alice.open_console()
    alice.run_cell("print(6 * 7)", "42")

    # Whoever else is logged in gets no answer of it, by a page or by its API.
    bob = arrive("bob")
    for path in ("user/alice/lab", "user/alice/api/contents"):
        answer = bob.page.goto(at(hub, "alice") + path)
        assert answer is not None
        assert answer.status == 403, (path, bob.page.url)

    # Pages of the service and of the hub act on it.
    Store.open(f"sqlite:///{hub.state}/ds01.sqlite").notices.add(
        "alice", "the cooling is tested tonight", datetime.now(timezone.utc)
    )
    alice.go("hub/home")
    notice = page.locator("#ds01-notices").get_by_text("the cooling is tested tonight")
    expect(notice).to_be_visible()
    page.locator("#ds01-notices").get_by_role("button", name="Dismiss").click()
    expect(notice).to_have_count(0)
    alice.go("hub/home")
    expect(page.locator("#ds01-sessions")).to_contain_text("thesis")
    expect(notice).to_have_count(0)
    page.goto(service)
    expect(page.locator("#ds01-sessions")).to_contain_text("thesis")

    alice.go("hub/home")
    page.locator("a[data-ds01-dialog]").click()
    page.get_by_role("dialog").get_by_role("button", name="Retire", exact=True).click()
    expect(page.locator("#ds01-sessions")).to_contain_text("Your projects are kept")
    assert sessions_of("alice") == []

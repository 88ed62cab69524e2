"""Behind a TLS proxy and below a prefix: one session from log-in to retire, nothing of it in the clear."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, Response, WebSocket, expect
from support.people import Visitor
from support.running_hub import POLICY, RunningHub, free_port
from support.tls_proxy import tls_proxy


@pytest.fixture(scope="module")
def port() -> int:
    """Where the TLS proxy listens; the hub is told so before either is started."""
    return free_port()


@pytest.fixture(scope="module")
def hub_options(port: int, odd_catalogue: str) -> dict[str, Any]:
    """As ``docs/admins/tls.md`` says: the hub knows its address outside."""
    outside = f'c.JupyterHub.public_url = "https://127.0.0.1:{port}/lab/"\n'
    policy = POLICY.replace("groups:", "  idle: {keep_alive: {per_session: 4h, per_day: 8h}}\ngroups:")
    return {"base_url": "/lab/", "extra": outside + odd_catalogue, "policy": policy}


@pytest.fixture(scope="module")
def outside(hub: RunningHub, port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address people type, with a TLS proxy behind it."""
    with tls_proxy(tmp_path_factory.mktemp("tls"), port, f"http://127.0.0.1:{hub.port}"):
        yield f"https://127.0.0.1:{port}/lab/"


@pytest.fixture
def arrive(browser: Browser, visit: Any, outside: str) -> Iterator[Callable[[str], Visitor]]:
    """``arrive("alice")``: logged in through the proxy. ``visit`` ends the sessions afterwards."""
    visitors: list[Visitor] = []

    def come(user: str) -> Visitor:
        visitors.append(Visitor(browser, SimpleNamespace(url=outside), user, ignore_https_errors=True))
        return visitors[-1]

    yield come
    for visitor in visitors:
        visitor.leave(None)


class Wire:
    """What a page asks for, and where it is sent: everything must stay below one https address."""

    def __init__(self, page: Page, outside: str) -> None:
        self.strays: list[str] = []
        self.fragments: set[str] = set()
        self.sockets: list[str] = []
        self.streams: list[int] = []
        self._outside = outside
        page.on("request", self._asked)
        page.on("response", self._answered)
        page.on("websocket", self._socket)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self._outside, "data:", "blob:")):
            self.strays.append(f"asked {request.url}")

    def _answered(self, response: Response) -> None:
        to = response.headers.get("location", "")
        if not to.startswith((self._outside, "/lab/")) and to:
            self.strays.append(f"sent to {to}")
        if response.headers.get("ds01-fragment"):
            self.fragments.add(response.url.partition("?")[0].rpartition("/fragments/")[2])
        if "text/event-stream" in response.headers.get("content-type", ""):
            self.streams.append(response.status)

    def _socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket.url)


def test_one_session_from_log_in_to_retire(arrive, outside, sessions_of):
    alice = arrive("alice")
    wire = Wire(alice.page, outside)
    alice.log_in()
    page = alice.page

    alice.choose(project="far", gpu="1g.10gb", environment="hangs")
    alice.start_button.click()
    # Only events of the stream make these ticks.
    expect(page.locator('[data-step="container"]')).to_have_attribute("data-state", "done")
    page.get_by_role("button", name="Cancel").click()
    expect(alice.start_button).to_be_visible()
    assert sessions_of("alice") == []
    assert wire.streams[:1] == [200]

    alice.go("services/ds01/start?project=far&gpu=1g.10gb&environment=lab")
    expect(page.get_by_role("status").filter(has_text="filled in by a link")).to_be_visible()
    with page.expect_response("**/services/ds01/fragments/availability") as answer:
        pass
    assert answer.value.status == 200
    link = page.locator("a[data-ds01-share]").evaluate("a => a.href")
    assert link.startswith(f"{outside}services/ds01/start?")
    alice.start_button.click()
    alice.in_lab()
    alice.open_console()
    alice.run_cell("print(6 * 7)", "42")
    scheme = outside.replace("https:", "wss:")
    assert wire.sockets
    assert [s for s in wire.sockets if not s.startswith(scheme)] == []

    alice.go("services/ds01/keep-alive?server=")
    page.get_by_role("button", name="Keep alive").click()
    expect(page.get_by_role("status").filter(has_text="Kept alive")).to_be_visible()

    alice.go("hub/home")
    with page.expect_response("**/services/ds01/fragments/sessions**") as answer:
        pass
    assert answer.value.status == 200
    page.locator("a[data-ds01-dialog]").click()
    page.get_by_role("dialog").get_by_role("button", name="Retire", exact=True).click()
    expect(page.locator("#ds01-sessions")).to_contain_text("No session is running")
    assert sessions_of("alice") == []
    alice.go("user/alice/lab")
    expect(page.get_by_role("heading", name="Your session has ended")).to_be_visible()
    page.get_by_role("link", name="Change options").click()
    expect(page.get_by_role("button", name="Start again")).to_be_visible()

    assert wire.strays == []
    assert wire.fragments >= {"availability", "sessions", "notices"}
    # JupyterLab makes a cookie of its own in the session's path; every other one is for TLS alone.
    cookies = [c for c in alice.context.cookies() if not c["path"].startswith("/lab/user/")]
    assert {c["path"] for c in cookies} >= {"/lab/hub/", "/lab/services/ds01/"}
    assert [(c["name"], c["path"]) for c in cookies if not c["secure"]] == []
    assert alice.errors == []


def test_nothing_is_done_without_the_token_of_the_page(arrive, outside, hub, sessions_of):
    hub.start_session("bob", {"project": "p"})
    bob, alice = arrive("bob").log_in(), arrive("alice").log_in()
    bob.go("services/ds01/retire?server=")
    own = bob.page.locator('main input[name="_xsrf"]').input_value()
    alice.go("services/ds01/usage")
    theirs = {c["path"]: c["value"] for c in alice.context.cookies() if c["name"] == "_xsrf"}
    api = bob.context.request
    service, stop = f"{outside}services/ds01/retire", f"{outside}hub/api/users/bob/server"
    for token in ({}, {"_xsrf": ""}, {"_xsrf": "x"}, {"_xsrf": theirs["/lab/services/ds01/"]}):
        refused = api.post(service, form={"server": "", **token}, max_redirects=0)
        assert (refused.status, token) == (403, token)
    assert api.delete(stop, max_redirects=0).status == 403
    assert api.delete(stop, headers={"X-XSRFToken": theirs["/lab/hub/"]}, max_redirects=0).status == 403
    launch = api.post(f"{outside}hub/spawn/bob/second", form={"project": "p"}, max_redirects=0)
    assert launch.status == 403
    key = {"X-DS01-Key": "bm8.bm8"}
    assert api.get(f"{outside}services/ds01/fragments/sessions", headers=key).status == 403
    assert len(sessions_of("bob")) == 1
    done = api.post(service, form={"server": "", "_xsrf": own}, max_redirects=0)
    assert (done.status, re.sub("^https?://[^/]*", "", done.headers["location"])) == (302, "/lab/hub/home")
    assert sessions_of("bob") == []

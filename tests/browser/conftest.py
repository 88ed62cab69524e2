"""People in front of real browsers, and a hub with everything on for them to use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from people import ARGUMENTS, Visitor
from playwright.sync_api import Browser, sync_playwright
from support.running_hub import RunningHub, running_hub

from ds01spawner.demo import ACCOUNTS

SEEN = Path(__file__).resolve().parents[2] / ".cache" / "seen"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """Chromium. One per module: Playwright's loop must not be running when other tests run theirs."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def hub_options() -> dict[str, Any]:
    """What a module's hub is started with; modules override it."""
    return {}


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory,
    engine: docker.DockerClient,
    lab_image: str,
    hub_options: dict[str, Any],
) -> Iterator[RunningHub]:
    """A hub with service and idle culler, as a site runs it."""
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    options = {"arguments": "", **hub_options}
    with running_hub(tmp_path_factory.mktemp("hub"), name, lab_image, **options) as running:
        yield running


@pytest.fixture
def visit(
    browser: Browser, hub: RunningHub, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Visitor]]:
    """``visit("alice")``: a person with a browser of their own, on the page that follows the log-in.

    Sessions end with the test. A failed one leaves what each visitor saw last in ``.cache/seen``.
    """
    visitors: list[Visitor] = []

    def come(user: str, **context: Any) -> Visitor:
        visitors.append(Visitor(browser, hub, user, **context))
        return visitors[-1].log_in()

    before = request.session.testsfailed
    yield come
    failed = request.session.testsfailed > before
    for visitor in visitors:
        visitor.leave(SEEN / f"{request.node.name}-{visitor.user}.png" if failed else None)
    for user in ACCOUNTS:
        for server in hub.user(user)["servers"]:
            hub.settle(user, server)
            if hub.server(user, server).get("ready"):
                hub.retire(user, server)


@pytest.fixture
def sessions_of(engine: docker.DockerClient, hub: RunningHub) -> Callable[[str], list[Any]]:
    """The containers of a user's sessions, in any state."""

    def find(user: str) -> list[Any]:
        labels = [f"ds01.hub={hub.hub_id}", f"ds01.user={user}"]
        return engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    return find

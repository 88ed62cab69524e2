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
    browser: Browser, hub: RunningHub, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Visitor]]:
    """``visit("alice")``: a person with a browser of their own, on the page that follows the log-in.

    A failed test leaves what each of them saw in its temporary folder. Sessions end with the test.
    """
    visitors: list[Visitor] = []

    def come(user: str, **context: Any) -> Visitor:
        visitors.append(Visitor(browser, hub, user, **context))
        return visitors[-1].log_in()

    yield come
    for visitor in visitors:
        visitor.leave(tmp_path / f"{visitor.user}.png")
    for user in sorted({v.user for v in visitors}):
        for server, model in hub.user(user)["servers"].items():
            if model["ready"] or model["pending"]:
                hub.wait_for(lambda u=user, s=server: _idle(hub, u, s), 90, f"{user} to have settled")
                if hub.server(user, server).get("ready"):
                    hub.retire(user, server)


def _idle(hub: RunningHub, user: str, server: str) -> bool:
    return not hub.server(user, server).get("pending")


@pytest.fixture
def sessions_of(engine: docker.DockerClient, hub: RunningHub) -> Callable[[str], list[Any]]:
    """The containers of a user's sessions, in any state."""

    def find(user: str) -> list[Any]:
        labels = [f"ds01.hub={hub.hub_id}", f"ds01.user={user}"]
        return engine.containers.list(all=True, filters={"label": labels}, ignore_removed=True)

    return find

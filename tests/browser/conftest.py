"""People in front of real browsers, and a hub with everything on for them to use."""

from __future__ import annotations

import io
import os
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import jupyterhub
import pytest
from playwright.sync_api import Browser, sync_playwright
from support.people import ARGUMENTS, Visitor
from support.running_hub import RunningHub, running_hub

from ds01spawner.demo import ACCOUNTS

SEEN = Path(__file__).resolve().parents[2] / ".cache" / "seen"


SINGLEUSER = f"""#!/bin/sh
case "$1" in --version) echo {jupyterhub.__version__}; exit;; esac
if [ -e /hangs ]; then exec sleep 600; fi
echo "ImportError: no module named <script>alert(1)</script>" >&2
echo "last words & farewell" >&2
exit 3
"""


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

    Sessions end with the test. A failed one prints the hub's log and leaves what each visitor
    saw last in ``.cache/seen``.
    """
    visitors: list[Visitor] = []

    def come(user: str, **context: Any) -> Visitor:
        visitors.append(Visitor(browser, hub, user, **context))
        return visitors[-1].log_in()

    before = request.session.testsfailed
    yield come
    failed = request.session.testsfailed > before
    if failed:
        print(hub.tail(150), file=sys.stderr)
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


@pytest.fixture(scope="module")
def odd_images(engine: docker.DockerClient, busybox_image: str) -> Iterator[dict[str, str]]:
    """Two images that look like environments: one ends with an error, one never answers."""
    made = {}
    for name, line in (("breaks", ""), ("hangs", "RUN touch /hangs")):
        recipe = f"FROM {busybox_image}\nCOPY jupyterhub-singleuser /bin/\n{line}\n"
        tag = f"ds01/test-{name}-{uuid.uuid4().hex[:8]}:latest"
        engine.images.build(
            fileobj=_context({"Dockerfile": recipe, "jupyterhub-singleuser": SINGLEUSER}),
            custom_context=True,
            tag=tag,
            rm=True,
        )
        made[name] = tag
    yield made
    for tag in made.values():
        engine.images.remove(tag, force=True)


@pytest.fixture(scope="module")
def odd_catalogue(
    odd_images: dict[str, str], lab_image: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Configuration for a hub that offers ``lab``, ``breaks`` and ``hangs``."""
    catalogue = tmp_path_factory.mktemp("catalogue") / "environments.yaml"
    catalogue.write_text(
        "version: 1\nenvironments:\n"
        f"  lab: {{image: '{lab_image}', title: JupyterLab, default: true}}\n"
        f"  breaks: {{image: '{odd_images['breaks']}', title: It breaks}}\n"
        f"  hangs: {{image: '{odd_images['hangs']}', title: It hangs}}\n"
    )
    return f"c.DS01Spawner.environments_file = {str(catalogue)!r}"


def _context(files: dict[str, str]) -> io.BytesIO:
    """A build context."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer

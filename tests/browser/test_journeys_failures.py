"""What a student sees when a start does not end in JupyterLab: a crash, and one's own change of mind."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import jupyterhub
import pytest
from playwright.sync_api import expect

SINGLEUSER = f"""#!/bin/sh
case "$1" in --version) echo {jupyterhub.__version__}; exit;; esac
if [ -e /hangs ]; then exec sleep 600; fi
echo "ImportError: no module named <script>alert(1)</script>" >&2
echo "last words & farewell" >&2
exit 3
"""


@pytest.fixture(scope="module")
def images(engine: docker.DockerClient, busybox_image: str) -> Iterator[dict[str, str]]:
    """Two images that look like environments: one ends with an error, one never answers."""
    made = {}
    for name, line in (("breaks", ""), ("hangs", "RUN touch /hangs")):
        recipe = f"FROM {busybox_image}\nCOPY jupyterhub-singleuser /bin/\n{line}\n"
        tag = f"ds01/test-{name}-{uuid.uuid4().hex[:8]}:latest"
        engine.images.build(
            fileobj=context({"Dockerfile": recipe, "jupyterhub-singleuser": SINGLEUSER}),
            custom_context=True,
            tag=tag,
            rm=True,
        )
        made[name] = tag
    yield made
    for tag in made.values():
        engine.images.remove(tag, force=True)


def context(files: dict[str, str]) -> io.BytesIO:
    """A build context."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(text.encode()), 0o755
            tar.addfile(info, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer


@pytest.fixture(scope="module")
def hub_options(
    images: dict[str, str], lab_image: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A catalogue with the good environment and the two bad ones."""
    catalogue: Path = tmp_path_factory.mktemp("catalogue") / "environments.yaml"
    catalogue.write_text(
        "version: 1\nenvironments:\n"
        f"  lab: {{image: '{lab_image}', title: JupyterLab, default: true}}\n"
        f"  breaks: {{image: '{images['breaks']}', title: It breaks}}\n"
        f"  hangs: {{image: '{images['hangs']}', title: It hangs}}\n"
    )
    return {"extra": f"c.DS01Spawner.environments_file = {str(catalogue)!r}"}


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
    if alice.page.get_by_role("link", name="Start again").count():
        alice.page.get_by_role("link", name="Start again").click()
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
    bob.page.get_by_role("button", name="Cancel").click()
    expect(bob.start_button).to_be_visible()
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

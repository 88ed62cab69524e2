"""A new project from the launch page: its fields, what is refused, and the files that are there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from playwright.sync_api import expect
from support.git_server import git_server

from ds01spawner.engines.docker.network import ensure_network


@pytest.fixture(scope="module")
def server(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    gateway = ensure_network(engine.api, "ds01-test", "test-network").gateway
    with git_server(gateway, tmp_path_factory.mktemp("git")) as address:
        yield address


@pytest.fixture(scope="module")
def hub_options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("templates")
    (folder / "python").mkdir()
    (folder / "python" / "README.md").write_text("# <b>A Python project</b>\n")
    (folder / "python" / "start.py").write_text("print(1)\n")
    extra = (
        f'c.DS01Spawner.git_schemes = ["https", "http"]\nc.DS01Spawner.project_templates = {str(folder)!r}\n'
    )
    return {"extra": extra}


def files(hub: Any, user: str, project: str) -> Path:
    return hub.workspaces / user / project


def test_a_repository_by_mouse_with_a_slip_on_the_way(hub, visit, server):
    alice = visit("alice")
    page = alice.page
    begins, address = page.get_by_label("A new project begins with"), page.locator("#ds01-project-source")
    expect(begins).to_be_enabled()  # no project yet: the first one is new
    expect(address).to_be_hidden()
    alice.choose(project="course")
    begins.select_option("A git repository")
    expect(address).to_be_visible()
    address.fill(f"{server}/none.git")
    alice.start_button.click()
    expect(page.get_by_role("alert").filter(has_text="There is no such repository").first).to_be_visible()
    expect(alice.start_button).to_be_visible()
    assert alice.chosen()["project_source"] == f"{server}/none.git"
    assert not files(hub, "alice", "course").exists()

    address.fill(f"{server}/good.git#week-2")
    alice.start_button.click()
    alice.in_lab()
    expect(page.locator(".jp-DirListing-itemText").filter(has_text="README.md")).to_be_visible()
    assert (files(hub, "alice", "course") / "src" / "train.py").read_text() == "print(1)\n"
    assert "project_source" not in hub.server("alice")["user_options"]
    assert alice.errors == []

    # Another project stands in the list now: an old one takes no source, a new one does.
    alice.go("hub/home")
    hub.retire("alice")
    alice.go("hub/spawn")
    expect(begins).to_be_disabled()
    expect(page.get_by_role("radio", name="course")).to_be_checked()
    page.fill("#ds01-project-new", "course")
    expect(page.get_by_text("You have a project course already")).to_be_visible()
    expect(begins).to_be_disabled()
    page.fill("#ds01-project-new", "next")
    expect(begins).to_be_enabled()
    assert alice.errors == []


def test_a_template_without_javascript(hub, visit):
    bob = visit("bob", java_script_enabled=False)
    page = bob.page
    bob.choose(project="plain")
    page.select_option("#ds01-project-start", "template:python")
    page.fill("#ds01-project-source", "https://example.org/x")
    bob.start_button.click()
    expect(page.get_by_role("alert").first).to_contain_text("not both")
    assert bob.chosen()["project"] == "plain"  # the first project, in its place on the list
    assert page.input_value("#ds01-project-source") == "https://example.org/x"
    page.select_option("#ds01-project-start", "template:python")
    page.fill("#ds01-project-source", "")
    bob.start_button.click()
    page.wait_for_url("**/user/bob/lab**")
    assert sorted(p.name for p in files(hub, "bob", "plain").iterdir()) == ["README.md", "start.py"]


def test_a_link_with_a_source_fills_the_form_in_for_a_new_project_only(hub, visit, server):
    teacher = visit("teacher")
    source = f"{server}/good.git"
    page = teacher.go(f"services/ds01/start?project=nlp&project_source={source}%23week-2")
    chosen = teacher.chosen()
    assert (chosen["project_source"], chosen["project_start"]) == (f"{source}#week-2", "git")
    assert "nlp" in (chosen.get("project"), chosen.get("project_new"))
    assert f"project_source={server.replace(':', '%3A').replace('/', '%2F')}" in page.get_attribute(
        "a[data-ds01-share]", "href"
    )
    assert not files(hub, "teacher", "nlp").exists()
    hub.start_session("teacher", {"project": "nlp"})
    hub.retire("teacher")
    (files(hub, "teacher", "nlp") / "mine").write_text("x")
    page = teacher.go(f"services/ds01/start?project=nlp&project_source={source}")
    expect(page.get_by_text("You have a project nlp already")).to_be_visible()
    assert teacher.chosen()["project"] == "nlp"
    assert "project_source" not in teacher.chosen()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_fields_look_right(visit, scheme):
    admin = visit("admin", viewport={"width": 375, "height": 800}, color_scheme=scheme)
    admin.choose(project="new")
    admin.page.select_option("#ds01-project-start", "git")
    assert admin.serious() == []
    assert not admin.scrolls_sideways()
    assert "<b>A Python project</b>" in admin.page.locator("#ds01-project-start").inner_text()

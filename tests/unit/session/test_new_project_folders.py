"""Where a new project's files are gathered, and templates: all of it or nothing, and no link is followed."""

from __future__ import annotations

import os
import time

import pytest

from ds01spawner.workspace import staging
from ds01spawner.workspace.projectfiles import ProjectFileError
from ds01spawner.workspace.projects import WorkspaceError, Workspaces
from ds01spawner.workspace.templates import Template, copy_template, files_of, templates

TOKEN = "0123456789abcdef"


@pytest.fixture
def places(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    return Workspaces(root, f"{os.getuid() or 1000}:{os.getgid() or 1000}")


def begin(places, user="alice"):
    staged = staging.begin(places, user, TOKEN)
    (staged.path / "a").mkdir()
    (staged.path / "a" / "file").write_text("x")
    return staged


def test_gathered_files_become_the_project(places):
    staged = begin(places)
    assert staged.path == places.root / "alice" / f".ds01-new-{TOKEN}"
    assert places.projects("alice") == []
    assert staging.is_new(places, "alice", "thesis")
    assert staging.adopt(places, "alice", TOKEN, "thesis")
    assert (places.root / "alice" / "thesis" / "a" / "file").read_text() == "x"
    assert os.listdir(places.root / "alice") == ["thesis"]
    assert not staging.is_new(places, "alice", "thesis")
    made = places.prepare("alice", "thesis")
    assert (made.created, made.path.stat().st_mode & 0o7777) == (False, 0o2770)


def test_an_empty_project_is_filled_in_place(places):
    before = places.prepare("alice", "thesis").path.stat().st_ino
    assert staging.is_new(places, "alice", "thesis")
    begin(places)
    assert staging.adopt(places, "alice", TOKEN, "thesis")
    assert (places.root / "alice" / "thesis").stat().st_ino == before
    assert os.listdir(places.root / "alice") == ["thesis"]


def test_a_project_with_files_is_never_touched(places):
    (places.prepare("alice", "thesis").path / "mine").write_text("x")
    begin(places)
    assert not staging.adopt(places, "alice", TOKEN, "thesis")
    assert os.listdir(places.root / "alice" / "thesis") == ["mine"]
    staging.abandon(places, "alice", TOKEN)
    assert os.listdir(places.root / "alice") == ["thesis"]


@pytest.mark.parametrize("what", ["link", "file"])
def test_what_is_no_folder_is_not_new(places, tmp_path, what):
    places.prepare("alice", "other")
    path = places.root / "alice" / "thesis"
    (tmp_path / "elsewhere").mkdir()
    path.symlink_to(tmp_path / "elsewhere") if what == "link" else path.write_text("x")
    assert not staging.is_new(places, "alice", "thesis")
    begin(places)
    with pytest.raises(WorkspaceError):
        staging.adopt(places, "alice", TOKEN, "thesis")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_what_was_abandoned_is_gone_however_deep_and_no_link_is_followed(places, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    staged = begin(places)
    (staged.path / "link").symlink_to(tmp_path / "precious")
    (staged.path / ".ds01-new-1").mkdir()
    (staged.path / ".ds01-new-1" / "b").mkdir()
    here = os.open(staged.path, os.O_RDONLY)
    for _ in range(1500):  # deeper than any path, and than Python's stack
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    staging.abandon(places, "alice", TOKEN)
    staging.abandon(places, "alice", TOKEN)
    staging.abandon(places, "nobody", TOKEN)
    assert os.listdir(places.root / "alice") == []
    assert (tmp_path / "precious" / "file").exists()


def test_what_dead_starts_left_goes_with_the_next_one(places):
    old = begin(places)
    os.utime(old.path, (0, time.time() - 2 * staging.FORGOTTEN_S))
    staging.begin(places, "alice", "f" * 16)
    assert os.listdir(places.root / "alice") == [f".ds01-new-{'f' * 16}"]


@pytest.mark.parametrize("token", ["", "../x", "a/b", "ABCDEF0123", "short", "0" * 65])
def test_tokens_are_hexadecimal(places, token):
    with pytest.raises(WorkspaceError):
        staging.begin(places, "alice", token)
    with pytest.raises(WorkspaceError):
        staging.abandon(places, "alice", token)


# --- templates --------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    site = tmp_path / "templates"
    for name, files in {
        "python": {"README.md": "\n# A Python project\n\nMore.\n", "src/main.py": "x"},
        "plain": {".description": "Nothing but a folder\nsecond line\n", "data/keep": ""},
        "bare": {"x": ""},
        "Not A Name": {"x": ""},
    }.items():
        for path, content in files.items():
            (site / name / path).parent.mkdir(parents=True, exist_ok=True)
            (site / name / path).write_text(content)
    (site / "linked").symlink_to(site / "python")
    (site / "a-file").write_text("x")
    return site


def test_templates_are_listed_with_their_descriptions(folder):
    assert templates(folder) == (
        Template("bare", ""),
        Template("plain", "Nothing but a folder"),
        Template("python", "A Python project"),
    )
    assert templates(None) == templates(folder / "none") == ()


def test_a_template_is_copied_without_what_is_not_for_others(folder, places, tmp_path):
    template = folder / "python"
    (template / "secret").write_text("x")
    (template / "secret").chmod(0o600)
    (template / "in").symlink_to("src/main.py")
    (template / "out").symlink_to("/etc/passwd")
    places.mapping = "4242:4242"  # who may not read what is the template owner's alone
    staged = staging.begin(places, "alice", TOKEN)
    copy_template(folder, "python", files_of(places.root, staged.path, staged.identity))
    assert sorted(os.listdir(staged.path)) == ["README.md", "in", "src"]
    assert os.readlink(staged.path / "in") == "src/main.py"
    assert {p.lstat().st_uid for p in staged.path.rglob("*")} == {4242}


def test_the_description_is_not_copied(folder, places):
    staged = staging.begin(places, "alice", TOKEN)
    copy_template(folder, "plain", files_of(places.root, staged.path, staged.identity))
    assert os.listdir(staged.path) == ["data"]


@pytest.mark.parametrize("name", ["none", "linked", "a-file", "..", "../root", "Not A Name", ""])
def test_what_is_no_template_is_not_copied(folder, places, name):
    staged = staging.begin(places, "alice", TOKEN)
    with pytest.raises(ProjectFileError):
        copy_template(folder, name, files_of(places.root, staged.path, staged.identity))
    assert os.listdir(staged.path) == []

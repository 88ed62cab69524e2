"""What a person's own folder may do to the service: nothing."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ds01spawner.workspace.session_files import MAX_NOTICES, ProjectFolder

UID, OTHER = 23456, 23457


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "alice/thesis"
    folder.mkdir(parents=True)
    for path in (folder.parent, folder):
        os.chown(path, UID, UID)
    return folder


@pytest.fixture
def folder(tmp_path: Path, project: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path, "alice", "thesis")


def touch(path: Path, uid: int = UID, at: float = 1_700_000_000.0) -> Path:
    path.write_text("")
    os.chown(path, uid, uid)
    os.utime(path, (at, at))
    return path


def test_a_keep_alive_file_of_the_owner_counts(project, folder):
    assert folder.keep_alive() is None
    touch(project / ".keep-alive")
    assert folder.keep_alive() == 1_700_000_000.0


def test_links_other_owners_folders_and_pipes_do_not(project, folder, tmp_path):
    keep = project / ".keep-alive"
    keep.symlink_to(touch(tmp_path / "elsewhere"))
    assert folder.keep_alive() is None
    keep.unlink()
    touch(keep, OTHER)
    assert folder.keep_alive() is None
    keep.unlink()
    keep.mkdir()
    assert folder.keep_alive() is None
    keep.rmdir()
    os.mkfifo(keep)
    assert folder.keep_alive() is None


def test_a_project_that_is_a_link_is_not_followed(project, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir()
    touch(secret / ".keep-alive", 0)
    (project.parent / "link").symlink_to(secret)
    folder = ProjectFolder(tmp_path, "alice", "link")
    with pytest.raises(OSError, match=r"."):
        folder.keep_alive()
    with pytest.raises(OSError, match=r"."):
        folder.write_notices("x")
    assert not (secret / ".ds01").exists()


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc"])
def test_names_that_are_no_folder_names(tmp_path, project, name):
    with pytest.raises(OSError, match="not the name of"):
        ProjectFolder(tmp_path, "alice", name).keep_alive()


def test_notices_belong_to_the_owner_and_are_replaced(project, folder):
    folder.write_notices("one\n")
    folder.write_notices("two\n")
    notices = project / ".ds01/notices"
    assert notices.read_text() == "two\n"
    assert (notices.stat().st_uid, notices.parent.stat().st_uid) == (UID, UID)
    assert os.listdir(notices.parent) == ["notices"]


def test_a_link_in_place_of_the_notices_is_replaced_not_written_through(project, folder, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (project / ".ds01").mkdir()
    os.chown(project / ".ds01", UID, UID)
    (project / ".ds01/notices").symlink_to(victim)
    folder.write_notices("text\n")
    assert victim.read_text() == "precious"
    assert not (project / ".ds01/notices").is_symlink()
    (project / ".ds01/notices").unlink()
    os.link(victim, project / ".ds01/notices")
    folder.write_notices("text\n")
    assert victim.read_text() == "precious"
    (project / f".ds01/.notices.{os.getpid()}").symlink_to(victim)
    folder.write_notices("again\n")
    assert victim.read_text() == "precious"
    assert (project / ".ds01/notices").read_text() == "again\n"


@pytest.mark.parametrize("way", ["link", "hard link", "folder", "pipe", "another's file"])
def test_only_a_plain_file_of_the_owner_is_read_as_notices(project, folder, tmp_path, way):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder.write_notices("mine\n")
    assert folder.read_notices() == "mine\n"
    notices = project / ".ds01/notices"
    if way == "another's file":
        os.chown(notices, OTHER, OTHER)
    else:
        notices.unlink()
    if way == "link":
        notices.symlink_to(victim)
    elif way == "hard link":
        os.chown(victim, UID, UID)
        os.link(victim, notices)
    elif way == "folder":
        notices.mkdir()
    elif way == "pipe":
        os.mkfifo(notices)
    assert folder.read_notices() == ""


def test_without_a_file_there_are_no_notices(project, folder):
    assert folder.read_notices() == ""
    (project / ".ds01").symlink_to(project)
    assert folder.read_notices() == ""


def test_a_link_in_place_of_the_notices_folder_is_refused(project, folder, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    (project / ".ds01").symlink_to(away)
    with pytest.raises(OSError, match=r"."):
        folder.write_notices("text\n")
    assert os.listdir(away) == []
    (project / ".ds01").unlink()
    (project / ".ds01").mkdir()
    os.chown(project / ".ds01", OTHER, OTHER)
    with pytest.raises(PermissionError):
        folder.write_notices("text\n")


def test_notices_are_bounded_and_keep_the_newest(project, folder):
    folder.write_notices("".join(f"line {i}\n" for i in range(10_000)))
    text = (project / ".ds01/notices").read_text()
    assert len(text) <= MAX_NOTICES
    assert text.startswith("line ")
    assert text.endswith("line 9999\n")


def test_the_newest_change_is_found_a_few_levels_down(project, folder):
    assert folder.saved_at() is None
    (project / "src/deep").mkdir(parents=True)
    touch(project / "src/deep/a.py", at=1_800_000_000.0)
    for path in (project / "src/deep", project / "src"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    assert folder.saved_at() == datetime.fromtimestamp(1_800_000_000, timezone.utc)


def test_our_own_files_and_links_are_no_change(project, folder, tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    touch(away / "fresh", at=1_900_000_000.0)
    (project / "link").symlink_to(away)
    os.utime(project / "link", (1_500_000_000, 1_500_000_000), follow_symlinks=False)
    folder.write_notices("text\n")
    touch(project / ".keep-alive", at=1_900_000_000.0)
    assert folder.saved_at() == datetime.fromtimestamp(1_500_000_000, timezone.utc)


def test_a_huge_project_is_looked_at_in_part(project, folder):
    for i in range(5000):
        os.mknod(project / f"f{i}")
    assert folder.saved_at() is not None

"""Course data and starter files: nothing outside the roots is mounted, nothing of a student's is touched."""

import os
from pathlib import Path

import pytest

from ds01spawner.core.errors import Refused
from ds01spawner.courses.publication import teaches
from ds01spawner.workspace.projectfiles import ProjectFileError, ProjectFiles
from ds01spawner.workspace.starter_files import copy_starter, data_mounts, keep_starter, sweep_starters


@pytest.fixture
def teacher(tmp_path):
    folder = tmp_path / "ws" / "prof" / "nlp" / "starter"
    (folder / "week1").mkdir(parents=True)
    (folder / "week1" / "task.ipynb").write_text("{}")
    (folder / "run.sh").write_text("echo")
    (folder / "run.sh").chmod(0o755)
    (folder / "way-out").symlink_to("/etc/passwd")
    return ProjectFiles(tmp_path / "ws", ("prof", "nlp"), os.getuid(), os.getgid())


@pytest.fixture
def student(tmp_path):
    (tmp_path / "ws" / "alice" / "p").mkdir(parents=True)
    return ProjectFiles(tmp_path / "ws", ("alice", "p"), os.getuid(), os.getgid())


def folder(files: ProjectFiles) -> Path:
    return files.root.joinpath(*files.parts)


def test_starter_files_come_once_into_an_empty_project(tmp_path, teacher, student):
    kept = keep_starter(tmp_path / "courses", "nlp", teacher, "starter")
    assert kept == keep_starter(tmp_path / "courses", "nlp", teacher, "starter")
    assert (kept["count"], kept["left_out"]) == (3, ["way-out"])
    archive = tmp_path / "courses" / "nlp" / kept["archive"]
    assert copy_starter(archive, student, "nlp")
    mine = folder(student)
    assert (mine / "week1" / "task.ipynb").read_text() == "{}"
    assert os.access(mine / "run.sh", os.X_OK)
    assert not (mine / "way-out").is_symlink()
    (mine / "run.sh").unlink()
    assert not copy_starter(archive, student, "nlp")
    assert not (mine / "run.sh").exists()


def test_a_project_with_files_is_left_alone(tmp_path, teacher, student):
    kept = keep_starter(tmp_path / "courses", "nlp", teacher, "starter")
    (folder(student) / "own.txt").write_text("mine")
    assert not copy_starter(tmp_path / "courses" / "nlp" / kept["archive"], student, "nlp")
    assert os.listdir(folder(student)) == ["own.txt"]


def test_a_copy_cut_short_goes_on_and_overwrites_nothing(tmp_path, teacher, student):
    kept = keep_starter(tmp_path / "courses", "nlp", teacher, "starter")
    student.write_text(".ds01-course-nlp", "copying\n")
    (folder(student) / "run.sh").write_text("changed")
    assert copy_starter(tmp_path / "courses" / "nlp" / kept["archive"], student, "nlp")
    assert (folder(student) / "run.sh").read_text() == "changed"
    assert (folder(student) / "week1" / "task.ipynb").exists()


def test_a_planted_link_is_not_followed(tmp_path, teacher, student):
    kept = keep_starter(tmp_path / "courses", "nlp", teacher, "starter")
    (tmp_path / "elsewhere").mkdir()
    student.write_text(".ds01-course-nlp", "copying\n")
    (folder(student) / "week1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProjectFileError):
        copy_starter(tmp_path / "courses" / "nlp" / kept["archive"], student, "nlp")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_no_such_starter_folder(tmp_path, teacher):
    with pytest.raises(ProjectFileError):
        keep_starter(tmp_path / "courses", "nlp", teacher, "missing")


def test_data_is_mounted_read_only_from_below_the_roots(tmp_path):
    (tmp_path / "data" / "nlp").mkdir(parents=True)
    wanted = [{"source": str(tmp_path / "data" / "nlp"), "target": "/data/nlp"}]
    assert data_mounts(wanted, [tmp_path / "data"], "nlp") == (
        {
            "Type": "bind",
            "Source": str(tmp_path / "data" / "nlp"),
            "Target": "/data/nlp",
            "ReadOnly": True,
        },
    )


@pytest.mark.parametrize("roots", [[], ["data/other"]])
def test_data_elsewhere_is_refused(tmp_path, roots):
    (tmp_path / "data" / "nlp").mkdir(parents=True)
    wanted = [{"source": str(tmp_path / "data" / "nlp"), "target": "/data/nlp"}]
    with pytest.raises(Refused, match="not below a folder for course data"):
        data_mounts(wanted, [tmp_path / r for r in roots], "nlp")


def test_a_link_that_leads_out_of_the_root_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nlp").symlink_to("/etc")
    with pytest.raises(Refused, match="not below"):
        data_mounts([{"source": str(tmp_path / "data/nlp"), "target": "/data"}], [tmp_path / "data"], "nlp")


def test_data_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(Refused, match="not a folder of the server"):
        data_mounts([{"source": str(tmp_path / "data/x"), "target": "/data"}], [tmp_path / "data"], "nlp")


@pytest.mark.parametrize(
    ("scopes", "roster", "may"),
    [
        ((), ("a",), False),
        (("custom:ds01:course:teach",), ("a", "b"), True),
        (("custom:ds01:course:teach!group=a",), ("a",), True),
        (("custom:ds01:course:teach!group=a",), ("a", "b"), False),
        (("custom:ds01:course:teach!group=a", "custom:ds01:course:teach!group=b"), ("a", "b"), True),
        (("custom:ds01:course:teach!group=a",), (), False),
        (("custom:ds01:course:teach!group=ab",), ("a",), False),
    ],
)
def test_who_teaches_a_roster(scopes, roster, may):
    assert teaches(scopes, roster) is may


def test_archives_that_no_course_names_are_removed_a_day_later(tmp_path, teacher):
    courses, outside = tmp_path / "courses", tmp_path / "outside"
    first = keep_starter(courses, "nlp", teacher, "starter")["archive"]
    (folder(teacher) / "starter" / "more").write_text("x")
    second = keep_starter(courses, "nlp", teacher, "starter")["archive"]
    gone = keep_starter(courses, "gone", teacher, "starter")["archive"]
    (courses / "nlp" / ".half.tmp").write_text("x")
    (courses / "nlp" / "notes.txt").write_text("an administrator's")
    outside.mkdir()
    (outside / "x.tar").write_text("x")
    (courses / "link").symlink_to(outside)
    for path in [*courses.rglob("*"), outside / "x.tar"]:
        os.utime(path, (1000, 1000), follow_symlinks=False)
    assert sweep_starters(courses, {("nlp", second)}, 999) == []
    removed = sweep_starters(courses, {("nlp", second)}, 1001)
    assert sorted(removed) == sorted([f"nlp/{first}", f"gone/{gone}", "nlp/.half.tmp"])
    assert sorted(p.name for p in (courses / "nlp").iterdir()) == sorted([second, "notes.txt"])
    assert not (courses / "gone").exists()
    assert (outside / "x.tar").exists()
    assert sweep_starters(tmp_path / "none", set(), 1001) == []


def test_the_same_files_kept_again_are_new_again(tmp_path, teacher):
    """Whoever applies a course again right before the sweep keeps its files."""
    kept = keep_starter(tmp_path / "courses", "nlp", teacher, "starter")["archive"]
    archive = tmp_path / "courses" / "nlp" / kept
    os.utime(archive, (1000, 1000))
    keep_starter(tmp_path / "courses", "nlp", teacher, "starter")
    assert sweep_starters(tmp_path / "courses", set(), 1001) == []
    assert archive.exists()

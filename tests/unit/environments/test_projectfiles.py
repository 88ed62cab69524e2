"""A project's files: read, written and packed without following a link out of it."""

import os
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.workspace.projectfiles import ProjectFileError, ProjectFiles, leads_outside


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "ws" / "alice" / "p"
    folder.mkdir(parents=True)
    other = tmp_path / "ws" / "bob"
    other.mkdir()
    (other / "secret").write_text("bob's")
    return ProjectFiles(tmp_path / "ws", ("alice", "p"), os.getuid(), os.getgid())


def top(files):
    return files.root / "alice" / "p"


def packed(files, **kwargs):
    context = files.pack(kwargs.pop("max_bytes", 10**6), kwargs.pop("extra", {}), kwargs.pop("ignore", ""))
    with context.file, tarfile.open(fileobj=context.file) as tar:
        return {
            m.name: (tar.extractfile(m).read().decode() if m.isreg() else m.linkname) for m in tar
        }, context


def test_pack_takes_the_project_and_leaves_out_what_leads_away(files):
    (top(files) / "sub").mkdir()
    (top(files) / "sub" / "a.txt").write_text("a")
    (top(files) / "in").symlink_to("sub/a.txt")
    (top(files) / "out").symlink_to("../../bob/secret")
    (top(files) / "abs").symlink_to("/etc/passwd")
    os.mkfifo(top(files) / "pipe")
    names, context = packed(files, extra={"Dockerfile": b"FROM x"})
    assert names == {"sub": "", "sub/a.txt": "a", "in": "sub/a.txt", "Dockerfile": "FROM x"}
    assert context.outside == {"out", "abs"}


def test_the_file_that_was_checked_wins_over_the_one_in_the_folder(files):
    (top(files) / "Dockerfile").write_text("FROM other")
    assert packed(files, extra={"Dockerfile": b"FROM x"})[0]["Dockerfile"] == "FROM x"


def test_dockerignore(files):
    for name in ("a.txt", "b.log", "keep.log"):
        (top(files) / name).write_text(name)
    (top(files) / "big").mkdir()
    (top(files) / "big" / "x").write_text("x")
    assert set(packed(files, ignore="# c\n*.log\n!keep.log\nbig\n")[0]) == {"a.txt", "keep.log"}
    assert set(packed(files, ignore="*.log\nbig/\n")[0]) == {"a.txt"}
    with pytest.raises(ProjectFileError, match="dockerignore"):
        files.pack(10**6, {}, "a*" * 300)


def test_the_size_is_bounded_and_says_where(files):
    with (top(files) / "huge").open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(ProjectFileError, match=r"reached at huge.*dockerignore"):
        files.pack(500 * 2**20, {})
    assert "huge" not in packed(files, ignore="huge")[0]


def test_what_the_owner_may_not_read_is_not_sent(files):
    (top(files) / "mine").write_text("x")
    strange = ProjectFiles(files.root, files.parts, files.uid + 1, files.gid + 1)
    os.chmod(top(files) / "mine", 0o600)
    names, context = packed(strange)
    assert names == {}
    assert context.unreadable == {"mine"}


@pytest.mark.parametrize("path", ["out", "dir/secret", "pipe", "sub"])
def test_read_refuses_links_and_odd_files(files, path):
    (top(files) / "out").symlink_to("../../bob/secret")
    (top(files) / "dir").symlink_to("../../bob")
    (top(files) / "sub").mkdir()
    os.mkfifo(top(files) / "pipe")
    with pytest.raises(ProjectFileError):
        files.read_text(path)


@pytest.mark.parametrize("path", ["../../bob/secret", "..", ".", "", "/etc/passwd", "sub/../../x", "./a"])
def test_a_path_that_is_no_name_in_the_project_is_refused(files, path):
    (top(files) / "sub").mkdir()
    with pytest.raises(ProjectFileError, match="is not the name of"):
        files.read_text(path)
    with pytest.raises(ProjectFileError, match="is not the name of"):
        ProjectFiles(files.root, (*files.parts, *path.split("/")), files.uid, files.gid).pack(1, {})


def test_read(files):
    assert files.read_text("none") is None
    (top(files) / "a").write_bytes(b"\xef\xbb\xbfx")
    assert files.read_text("a") == "x"
    (top(files) / "a").write_bytes(b"\xff")
    with pytest.raises(ProjectFileError, match="UTF-8"):
        files.read_text("a")
    with pytest.raises(ProjectFileError, match="larger"):
        files.read_text("a", limit=0)


def test_a_project_that_is_a_link_is_not_opened(files, tmp_path):
    (files.root / "alice" / "q").symlink_to("../bob")
    with pytest.raises(ProjectFileError):
        ProjectFiles(files.root, ("alice", "q"), 0, 0).read_text("secret")


def test_write_replaces_a_link_and_never_follows_it(files):
    (top(files) / "recipe.yaml").symlink_to("../../bob/secret")
    files.write_text("recipe.yaml", "base: lab\n")
    assert (files.root / "bob" / "secret").read_text() == "bob's"
    assert (top(files) / "recipe.yaml").read_text() == "base: lab\n"
    assert not (top(files) / "recipe.yaml").is_symlink()
    assert os.listdir(top(files)) == ["recipe.yaml"]
    for name in ("../x", "", ".."):
        with pytest.raises(ProjectFileError):
            files.write_text(name, "x")


@pytest.mark.parametrize(
    ("path", "target", "out"),
    [
        ("a", "b", False), ("a/b", "../c", False), ("a", "../c", True), ("a/b", "../../c", True),
        ("a", "/etc", True), ("a/b", "../a/../../x", True), ("a", ".", False), ("a", "..", True),
    ],
)  # fmt: skip
def test_leads_outside(path, target, out):
    assert leads_outside(path, target) is out


@given(st.lists(st.sampled_from(["..", ".", "a", "b"]), min_size=1, max_size=6))
def test_leads_outside_agrees_with_walking(parts):
    depth, left = 1, False
    for part in parts:
        depth += {"..": -1, ".": 0}.get(part, 1)
        left = left or depth < 0
    # A path that leaves and comes back by another name is counted by where it ends.
    if depth < 0:
        assert leads_outside("x/y", "/".join(parts))
    if not left:
        assert not leads_outside("x/y", "/".join(parts))

"""What runs although the engine does not list it, from a tree of control groups."""

from __future__ import annotations

import shutil

import pytest

from ds01spawner.engines.docker import unlisted
from ds01spawner.engines.docker.device_access import Evidence

ONE, TWO = "1" * 64, "2" * 64
PLACES = (
    f"docker/{ONE}",
    f"system.slice/docker-{ONE}.scope",
    f"ds01.slice/ds01-alice.slice/docker-{ONE}.scope",
)
KNOWN = Evidence(ONE, (("uuid", "GPU-a"),), {"ds01.session": "s1"}, None)


@pytest.fixture
def group(tmp_path):
    """Makes a control group with these processes."""

    def make(place, pids="4711\n", tree=""):
        folder = tmp_path / "cgroup" / tree / place
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(pids)
        return folder

    return make


@pytest.fixture
def seen(tmp_path):
    """What is found, in those trees, by an engine that lists so much."""
    root, proc = tmp_path / "cgroup", tmp_path / "proc"

    def look(*listed, remembered=None, before=None):
        there = unlisted.running(root) if before is None else before
        return unlisted.still_there(there, listed, remembered or {}, "i1", proc)

    return look


@pytest.mark.parametrize("tree", ["", "pids", "memory"])
@pytest.mark.parametrize("place", PLACES)
def test_a_container_that_was_listed_once_is_told_by_what_was_known_of_it(group, seen, place, tree):
    group(place, "0\n", tree)  # as from another PID namespace
    found = seen(remembered={ONE: KNOWN})
    assert found[ONE].tokens == KNOWN.tokens
    assert found[ONE].session is None
    assert found[ONE].labels == {}, "so that no label exempts it"
    assert seen(ONE, remembered={ONE: KNOWN}) == {}


def test_one_that_has_ended_holds_nothing(group, seen, tmp_path):
    folder = group(PLACES[0])
    before = unlisted.running(tmp_path / "cgroup")
    assert before.keys() == {ONE}
    (folder / "cgroup.procs").write_text("")
    assert seen(remembered={ONE: KNOWN}, before=before) == {}
    shutil.rmtree(folder)
    assert seen(remembered={ONE: KNOWN}, before=before) == {}
    assert unlisted.running(tmp_path / "cgroup") == {}


@pytest.mark.parametrize(
    ("environment", "tokens"),
    [
        (
            b"A=b\0DS01_INSTALLATION=i1\0DS01_GPU_UUIDS=MIG-a,GPU-b\0",
            (("label", "MIG-a"), ("label", "GPU-b")),
        ),
        (b"DS01_INSTALLATION=i1\0DS01_GPU_UUIDS=\0", ()),
        (b"DS01_INSTALLATION=i2\0DS01_GPU_UUIDS=MIG-a\0", None),
        (b"PATH=/bin\0NVIDIA_VISIBLE_DEVICES=all\0", None),  # of another engine of this machine
        (None, None),
    ],
)
def test_one_that_this_process_never_saw_listed_tells_by_its_environment(
    group, seen, tmp_path, environment, tokens
):
    group(PLACES[1])
    if environment is not None:
        (tmp_path / "proc/4711").mkdir(parents=True)
        (tmp_path / "proc/4711/environ").write_bytes(environment)
    assert [e.tokens for e in seen().values()] == ([] if tokens is None else [tokens])


def test_what_is_no_container_is_left_alone(group, seen, tmp_path):
    for place in ("docker", "docker/buildkit/" + "x" * 25, f"kubepods/{ONE[:12]}", f"libpod-{TWO}.scope"):
        group(place)
    assert unlisted.running(tmp_path / "cgroup") == {}
    assert unlisted.running(tmp_path / "nowhere") == {}


def test_an_administrator_is_told(group):
    folder = group(PLACES[0])
    (told,) = unlisted.findings({ONE: folder}, [TWO], [ONE])
    assert told.level == "error"
    assert ONE[:12] in told.what
    assert [f.level for f in unlisted.findings({}, [TWO], [])] == ["warning"]
    assert list(unlisted.findings({TWO: folder}, [TWO], [])) == []
    assert list(unlisted.findings({}, [], [])) == []


def test_a_look_at_the_control_groups_is_kept_for_a_second(monkeypatch):
    now, looks = [5.0], []
    monkeypatch.setattr(unlisted, "running", lambda: looks.append(now[0]) or {})
    groups = unlisted.Groups(lambda: now[0])
    for now[0] in (5.0, 5.9, 6.0, 6.5, 7.0):
        groups.running()
    assert looks == [5.0, 6.0, 7.0]

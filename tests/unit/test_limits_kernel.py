"""Names and values of cgroups, and what is read back, on trees that stand for other kernels."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.errors import EngineError
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker import cgroups, limit_check
from ds01spawner.engines.docker.capabilities import capabilities
from ds01spawner.engines.docker.cgroups import Ceiling, Parents
from ds01spawner.engines.docker.create import Resources
from ds01spawner.engines.docker.memory import kill_count
from ds01spawner.messages import notes
from ds01spawner.policy.plan import SessionUse

GIB = 2**30
ALL = Ceiling(2.5, 8 * GIB, 7 * GIB, 500)


@pytest.mark.parametrize(
    ("driver", "user", "name"),
    [
        ("cgroupfs", "alice", "/ds01/hub/alice"),
        ("cgroupfs", "tasks", "/ds01/hub/tasks_08515408"),
        ("cgroupfs", "../../docker", "/ds01/hub/docker_af4775e9"),
        ("cgroupfs", "a/b", "/ds01/hub/a_b_c14cddc0"),
        ("systemd", "alice", "ds01-hub-alice.slice"),
        ("systemd", "jean-luc", "ds01-hub-jean_luc_54145944.slice"),
        ("systemd", "a.b@uni.de", "ds01-hub-a_b_uni_de_965d1e85.slice"),
    ],
)
def test_a_parents_name_is_one_level_a_person(driver, user, name):
    found = cgroups.parent_name(driver, "hub", user)
    assert found == name
    assert cgroups.folder_of(found).count("/") == 2


def test_a_slice_lies_in_the_slices_of_its_prefixes():
    assert cgroups.folder_of("ds01-hub-alice.slice") == "ds01.slice/ds01-hub.slice/ds01-hub-alice.slice"
    assert cgroups.folder_of("/ds01/hub/alice") == "ds01/hub/alice"


@given(st.text(max_size=80), st.text(max_size=80))
def test_two_people_never_share_a_parent(one, other):
    names = {cgroups.token(one), cgroups.token(other)}
    assert len(names) == (1 if one == other else 2)
    assert all(n.replace("_", "").isalnum() and n.isascii() and len(n) <= 48 for n in names)


def test_a_name_cannot_be_made_to_look_like_anothers_hash():
    assert cgroups.token(cgroups.token("a-b")) != cgroups.token("a-b")


def test_values_for_every_hierarchy():
    assert cgroups.v1_values(ALL) == [
        ("memory", "memory.limit_in_bytes", "8589934592"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "250000"),
        ("pids", "pids.max", "500"),
    ]
    assert cgroups.v2_values(ALL) == [
        ("memory.max", "8589934592"),
        ("memory.high", "7516192768"),
        ("cpu.max", "250000 100000"),
        ("pids.max", "500"),
    ]
    assert cgroups.v2_values(Ceiling()) == [
        ("memory.max", "max"), ("memory.high", "max"), ("cpu.max", "max 100000"), ("pids.max", "max"),
    ]  # fmt: skip
    assert [v for _, _, v in cgroups.v1_values(Ceiling())] == ["-1", "100000", "-1", "max"]
    assert cgroups.slice_properties(ALL, 2) == [
        "CPUQuota=250%", "MemoryMax=8589934592", "TasksMax=500", "MemoryHigh=7516192768",
    ]  # fmt: skip
    assert cgroups.slice_properties(Ceiling(), 1) == ["CPUQuota=", "MemoryMax=infinity", "TasksMax=infinity"]


def v2_tree(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    return tmp_path


def test_a_parent_on_cgroup_v2_hands_the_controllers_down(tmp_path):
    root = v2_tree(tmp_path)
    parents = Parents({"CgroupDriver": "cgroupfs", "CgroupVersion": "2"}, "hub", root)
    assert parents.problem() == ""
    assert parents.ensure("alice", ALL) == "/ds01/hub/alice"
    place = root / "ds01/hub/alice"
    assert place.joinpath("cpu.max").read_text() == "250000 100000"
    assert parents.read("/ds01/hub/alice") == ALL
    for level in ("", "ds01", "ds01/hub", "ds01/hub/alice"):
        assert (root / level / "cgroup.subtree_control").exists()
    assert parents.listed() == {"/ds01/hub/alice"}


def test_a_ceiling_that_does_not_take_is_an_error(tmp_path, monkeypatch):
    parents = Parents({"CgroupDriver": "cgroupfs", "CgroupVersion": "2"}, "hub", v2_tree(tmp_path))
    monkeypatch.setattr(Parents, "_write", staticmethod(lambda file, value: file.write_text("max")))
    with pytest.raises(EngineError, match="memory of all sessions is unlimited instead of 8589934592"):
        parents.ensure("alice", ALL)


def test_a_former_ceiling_stands_only_while_sessions_run_below_it(tmp_path, monkeypatch):
    parents = Parents({"CgroupDriver": "cgroupfs", "CgroupVersion": "2"}, "hub", v2_tree(tmp_path))
    parents.ensure("alice", ALL)
    monkeypatch.setattr(Parents, "_write", staticmethod(lambda file, value: None))
    with pytest.raises(EngineError, match="cpus of all sessions"):
        parents.ensure("alice", Ceiling(1, 8 * GIB, None, 500))
    (tmp_path / "ds01/hub/alice/0123").mkdir()
    assert parents.ensure("alice", Ceiling(1, 8 * GIB, None, 500)) == "/ds01/hub/alice"


def test_systemd_is_told_by_its_own_tool(tmp_path):
    said = []

    def systemctl(argv):
        said.append(list(argv))
        place = tmp_path / cgroups.folder_of("ds01-hub-alice.slice")
        place.mkdir(parents=True, exist_ok=True)
        for file, value in cgroups.v2_values(ALL):
            (place / file).write_text(value)
        return ""

    parents = Parents({"CgroupDriver": "systemd", "CgroupVersion": "2"}, "hub", v2_tree(tmp_path), systemctl)
    assert parents.ensure("alice", ALL) == "ds01-hub-alice.slice"
    assert said == [
        ["systemctl", "set-property", "--runtime", "ds01-hub-alice.slice", *cgroups.slice_properties(ALL, 2)],
        ["systemctl", "start", "ds01-hub-alice.slice"],
    ]
    assert parents.listed() == {"ds01-hub-alice.slice"}
    (tmp_path / cgroups.folder_of("ds01-hub-alice.slice") / "docker-1.scope").mkdir()
    assert parents.remove("ds01-hub-alice.slice") is False, "stopping a slice would end what runs in it"
    (tmp_path / cgroups.folder_of("ds01-hub-alice.slice") / "docker-1.scope").rmdir()
    assert parents.remove("ds01-hub-alice.slice") is True
    assert said[2:] == [
        ["systemctl", "stop", "ds01-hub-alice.slice"],
        ["systemctl", "revert", "ds01-hub-alice.slice"],
    ]


def test_where_no_ceiling_can_be_held_the_reason_is_told(tmp_path):
    none = Parents({"CgroupDriver": "none", "CgroupVersion": "2"}, "hub", tmp_path)
    assert none.problem() == "the engine's cgroup driver is 'none'"
    (tmp_path / "cgroup.controllers").write_text("cpu")
    less = Parents({"CgroupDriver": "cgroupfs", "CgroupVersion": "2"}, "hub", tmp_path)
    assert less.problem() == "this machine's cgroups have no memory and no pids controller"
    found = capabilities({"SwapLimit": False}, less.problem())
    assert (found.aggregate, found.swap, found.memory) == (False, False, True)
    assert found.unenforced() == [
        "The limit on swap is not enforced: the engine says that this machine's kernel cannot",
        "The ceiling over all sessions of a person is not enforced: "
        "this machine's cgroups have no memory and no pids controller",
    ]


def host(tmp_path, container="c1", memory="1073741824", limits=""):
    """A process of number 7 in a container on cgroup v2."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "7").mkdir(parents=True)
    (proc / "7/cgroup").write_text(f"0::/ds01/hub/alice/{container}\n")
    (proc / "7/limits").write_text(limits)
    place = root / "ds01/hub/alice" / container
    place.mkdir(parents=True)
    for name, value in {
        "memory.max": memory, "memory.swap.max": "0", "cpu.max": "150000 100000", "pids.max": "512",
    }.items():  # fmt: skip
        (place / name).write_text(value)
    return root, proc


def test_limits_in_force_are_read_on_cgroup_v2(tmp_path):
    root, proc = host(tmp_path, limits="Max open files            512         1024        files\n")
    found = limit_check.read(7, "c1", 2, root, proc)
    assert (found.memory, found.memory_and_swap, found.cpus, found.pids) == (GIB, GIB, 1.5, 512)
    assert (found.hard, found.parent, found.shm) == ({"nofile": 1024}, "/ds01/hub/alice", None)
    wanted = Resources(1.5, GIB, 0, 2**20, 512, {"nofile": (512, 1024)}, "/ds01/hub/alice")
    assert limit_check.shortfalls(wanted, found) == []


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Resources(memory=GIB // 2), ["memory is 1 GiB instead of 512 MiB",
                                      "memory with swap is 1 GiB instead of 512 MiB"]),
        (Resources(cpus=1), ["cpus is 1.5 instead of 1"]),
        (Resources(pids=64), ["processes is 512 instead of 64"]),
        (Resources(ulimits={"nofile": (1, 2)}), ["ulimit nofile is unlimited instead of 2"]),
        (Resources(cgroup_parent="/ds01/hub/bob"), ["it is not below the ceiling over all sessions"]),
        (Resources(), []),
    ],
)  # fmt: skip
def test_what_is_not_in_force_is_named(tmp_path, wanted, said):
    root, proc = host(tmp_path, limits="Max open files            512         unlimited        files\n")
    assert limit_check.shortfalls(wanted, limit_check.read(7, "c1", 2, root, proc)) == said


def test_an_unlimited_memory_is_named(tmp_path):
    root, proc = host(tmp_path, memory="max")
    found = limit_check.read(7, "c1", 2, root, proc)
    assert found.memory == inf
    assert limit_check.shortfalls(Resources(memory=GIB), found, swap=False) == [
        "memory is unlimited instead of 1 GiB"
    ]


def test_a_process_of_that_number_on_another_machine_is_not_judged(tmp_path):
    root, proc = host(tmp_path, container="another")
    assert not limit_check.read(7, "c1", 2, root, proc).readable
    assert not limit_check.read(8, "c1", 2, root, proc).readable


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", 3),
        ("low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n", 1),
        ("oom_kill_disable 0\nunder_oom 0\n", None),
        ("", None),
    ],
)
def test_kills_are_counted_on_both_hierarchies(text, count):
    assert kill_count(text) == count


def test_labels_without_a_limit_still_make_a_sentence():
    labels = SessionLabels("alice", "", "p", "hub", "s1", "i", limits="nonsense")
    assert SessionUse.from_labels(labels).memory is None
    assert "used all its memory." in notes.memory_kill("p", "", 2)

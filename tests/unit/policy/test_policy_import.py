"""A DS01 site's files become a policy with the same numbers, and every key is accounted for."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from ds01spawner.policy import Person, PolicyError, parse_policy, resolve
from ds01spawner.policy.importer import import_ds01

HERE = Path(__file__).parent / "ds01"
NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
LATER = datetime(2027, 1, 1, tzinfo=timezone.utc)
GIB, HOUR = 2**30, 3600


@pytest.fixture(scope="module")
def made():
    return import_ds01(HERE / "resource-limits.yaml")


@pytest.fixture(scope="module")
def policy(made):
    return parse_policy(made.text, Path("policy.yaml"))


# The numbers of the table: equivalents, devices, cpus, memory, shm, pids, sessions, lifetime, idle,
# then the ceilings: cpus, memory, memory_high, pids, equivalents; then the idle CPU threshold.
NUMBERS = {
    "student": (2.0, 2, 32, 32, 16, 4096, 3, 24, 0.5, 96, 96, 86, 12288, 2.0, 0.02),
    "researcher": (4.0, 3, 48, 64, 32, 4096, 5, 48, 1, 240, 320, 288, 327680, 4.0, 0.03),
    "faculty": (4.0, 4, 64, 128, 64, 4096, 5, 72, 2, 320, 640, 576, 327680, 4.0, 0.03),
    "admin": (None, None, 64, 128, 64, 4096, 10, 24, 1, None, None, None, None, None, 0.02),
}


@pytest.mark.parametrize("group", NUMBERS)
def test_each_group_has_its_numbers(policy, group):
    found = resolve(policy, Person("new", frozenset({group})), NOW)
    session, total = found.session, found.aggregate
    assert found.groups == (group,)
    assert (
        found.gpu.max_equivalents,
        found.gpu.max_devices_per_session,
        session.cpus,
        session.memory / GIB,
        session.shm / GIB,
        session.pids,
        session.max,
        session.lifetime / HOUR,
        found.idle.timeout / HOUR,
        total.cpus,
        total.memory and total.memory / GIB,
        total.memory_high and total.memory_high / GIB,
        total.pids,
        total.gpu_equivalents,
        found.idle.thresholds.cpu,
    ) == NUMBERS[group]
    assert (found.gpu.full_gpu, session.swap) == (True, 0)
    assert (found.idle.pressure.threshold, found.idle.pressure.factor) == (0.8, 0.5)
    assert (found.idle.start_grace, found.idle.keep_alive.per_session) == (1800, 24 * HOUR)


def test_people_without_a_group_are_students(policy):
    assert resolve(policy, Person("new"), NOW).groups == ("student",)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("alice", ("student",)),
        ("bob", ("researcher",)),  # moved by group-overrides.txt
        ("0123", ("student",)),
        ("frank", ("faculty",)),
        ("gone", ("student",)),  # archived: like anybody else
    ],
)
def test_members_files_and_moves(policy, name, groups):
    assert resolve(policy, Person(name), NOW).groups == groups


def test_overrides_and_exemptions_end_on_their_day(policy):
    carol, alice = Person("carol"), Person("alice")
    assert resolve(policy, carol, NOW).gpu.max_equivalents == 6.0
    assert resolve(policy, carol, NOW).session.lifetime == 96 * HOUR
    assert resolve(policy, carol, NOW).session.memory == 64 * GIB
    assert resolve(policy, carol, LATER).gpu.max_equivalents == 4.0
    assert (resolve(policy, alice, NOW).idle.timeout, resolve(policy, alice, NOW).session.lifetime) == (
        None,
        None,
    )
    assert resolve(policy, alice, datetime(2026, 12, 1, tzinfo=timezone.utc)).idle.timeout == 1800


def test_every_key_of_the_file_is_reported_once(made):
    reported = Counter(line.line for line in made.report if line.file == "resource-limits.yaml")
    text = (HERE / "resource-limits.yaml").read_text().splitlines()
    with_value = {
        number
        for number, line in enumerate(text, 1)
        if ": " in line and not line.lstrip().startswith("#") and not line.rstrip().endswith(":")
    }
    assert set(reported) == with_value
    assert {line.verdict for line in made.report} == {"taken", "translated", "no counterpart", "wrong"}


@pytest.mark.parametrize(
    ("key", "verdict", "part"),
    [
        ("defaults.max_gpu_equivalents", "taken", "gpu.max_equivalents: 1.0"),
        ("defaults.memory_swap", "translated", "session.swap: 0"),
        ("groups.faculty.aggregate.cpu_quota", "translated", "aggregate.cpus: 320.0"),
        ("groups.faculty.max_tasks", "no counterpart", "aggregate.tasks_max of the same layer"),
        ("defaults.gpu_hold_after_stop_h", "no counterpart", "nothing is held after a stop"),
        ("container_types.docker.max_runtime_h", "no counterpart", "every session here is of one kind"),
        ("policies.keepalive_max_duration_h", "translated", "the cap of one session"),
    ],
)
def test_what_the_report_says(made, key, verdict, part):
    line = next(line for line in made.report if line.key == key)
    assert line.verdict == verdict
    assert part in line.text


def test_what_is_wrong_is_told_with_its_line_and_left_out(made, tmp_path):
    assert not made.ok
    assert [(w.file, w.line) for w in made.report if w.verdict == "wrong"] == [("group-overrides.txt", 3)]
    file = tmp_path / "resource-limits.yaml"
    file.write_text(
        "defaults:\n  memory: 32\n  max_cpus: 4\n  max_runtime_h: -1\n  new_key: 1\nmystery: {a: 1}\n"
    )
    other = import_ds01(file)
    assert [(w.line, w.verdict) for w in other.report] == [
        (2, "wrong"), (3, "taken"), (4, "wrong"), (5, "no counterpart"), (6, "no counterpart"),
    ]  # fmt: skip
    assert yaml.safe_load(other.text) == {"version": 1, "defaults": {"session": {"cpus": 4}}}


def test_older_names_give_way_to_the_present_one(tmp_path):
    file = tmp_path / "resource-limits.yaml"
    file.write_text(
        "defaults: {max_mig_instances: 3, max_gpu_equivalents: 1}\ngroups: {a: {max_gpus_per_user: 2}}\n"
    )
    made = import_ds01(file)
    policy = parse_policy(made.text, Path("p.yaml"))
    assert resolve(policy, Person("x"), NOW).gpu.max_equivalents == 1
    assert resolve(policy, Person("x", frozenset({"a"})), NOW).gpu.max_equivalents == 2


def test_of_two_ends_the_earlier_counts(tmp_path):
    shutil.copytree(HERE, tmp_path, dirs_exist_ok=True)
    (tmp_path / "user-overrides.yaml").write_text("alice: {max_cpus: 64, expires_on: 2026-11-15}\n")
    policy = parse_policy(import_ds01(tmp_path / "resource-limits.yaml").text, Path("p.yaml"))
    assert policy.users["alice"].expires == datetime(2026, 11, 15, tzinfo=timezone.utc)


def test_a_file_that_is_not_ds01s_is_refused(tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("[]")
    with pytest.raises(PolicyError, match="expected DS01's keys"):
        import_ds01(file)
    with pytest.raises(PolicyError, match="cannot be read"):
        import_ds01(tmp_path / "missing.yaml")

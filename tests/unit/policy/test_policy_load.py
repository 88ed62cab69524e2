"""The policy file: what is read, what is refused with line and key, and how changes are taken up."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.policy import PolicyError, PolicyWatcher, builtin_policy, load_policy, parse_policy
from ds01spawner.policy.resolve import Person, resolve

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)

# Text of a file, and the fault it must be refused with: file, line, key, what was expected.
BROKEN = [
    ("", "policy.yaml:1: expected keys such as version, defaults, groups and users"),
    ("- a", "policy.yaml:1: expected keys such as version"),
    ("defaults: {}", "policy.yaml:1: version: missing"),
    ("version: 2", "policy.yaml:1: version: Input should be 1"),
    ("version: 1\ndefaults: [", "policy.yaml:2: not valid YAML"),
    ("version: 1\nversion: 1", "policy.yaml:2: version: written twice (first on line 1)"),
    (
        "version: 1\nsession:\n  max: 1",
        'policy.yaml:2: session: unknown key at the top; write it below "defaults", a group or a user',
    ),
    (
        "version: 1\ndefaults:\n  session:\n    memroy: 8g",
        'policy.yaml:4: defaults.session.memroy: unknown key; did you mean "memory"?',
    ),
    (
        "version: 1\ndefaults:\n  session:\n    memory: 8",
        'policy.yaml:4: defaults.session.memory: expected a size with its unit, such as "512m" or "32g", not',
    ),
    (
        "version: 1\ngroups:\n  s:\n    session: {lifetime: 48}",
        "policy.yaml:4: groups.s.session.lifetime: expected a duration with its unit",
    ),
    ("version: 1\ndefaults:\n  gpu: 3", "policy.yaml:3: defaults.gpu: expected further keys below it, not 3"),
    ("version: 1\ndefaults: {session: {max: '3'}}", "defaults.session.max: Input should be a valid integer"),
    (
        "version: 1\ndefaults: {session: {max: -1}}",
        "defaults.session.max: Input should be greater than or equal",
    ),
    ("version: 1\ndefaults: {session: {max: yes}}", "defaults.session.max: Input should be a valid integer"),
    ("version: 1\ndefaults: {session: {cpus: .inf}}", "defaults.session.cpus: expected a number of CPUs"),
    (
        "version: 1\ndefaults: {gpu: {max_equivalents: .nan}}",
        "defaults.gpu.max_equivalents: Input should be a finite",
    ),
    ("version: 1\ndefaults: {gpu: {full_gpu: 1}}", "defaults.gpu.full_gpu: Input should be a valid boolean"),
    ("version: 1\ndefaults: {gpu: {profiles: [full]}}", '"full_gpu" is for whole GPUs'),
    ("version: 1\ndefaults: {gpu: {profiles: [1g]}}", "policy.yaml:2: defaults.gpu.profiles.0: "),
    (
        "version: 1\ndefaults: {session: {ulimits: {files: 3}}}",
        "'files' is not a ulimit; known are core, cpu",
    ),
    ("version: 1\ndefaults: {idle: {pressure: {factor: 0}}}", "defaults.idle.pressure.factor: "),
    ("version: 1\ndefaults: {idle: {timeout: 0}}", "defaults.idle.timeout: Input should be greater"),
    ("version: 1\nusers: {a: {expires: 2026-12-01 10:00}}", "users.a.expires: expected a date (2026-12-31)"),
    ("version: 1\nusers: {a: {expires: tomorrow}}", "users.a.expires: expected a date (2026-12-31)"),
    ("version: 1\ndefault_group: x", "policy.yaml:2: default_group: there is no group 'x' in this file"),
    (
        "version: 1\ngroups: {s: {members: [12]}}",
        "groups.s.members.0: expected text, not 12; put it in quotes",
    ),
    ("version: 1\nbase: &b {}\ndefaults: {<<: *b}", "policy.yaml:3: defaults.<<: merge keys"),
    ("version: 1\n? [a]\n: 1", "policy.yaml:2: a key must be plain text"),
    ("version: 1\ndefaults: &a {session: *a}", "too large or too deeply nested"),
    (
        "version: 1\ndefaults: !!python/object:os.system {}",
        "policy.yaml:2: defaults: the tag 'tag:yaml.org,2002:python/",
    ),
    (
        "version: 1\ndefaults: !mine 3",
        "policy.yaml:2: defaults: cannot be read: could not determine a constructor",
    ),
]


@pytest.mark.parametrize(("text", "fault"), BROKEN)
def test_a_broken_file_is_refused_with_line_and_key(text, fault):
    with pytest.raises(PolicyError) as error:
        parse_policy(text, Path("policy.yaml"))
    assert fault in str(error.value)


def test_every_fault_of_a_file_is_told_at_once_in_order_of_lines():
    text = "version: 1\ndefaults:\n  session:\n    memory: 1\n    cpus: x\n  gpu: {a: 1}\n"
    with pytest.raises(PolicyError) as error:
        parse_policy(text, Path("policy.yaml"))
    assert [(p.line, p.key) for p in error.value.problems] == [
        (4, "defaults.session.memory"),
        (5, "defaults.session.cpus"),
        (6, "defaults.gpu.a"),
    ]


@given(st.text(max_size=200))
def test_no_text_makes_anything_but_a_policy_or_a_policy_error(text):
    with suppress(PolicyError):
        parse_policy("version: 1\n" + text, Path("policy.yaml"))


def test_a_missing_file_is_an_error_never_the_defaults(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_policy(tmp_path / "policy.yaml")


def test_a_file_that_is_not_text_is_refused(tmp_path):
    (tmp_path / "policy.yaml").write_bytes(b"version: 1 \xff\xfe")
    with pytest.raises(PolicyError, match="not UTF-8"):
        load_policy(tmp_path / "policy.yaml")


def test_sections_with_nothing_below_them_say_nothing():
    text = (
        "version: 1\ndefaults:\ngroups:\n  s:\n    gpu:\n    session:\n      ulimits:\n    members:\nusers:\n"
    )
    policy = parse_policy(text, Path("policy.yaml"))
    assert policy.groups[0].layer == {}
    assert resolve(policy, Person("a"), NOW).session == resolve(builtin_policy(), Person("a"), NOW).session


def test_names_are_text_however_they_look():
    policy = parse_policy("version: 1\ngroups: {no: {}, 007: {}}\nusers: {null: {}, 1e3: {}}", Path("p.yaml"))
    assert [g.name for g in policy.groups] == ["no", "007"]
    assert sorted(policy.users) == ["1e3", "null"]


def test_aliases_are_read():
    text = "version: 1\ndefaults: {session: &s {max: 1}}\ngroups: {a: {session: *s}}"
    assert parse_policy(text, Path("p.yaml")).groups[0].layer["session.max"].value == 1


def test_members_files_add_to_members(tmp_path):
    (tmp_path / "s.members").write_text("# staff\nalice\n  bob # leaves in May\n\n")
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\ngroups: {s: {members: [carol], members_file: s.members}}\n")
    assert load_policy(file).groups[0].members == {"alice", "bob", "carol"}


def test_a_missing_members_file_stops_the_start(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\ngroups:\n  s:\n    members_file: s.members\n")
    with pytest.raises(
        PolicyError, match=r"policy.yaml:4: groups.s.members_file: .*s.members: cannot be read"
    ):
        load_policy(file)


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("2026-12-01", datetime(2026, 12, 1, tzinfo=timezone.utc)),
        ("2026-12-01T18:00+01:00", datetime(2026, 12, 1, 17, tzinfo=timezone.utc)),
        ("2026-12-01 18:00:00Z", datetime(2026, 12, 1, 18, tzinfo=timezone.utc)),
    ],
)
def test_ends_of_exceptions(written, moment):
    policy = parse_policy(f"version: 1\nusers: {{a: {{expires: {written}}}}}", Path("p.yaml"))
    assert policy.users["a"].expires == moment


# --- reload ---------------------------------------------------------------------------------------


def _write(file: Path, text: str, tick: int) -> None:
    file.write_text(text)
    os.utime(file, ns=(tick * 10**9, tick * 10**9))


def _max(policy) -> int:
    return resolve(policy, Person("a"), NOW).session.max


def test_a_change_is_taken_up_and_a_broken_one_keeps_the_last_good_policy(tmp_path):
    file, heard = tmp_path / "policy.yaml", []
    _write(file, "version: 1\ndefaults: {session: {max: 1}}", 1)
    watcher = PolicyWatcher(file, on_problem=heard.append)
    assert (_max(watcher.current()), watcher.problem, watcher.generation) == (1, "", 1)

    _write(file, "version: 1\ndefaults: {session: {max: 2}}", 2)
    assert (_max(watcher.current()), watcher.generation) == (2, 2)

    _write(file, "version: 1\ndefaults: {session: {max: x}}", 3)
    assert _max(watcher.current()) == 2
    assert "policy.yaml:2: defaults.session.max" in watcher.problem
    watcher.current()
    assert len(heard) == 1

    file.unlink()
    assert _max(watcher.current()) == 2
    assert "cannot be read" in watcher.problem
    assert len(heard) == 2

    _write(file, "version: 1\ndefaults: {session: {max: 4}}", 4)
    assert (_max(watcher.current()), watcher.problem) == (4, "")


def test_a_change_of_a_members_file_is_taken_up(tmp_path):
    file, members = tmp_path / "policy.yaml", tmp_path / "s.members"
    _write(members, "alice\n", 1)
    _write(file, "version: 1\ngroups: {s: {members_file: s.members, session: {max: 9}}}", 1)
    watcher = PolicyWatcher(file)
    assert resolve(watcher.current(), Person("bob"), NOW).groups == ()
    _write(members, "alice\nbob\n", 2)
    assert resolve(watcher.current(), Person("bob"), NOW).groups == ("s",)


def test_a_broken_file_at_the_start_is_an_error(tmp_path):
    (tmp_path / "policy.yaml").write_text("version: one")
    with pytest.raises(PolicyError, match=r"policy\.yaml:1: version"):
        PolicyWatcher(tmp_path / "policy.yaml")


def test_an_unchanged_file_is_not_read_again(tmp_path):
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1")
    watcher = PolicyWatcher(file)
    assert watcher.current() is watcher.current()

"""What a person gets: which layer decides a value, and that nothing else ever does."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.policy import Override, Person, builtin_policy, parse_policy, resolve
from ds01spawner.policy.load import GroupLayer, Policy, Value
from ds01spawner.policy.model import Sections
from ds01spawner.policy.resolve import build_sections, merge, show, widens

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
END = datetime(2026, 12, 1, tzinfo=timezone.utc)
POLICY = parse_policy(
    """\
version: 1
default_group: guests
defaults:
  session: {max: 2, memory: 4g, ulimits: {nofile: 1024}}
groups:
  guests:
    session: {max: 1}
  students:
    members: [alice]
    gpu: {profiles: [1g.10gb, 2g.20gb]}
    session: {memory: 8g, ulimits: {memlock: unlimited}}
  nlp-course:
    gpu: {profiles: [3g.40gb]}
    session: {memory: 6g}
  admins:
    hub_admins: true
    session: {max: null}
users:
  alice:
    expires: 2026-12-01
    reason: thesis
    session: {memory: 32g}
""",
    Path("policy.yaml"),
)

# Who, and what they get: groups, sessions, memory in GiB, profiles, source of the memory.
PEOPLE = [
    (Person("zoe"), ("guests",), 1, 4, None, "defaults (policy.yaml:4)"),
    (Person("zoe", frozenset({"unknown"})), ("guests",), 1, 4, None, "defaults (policy.yaml:4)"),
    (Person("bob", frozenset({"students"})), ("students",), 2, 8, ("1g.10gb", "2g.20gb"),
     "group students (policy.yaml:11)"),
    (Person("bob", frozenset({"nlp-course", "students"})), ("students", "nlp-course"), 2, 6, ("3g.40gb",),
     "group nlp-course (policy.yaml:14)"),
    (Person("alice"), ("students",), 2, 32, ("1g.10gb", "2g.20gb"),
     "exception of alice until 2026-12-01 00:00 UTC (policy.yaml:22)"),
    (Person("root", admin=True), ("admins",), None, 4, None, "defaults (policy.yaml:4)"),
]  # fmt: skip


@pytest.mark.parametrize(("person", "groups", "most", "memory", "profiles", "source"), PEOPLE)
def test_what_people_get_and_from_where(person, groups, most, memory, profiles, source):
    found = resolve(POLICY, person, NOW)
    assert found.groups == groups
    assert (found.session.max, found.session.memory, found.gpu.profiles) == (most, memory * 2**30, profiles)
    assert found.source("session.memory") == source


def test_being_a_hub_admin_alone_changes_nothing_where_no_group_says_so():
    plain = parse_policy("version: 1\ngroups: {a: {session: {max: 9}}}", Path("p.yaml"))
    assert resolve(plain, Person("root", admin=True), NOW).session == resolve(plain, Person("x"), NOW).session


def test_single_ulimits_merge_and_lists_are_replaced_whole():
    found = resolve(POLICY, Person("bob", frozenset({"students", "nlp-course"})), NOW)
    assert found.session.ulimits == {"nofile": (1024, 1024), "memlock": (-1, -1)}
    assert found.gpu.profiles == ("3g.40gb",)


def test_an_exception_ends_with_the_second():
    def memory(at):
        return resolve(POLICY, Person("alice"), at).session.memory

    assert memory(END - timedelta(microseconds=1)) == 32 * 2**30
    assert memory(END) == 8 * 2**30
    assert resolve(POLICY, Person("alice"), END - timedelta(seconds=1)).until == END
    assert resolve(POLICY, Person("alice"), END).until is None


def test_an_approved_request_counts_after_the_files_own_exception_and_only_for_its_person():
    extra = Override("alice", {"session.memory": Value(64 * 2**30, "request 7")}, END, "paper")
    other = Override("bob", {"session.memory": Value(1, "request 8")}, END)
    assert resolve(POLICY, Person("alice"), NOW, (extra, other)).session.memory == 64 * 2**30
    assert resolve(POLICY, Person("alice"), NOW, (extra,)).source("session.memory") == "request 7"
    assert resolve(POLICY, Person("alice"), END, (extra,)).session.memory == 8 * 2**30


def test_the_explanation_says_what_is_replaced_and_whether_it_widens():
    rows = {row["key"]: row for row in resolve(POLICY, Person("alice"), NOW).explain()}
    memory = rows["session.memory"]
    assert (memory["value"], memory["text"], memory["widens"]) == (32 * 2**30, "32g", True)
    assert [r["text"] for r in memory["replaces"]] == ["8g", "4g", "8g"]
    assert [r["source"] for r in memory["replaces"]] == [
        v.source for v in resolve(POLICY, Person("alice"), NOW).trail["session.memory"][:-1]
    ]
    assert memory["source"] == resolve(POLICY, Person("alice"), NOW).source("session.memory")
    assert rows["gpu.profiles"]["widens"] is False
    assert isinstance(rows["gpu.profiles"]["value"], list)
    unlimited = Override("alice", {"session.memory": Value(None, "request 9")}, END, "paper")
    wide = {r["key"]: r for r in resolve(POLICY, Person("alice"), NOW, (unlimited,)).explain()}
    assert (wide["session.memory"]["widens"], wide["session.memory"]["text"]) == (True, "unlimited")
    tight = Override("alice", {"session.memory": Value(2**20, "request 9")}, END, "paper")
    small = {r["key"]: r for r in resolve(POLICY, Person("alice"), NOW, (tight,)).explain()}
    assert small["session.memory"]["widens"] is False
    assert json.loads(json.dumps(list(rows.values())))


def test_without_a_file_everything_is_limited_but_what_needs_a_sites_numbers():
    found = resolve(builtin_policy(), Person("x"), NOW)
    assert found.gpu.max_equivalents == 1.0
    assert found.session.max == 3
    assert None not in (found.session.memory, found.session.cpus, found.session.pids, found.session.lifetime)
    assert found.session.swap == 0
    assert found.source("session.pids") == "built-in default"


@pytest.mark.parametrize(
    ("key", "before", "after", "wider"),
    [
        ("session.max", 1, 2, True),
        ("session.max", 2, 1, False),
        ("session.max", 2, None, True),
        ("session.max", None, 2, False),
        ("gpu.full_gpu", False, True, True),
        ("gpu.profiles", ("a",), ("a", "b"), True),
        ("gpu.profiles", ("a", "b"), ("a",), False),
        ("gpu.profiles", ("a",), ("b",), True),
        ("storage.minimum_free.host", 2, 1, True),
        ("session.ulimits.nofile", (1, 2), (1, -1), True),
        ("gpu.when_store_down", "open", "closed", None),
        ("session.max", 2, 2, False),
        ("session.ulimits.nofile", (1, 2), (1, 3), True),
        ("session.ulimits.nofile", (1, 2), (2, 2), True),
        ("session.ulimits.nofile", (1, 4), (1, 3), False),
        ("session.ulimits.nofile", (2, 4), (1, 4), False),
        ("session.ulimits.nofile", (-1, -1), (5, 5), False),
        ("session.ulimits.nofile", (-2, 4), (-2, 3), False),
        ("session.ulimits.nofile", (0, 0), (1, 1), True),
        ("images.use", ("a", "b"), ("b", "a"), False),
        ("gpu.profiles", ("a",), 3, None),
        ("gpu.profiles", 3, ("a",), None),
        ("gpu.max_equivalents", 1, "many", None),
        ("gpu.max_equivalents", "many", 1, None),
        ("storage.minimum_free.host", 1, 2, False),
        ("storage.minimum_free.host", 2, 2.0, False),
        ("gpu.hours.window", 100, 50, True),
        ("idle.thresholds.cpu", 0.05, 0.5, False),
    ],
)
def test_what_widens(key, before, after, wider):
    assert widens(key, before, after) is wider


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("session.memory", 2**33, "8g"),
        ("session.lifetime", None, "unlimited"),
        ("idle.timeout", None, "never"),
        ("gpu.profiles", None, "all"),
        ("gpu.profiles", (), "none"),
        ("gpu.full_gpu", False, "no"),
        ("idle.thresholds.cpu", 0.05, "5%"),
        ("session.ulimits.nofile", (1024, -1), "1024:unlimited"),
        ("storage.quota_command", None, "none"),
        ("queue.claim_window", 300, "5m"),
        ("gpu.full_gpu", True, "yes"),
        ("gpu.profiles", ("1g.10gb", "2g.20gb"), "1g.10gb, 2g.20gb"),
        ("images.use", None, "all"),
        ("session.max", None, "unlimited"),
        ("gpu.when_store_down", "open", "open"),
        ("storage.quota_command", ("setquota", "{uid}"), "setquota {uid}"),
        ("storage.minimum_free.workspace", 2**30, "1g"),
        ("images.builds.size", 2**30, "1g"),
        ("storage.rescue.memory", 2**29, "512m"),
        ("gpu.hours.window", 7 * 86400, "7d"),
    ],
)
def test_values_for_people(key, value, text):
    assert show(key, value) == text


# --- properties -------------------------------------------------------------------------------------

KEYS = {
    "session.max": st.none() | st.integers(0, 20),
    "session.memory": st.none() | st.integers(6 * 2**20, 2**40),
    "session.lifetime": st.none() | st.integers(60, 10**7),
    "gpu.max_equivalents": st.none() | st.floats(0, 16),
    "gpu.full_gpu": st.booleans(),
    "gpu.profiles": st.none() | st.lists(st.sampled_from(["1g.10gb", "2g.20gb"]), unique=True).map(tuple),
}


@st.composite
def layers(draw, name="layer"):
    keys = draw(st.sets(st.sampled_from(sorted(KEYS))))
    return {key: Value(draw(KEYS[key]), name) for key in sorted(keys)}


@given(layers("a"), layers("b"), layers("c"))
def test_merging_is_associative(a, b, c):
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(a, b, c)


@given(layers())
def test_an_empty_layer_changes_nothing(a):
    assert merge(a, {}) == merge({}, a) == a


@st.composite
def policies(draw):
    groups = tuple(GroupLayer(f"g{i}", draw(layers(f"group g{i}"))) for i in range(draw(st.integers(0, 4))))
    own = Override("alice", draw(layers("own")), END)
    return Policy(None, builtin_policy().builtin, draw(layers("defaults")), groups, {"alice": own})


MEMBERSHIPS = st.frozensets(st.sampled_from(["g0", "g1", "g2", "g3", "elsewhere", "g0 ", "G0", ""]))


@given(policies(), MEMBERSHIPS, st.sampled_from([NOW, END]))
def test_every_value_is_what_the_last_applying_layer_says(policy, groups, now):
    found = resolve(policy, Person("alice", groups), now)
    applying = [policy.builtin, policy.defaults, *(g.layer for g in policy.groups if g.name in groups)]
    applying += [policy.users["alice"].layer] if now < END else []
    for key in policy.builtin:
        last = [layer[key] for layer in applying if key in layer][-1]
        section, name = key.split(".", 1)
        value = getattr(found, section)
        for part in name.split("."):
            value = getattr(value, part)
        assert value == last.value
        assert found.source(key) == last.source


@given(policies(), MEMBERSHIPS)
def test_an_ended_exception_is_as_good_as_none(policy, groups):
    without = Policy(None, policy.builtin, policy.defaults, policy.groups, {})
    with_ended = resolve(policy, Person("alice", groups), END)
    plain = resolve(without, Person("alice", groups), END)
    assert with_ended == plain


@given(policies(), MEMBERSHIPS, st.integers(0, 4))
def test_a_group_changes_only_the_keys_it_names(policy, groups, number):
    """Joining a group never widens a value that the group does not name itself."""
    name = f"g{number}"
    before = resolve(policy, Person("alice", groups - {name}), NOW)
    after = resolve(policy, Person("alice", groups | {name}), NOW)
    named = {key for g in policy.groups if g.name == name for key in g.layer}
    changed = {key for key in policy.builtin if before.value(key) != after.value(key)}
    assert changed <= named


@given(policies(), MEMBERSHIPS)
def test_the_order_of_a_persons_groups_does_not_matter(policy, groups):
    one = Person("alice", frozenset(sorted(groups)))
    other = Person("alice", frozenset(sorted(groups, reverse=True)))
    assert resolve(policy, one, NOW) == resolve(policy, other, NOW)


def test_the_sections_of_merged_values_are_the_models_own():
    assert build_sections({k: v.value for k, v in builtin_policy().builtin.items()}) == Sections()

"""Launch plans and refusals: each rule with its literal sentence, and that no option passes a limit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.errors import Refusal, Refused
from ds01spawner.core.labels import SessionLabels
from ds01spawner.policy import Person, builtin_policy, parse_policy, resolve
from ds01spawner.policy.options import LaunchOptions, parse_options
from ds01spawner.policy.plan import LaunchPlan, SessionUse, Usage, equivalents_of, may_use, plan, quota_left
from ds01spawner.policy.storage import quota_command

NOW = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)
ALICE = Person("alice")
GIB = 2**30
POLICY = """\
version: 1
defaults:
  gpu:
    {max_equivalents: 0.43, max_devices_per_session: 2, profiles: [1g.10gb, 2g.20gb, 3g.40gb],
     full_gpu: false}
  session: {max: 3, cpus: 4, memory: 8g, shm: 16g, pids: 512, lifetime: 24h, ulimits: {nofile: 4096}}
  aggregate: {cpus: 6, memory: 20g, pids: 1000, gpu_equivalents: 1}
  idle: {timeout: 45m}
  queue: {priority: 7, preemptible: true}
  images: {use: ["py*", torch]}
  storage:
    quota: 50g
    minimum_free: {workspace: 1g, host: 2g, engine: 2g}
    rescue: {cpus: 0.5, memory: 512m}
"""


def limits(gpu: str = ""):
    text = POLICY.replace("full_gpu: false", "full_gpu: false" + gpu)
    return resolve(parse_policy(text, Path("p.yaml")), ALICE, NOW)


def decide(options=None, usage=None, found=None, **kwargs):
    options = LaunchOptions(**(options or {}))
    return plan(ALICE, found or limits(), options, usage or Usage(), NOW, **kwargs)


def used(*sessions):
    return Usage(sessions=tuple(SessionUse("alice", **s) for s in sessions))


def test_a_plan_has_every_number_of_the_policy():
    made = decide({"project": "thesis", "environment": "torch", "gpu": "2g.20gb"}, server="second")
    assert isinstance(made, LaunchPlan)
    assert (made.user, made.server, made.project, made.environment) == (
        "alice",
        "second",
        "thesis",
        "torch",
    )
    assert (made.cpus, made.memory, made.swap, made.shm, made.pids) == (4.0, 8 * GIB, 0, 8 * GIB, 512)
    assert made.ulimits == {"nofile": (4096, 4096)}
    assert (made.lifetime_s, made.expires_at) == (86400, NOW + timedelta(hours=24))
    assert (made.idle.timeout, made.priority, made.preemptible, made.rescue) == (2700, 7, False, False)
    assert (made.aggregate.cpus, made.aggregate.memory, made.aggregate.pids) == (6.0, 20 * GIB, 1000)
    assert (made.gpu.profile, made.gpu.count, made.gpu.full_gpu) == ("2g.20gb", 1, False)
    assert made.gpu.allowed == {"1g.10gb", "2g.20gb", "3g.40gb"}
    assert made.gpu.max_equivalents == pytest.approx(3 / 7)
    assert json.loads(made.limits_json()) == {
        "cpus": 4.0, "memory": 8 * GIB, "pids": 512, "idle": 2700, "lifetime": 86400,
        "layer": 20 * GIB,
    }  # fmt: skip


def test_without_a_ceiling_there_is_no_aggregate():
    assert decide(found=resolve(builtin_policy(), ALICE, NOW)).aggregate is None


@pytest.mark.parametrize(
    ("asked", "given"), [(None, 86400), (3600, 3600), (86400, 86400), (30 * 86400, 86400)]
)
def test_a_lifetime_is_what_was_asked_for_up_to_the_maximum(asked, given):
    assert decide({"lifetime": asked}).lifetime_s == given


def test_full_and_auto_with_and_without_whole_gpus():
    assert decide({"gpu": "full"}).code == "full-gpu"
    assert decide({"gpu": "auto"}).gpu.full_gpu is False
    wide = resolve(builtin_policy(), ALICE, NOW)
    assert decide({"gpu": "full"}, found=wide).gpu.allowed is None


# What was asked, what is used, and the refusal: code, status, and a part of the sentence.
REFUSALS = [
    ({}, used({"project": "a"}, {"project": "b", "server": "x"}, {"server": "y"}), "sessions-max", 409,
     "You run 3 sessions: a, b (x) and y. You may run 3 sessions at a time (set by defaults (p.yaml:6))."),
    ({"gpu": "4g.40gb"}, Usage(), "gpu-profile", 403,
     "You may use 1g.10gb, 2g.20gb and 3g.40gb (set by defaults (p.yaml:4))."),
    ({"gpu": "1g.10gb", "gpu_count": 3}, Usage(), "gpu-devices", 403,
     "One session may have at most 2 (set by defaults (p.yaml:4))."),
    ({"gpu": "2g.20gb", "gpu_count": 2}, Usage(), "gpu-quota", 403,
     "2 × 2g.20gb was asked for, which counts as 0.57 GPU. Your sessions use none."),
    ({"gpu": "1g.10gb"}, used({"project": "t", "gpu_equivalents": 3 / 7}), "gpu-quota", 403,
     "Your sessions use 0.43 (t 0.43). All your sessions together may use 0.43 GPU (set by defaults"),
    ({"gpu": "auto"}, used({"project": "t", "gpu_equivalents": 0.4286}), "gpu-quota", 403,
     "1 × GPU of any kind was asked for"),
    ({"gpu": "3g.40gb", "preemptible": True},
     used({"project": "t", "gpu_equivalents": 5 / 7, "preemptible": True}), "gpu-quota", 403,
     "All your sessions together may use 1.00 GPU (set by defaults (p.yaml:7))."),
    ({"environment": "jax"}, Usage(), "environment-not-allowed", 403,
     "Your policy does not let you start it (set by defaults (p.yaml:10))."),
    ({}, used({"project": "big", "memory": 13 * GIB}), "aggregate-memory", 403,
     "Your sessions have 13 GiB (big 13 GiB). All your sessions together may have 20 GiB (set by defau"),
    ({}, used({"project": "odd"}, {"project": "odder"}), "aggregate-memory", 403,
     "odd 8 GiB and odder 8 GiB"),
    ({}, Usage(host_free=GIB), "disk-full", 507, "The machine's disk has 1 GiB free. 2 GiB must be free"),
    ({}, Usage(engine_free=0), "disk-full", 507, "The container engine's disk has 0 bytes free."),
    ({"gpu": "1g.10gb"}, Usage(workspace_free=GIB - 1), "workspace-full", 507,
     "Start without a GPU: you get a small rescue session to delete files in."),
    ({"gpu": "1g.10gb"}, Usage(workspace_free=99 * GIB, workspace_used=50 * GIB), "workspace-full", 507,
     "Your workspace holds 50 GiB of 50 GiB, and 0 bytes are free."),
]  # fmt: skip


@pytest.mark.parametrize(("options", "usage", "code", "status", "part"), REFUSALS)
def test_refusals(options, usage, code, status, part):
    answer = decide(options, usage)
    assert isinstance(answer, Refusal)
    assert (answer.code, answer.status) == (code, status)
    assert part in answer.sentence


def test_preemptible_sessions_are_outside_the_quota_and_only_for_those_who_may():
    held = used(
        {"gpu_equivalents": 3 / 7, "memory": GIB},
        {"gpu_equivalents": 1 / 7, "memory": GIB, "preemptible": True},
    )
    assert decide({"gpu": "1g.10gb"}, held).code == "gpu-quota"
    made = decide({"gpu": "3g.40gb", "preemptible": True}, held)
    assert (made.preemptible, made.gpu.preemptible) == (True, True)
    assert made.gpu.max_equivalents == pytest.approx(3 / 7)
    beside = used({"gpu_equivalents": 2 / 7, "memory": GIB, "preemptible": True})
    assert decide({"gpu": "3g.40gb"}, beside).gpu.max_equivalents == pytest.approx(3 / 7)
    refused = decide({"preemptible": True}, found=resolve(builtin_policy(), ALICE, NOW))
    assert refused.code == "preemptible"


def test_somebody_elses_sessions_do_not_count():
    theirs = Usage(sessions=tuple(SessionUse("bob", gpu_equivalents=1.0, memory=64 * GIB) for _ in range(9)))
    assert isinstance(decide({"gpu": "3g.40gb"}, theirs), LaunchPlan)


# --- gpu hours ------------------------------------------------------------------------------------

HOURS = ", hours: {budget: 40, window: 7d}"


@pytest.mark.parametrize(
    ("hours", "knob", "code"),
    [
        (39.9, "open", None),
        (40.0, "open", "gpu-hours"),
        (None, "open", None),
        (None, "closed", "gpu-hours-unknown"),
    ],
)
def test_the_budget_of_gpu_hours(hours, knob, code):
    found = limits(gpu=f"{HOURS}, when_store_down: {knob}")
    answer = decide({"gpu": "1g.10gb"}, Usage(gpu_hours=hours), found)
    assert getattr(answer, "code", None) == code
    assert isinstance(decide({}, Usage(gpu_hours=hours), found), LaunchPlan)
    if hours is None and code is None:
        assert "cannot be read at the moment" in answer.notes[0]


def test_a_used_up_budget_says_when_it_ends():
    when = datetime(2026, 11, 3, 9, tzinfo=timezone.utc)
    answer = decide({"gpu": "1g.10gb"}, Usage(gpu_hours=41.5, gpu_hours_when=when), limits(gpu=HOURS))
    assert answer.sentence == (
        "A GPU was asked for. You used 41.5 GPU-hours in the last 7d. 40 GPU-hours may be used in 7d "
        "(set by defaults (p.yaml:5)). You fall below it again on 2026-11-03 09:00 UTC. "
        "Start without a GPU until then, or ask for an exception."
    )


# --- rescue ---------------------------------------------------------------------------------------


def test_a_full_workspace_gives_a_small_session_without_gpu():
    made = decide({"lifetime": 7200}, Usage(workspace_free=0))
    assert made.rescue
    assert (made.cpus, made.memory, made.shm, made.lifetime_s) == (0.5, 512 * 2**20, 512 * 2**20, 3600)
    assert made.notes == ("your workspace is full: this is a small session for deleting files",)


def test_a_rescue_session_never_has_more_than_a_normal_one():
    tight = limits().session.model_copy(update={"memory": 64 * 2**20, "cpus": 0.1, "lifetime": 120})
    made = decide({}, Usage(workspace_free=0), replace(limits(), session=tight))
    assert (made.cpus, made.memory, made.lifetime_s) == (0.1, 64 * 2**20, 120)


def test_a_full_workspace_where_rescue_is_off():
    text = "version: 1\ndefaults: {storage: {rescue: {enabled: false}}}"
    found = resolve(parse_policy(text, Path("p.yaml")), ALICE, NOW)
    answer = decide({}, Usage(workspace_free=0), found)
    assert answer.code == "workspace-full"
    assert "ask an admin to delete files" in answer.do


def test_unknown_space_is_not_full():
    assert isinstance(decide({}, Usage(workspace_free=None, host_free=None, engine_free=None)), LaunchPlan)


def test_the_quota_command_is_filled_in_argument_by_argument():
    text = """version: 1
defaults:
  storage: {quota: 1g, quota_command: [setquota, "{uid}", "{quota_kib}", "{path}:{user}", "{else}"]}"""
    found = resolve(parse_policy(text, Path("p.yaml")), ALICE, NOW)
    assert quota_command(found, "a {uid}; rm", 1001, "/srv/{quota}") == [
        "setquota", "1001", "1048576", "/srv/{quota}:a {uid}; rm", "{else}",
    ]  # fmt: skip
    assert quota_command(resolve(builtin_policy(), ALICE, NOW), "alice", 1, "/srv") is None


# --- quota arithmetic -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "weight"),
    [("none", 0), ("full", 1), ("auto", 1 / 7), ("1g.10gb", 1 / 7), ("7g.80gb", 1), ("1c.3g.40gb", 1 / 7)],
)
def test_weights(profile, weight):
    assert equivalents_of(profile) == pytest.approx(weight)


@pytest.mark.parametrize(
    ("held", "left"),
    [
        ((), 3),
        ((1 / 7,), 2),
        ((0.1429, 0.1429), 1),
        ((3 / 7,), 0),
        ((0.1428,) * 3, 0),
        ((5.0,), 0),
        ((0.2,), 1),
    ],
)
def test_a_quota_of_two_digits_means_whole_sevenths(held, left):
    mine = tuple(SessionUse("alice", gpu_equivalents=h) for h in held)
    assert quota_left(limits(), mine) == pytest.approx(left / 7)


def test_environments_by_id_kind_and_pattern():
    assert may_use(limits(), "torch") is None
    assert may_use(limits(), "pytorch") is None
    assert may_use(limits(), "jax").code == "environment-not-allowed"
    assert may_use(limits(), "ds01-alice/thesis:latest").code == "environment-not-allowed"
    assert may_use(limits(), "course/any") is None  # its roster and staff say who
    text = "version: 1\ndefaults: {images: {use: [mine]}}\n"
    own_only = resolve(parse_policy(text, Path("p.yaml")), ALICE, NOW)
    assert may_use(own_only, "ds01-alice/thesis:latest") is None
    assert may_use(own_only, "torch").code == "environment-not-allowed"
    assert may_use(resolve(builtin_policy(), ALICE, NOW), "anything") is None


@pytest.mark.parametrize("text", ["{}", "[]", "nonsense", '{"memory": "x", "cpus": true, "pids": -1}'])
def test_labels_nobody_can_read_count_as_unknown(text):
    use = SessionUse.from_labels(SessionLabels("alice", "", "t", "hub", "s1", limits=text))
    assert (use.memory, use.cpus, use.pids) == (None, None, None)


def test_a_plans_label_reads_back():
    label = SessionLabels(
        "alice", "", "t", "hub", "s1", gpu_uuids=("u",), gpu_equivalents=0.5, limits=decide().limits_json()
    )
    assert SessionUse.from_labels(label) == SessionUse(
        "alice", "", "t", 0.5, 1, 4.0, 8 * GIB, 512, layer=20 * GIB
    )


# --- the edges of each rule -----------------------------------------------------------------------

QUOTA_ALONE = "version: 1\ndefaults: {gpu: {max_equivalents: 1}}"
CEILING_ALONE = "version: 1\ndefaults:\n  gpu: {max_equivalents: null}\n  aggregate: {gpu_equivalents: 1}"
BOTH_EQUAL = "version: 1\ndefaults:\n  gpu: {max_equivalents: 1}\n  aggregate: {gpu_equivalents: 1}"
NONE_LEFT = "version: 1\ndefaults:\n  gpu: {max_equivalents: 0}\n  aggregate: {gpu_equivalents: 0}"
NORMAL = {"project": "a", "gpu_equivalents": 5 / 7}
IDLE = {"project": "cpu"}
SPARE = {"project": "b", "gpu_equivalents": 1 / 7, "preemptible": True}


def site(text: str):
    return resolve(parse_policy(text, Path("p.yaml")), ALICE, NOW)


@pytest.mark.parametrize(
    ("text", "sessions", "gpu", "holders", "rule", "most"),
    [
        # The quota is told where it is the smaller one or both are equal: preemptible sessions are not in it.
        (QUOTA_ALONE, (NORMAL, SPARE, IDLE), "3g.40gb", "Your sessions use 0.71 (a 0.71).", 2, "1.00"),
        (BOTH_EQUAL, (NORMAL, IDLE), "3g.40gb", "Your sessions use 0.71 (a 0.71).", 3, "1.00"),
        (CEILING_ALONE, (NORMAL, SPARE, IDLE), "3g.40gb", "(a 0.71 and b 0.14)", 4, "1.00"),
        (NONE_LEFT, (), "3g.40gb", "Your sessions use none.", 3, "0.00"),
    ],
)
def test_a_quota_is_told_with_who_counts_in_it_and_whose_rule_it_is(text, sessions, gpu, holders, rule, most):
    answer = decide({"gpu": gpu}, used(*sessions), site(text))
    assert answer.code == "gpu-quota"
    assert holders in answer.sentence
    assert f"may use {most} GPU" in answer.sentence
    assert answer.rule == f"set by defaults (p.yaml:{rule})"


def test_a_policy_without_a_gpu_quota_leaves_no_limit():
    assert quota_left(site("version: 1\ndefaults: {gpu: {max_equivalents: null}}"), ()) is None


def test_whole_gpus_are_among_the_allowed_profiles_where_the_policy_lets_them():
    both = site("version: 1\ndefaults: {gpu: {profiles: [1g.10gb], full_gpu: true}}")
    assert decide({"gpu": "auto"}, found=both).gpu.allowed == {"1g.10gb", "full"}


def test_memory_may_reach_the_ceiling_but_not_pass_it():
    """Two sessions of 6 and 8 GiB beside a third of 8 under 22; one byte more is too much."""
    text = "version: 1\ndefaults:\n  session: {memory: 8g}\n  aggregate: {memory: 22g}"
    fits = used({"project": "a", "memory": 6 * GIB}, {"project": "b", "memory": 8 * GIB})
    assert isinstance(decide({}, fits, site(text)), LaunchPlan)
    over = used({"project": "a", "memory": 6 * GIB + 1}, {"project": "b", "memory": 8 * GIB})
    answer = decide({}, over, site(text))
    assert answer.code == "aggregate-memory"
    assert answer.asked == "a session with 8 GiB of memory was asked for"


def test_memory_counts_only_beside_other_sessions_and_where_it_is_bounded():
    text = "version: 1\ndefaults:\n  session: {memory: 8g}\n  aggregate: {memory: 4g}"
    assert decide({}, None, site(text)).memory == 4 * GIB
    free = "version: 1\ndefaults:\n  session: {memory: null, cpus: null, pids: null}\n  aggregate: {}"
    assert isinstance(decide({}, used({"memory": 99 * GIB}), site(free)), LaunchPlan)


def test_a_session_whose_memory_is_unknown_counts_as_the_largest_there_may_be():
    """Where sessions have a limit, that; where only the ceiling bounds them, what is asked for now."""
    limited = "version: 1\ndefaults:\n  session: {memory: 2g}\n  aggregate: {memory: 3g}"
    assert "x 2 GiB" in decide({}, used({"project": "x"}), site(limited)).sentence
    bounded = "version: 1\ndefaults:\n  session: {memory: null}\n  aggregate: {memory: 3g}"
    assert "x 3 GiB" in decide({}, used({"project": "x"}), site(bounded)).sentence


def test_each_number_is_the_smaller_of_session_and_ceiling():
    text = "version: 1\ndefaults:\n  session: {memory: 8g, cpus: 4, pids: 500, swap: 1g, shm: 16g,"
    text += " io_weight: 300}\n  aggregate: {memory: 4g, cpus: 2, pids: 100}"
    made = decide({"wait": True}, None, site(text))
    assert (made.memory, made.cpus, made.pids, made.swap, made.shm) == (4 * GIB, 2.0, 100, GIB, 4 * GIB)
    assert (made.io_weight, made.wait) == (300, True)


def test_without_a_memory_limit_there_is_no_swap_limit_and_shm_stays():
    text = "version: 1\ndefaults:\n  session: {memory: null, swap: 1g, shm: 16g, lifetime: null}"
    made = decide({}, None, site(text))
    assert (made.memory, made.swap, made.shm) == (None, None, 16 * GIB)
    assert (made.lifetime_s, made.expires_at) == (None, None)


def test_a_workspace_with_exactly_enough_room_is_not_full():
    assert decide({}, Usage(workspace_free=GIB)).rescue is False
    answer = decide({"gpu": "1g.10gb"}, Usage(workspace_free=GIB - 1))
    assert "1 GiB must" in answer.sentence


def test_only_what_could_not_be_checked_is_noted():
    """Neither a session without a GPU nor a site without a budget needs the store's answer."""
    assert decide({"gpu": "1g.10gb"}, Usage(gpu_hours=None)).notes == ()
    budget = limits(gpu=", hours: {budget: 40, window: 7d}, when_store_down: open")
    assert decide({}, Usage(gpu_hours=None), budget).notes == ()
    assert decide({"gpu": "1g.10gb"}, Usage(gpu_hours=1.0), budget).notes == ()
    assert decide({"gpu": "1g.10gb"}, Usage(gpu_hours=None), budget).notes == (
        "your used GPU-hours cannot be read at the moment; this session starts without that check",
    )


def test_a_used_up_budget_without_a_known_end_promises_none():
    answer = decide({"gpu": "1g.10gb"}, Usage(gpu_hours=41.5), limits(gpu=HOURS))
    assert answer.when == "it changes as your older sessions leave that window"


def test_what_a_label_says_is_read_whole():
    label = SessionLabels("alice", "two", "t", "hub", "s1", preemptible=True, limits='{"cpus":0,"pids":0.5}')
    use = SessionUse.from_labels(label)
    assert (use.server, use.preemptible, use.cpus, use.pids) == ("two", True, 0.0, 0)
    assert decide().limits_json() == (
        '{"cpus":4.0,"memory":8589934592,"pids":512,"idle":2700,"lifetime":86400,"layer":21474836480}'
    )


# --- nothing a person sends passes a limit ----------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "gpu": st.sampled_from(["none", "auto", "full", "1g.10gb", "3g.40gb", "7g.80gb", "1c.7g.80gb"])
        | ANYTHING,
        "gpu_count": st.integers(-2, 20) | ANYTHING,
        "lifetime": st.integers(0, 10**8) | ANYTHING,
        "preemptible": st.booleans() | ANYTHING,
        "wait": st.booleans() | ANYTHING,
        "environment": st.sampled_from(["torch", "jax"]) | ANYTHING,
        "project": st.sampled_from(["a", "b"]) | ANYTHING,
        "memory": ANYTHING,
        "cpus": ANYTHING,
        "profile": ANYTHING,
        "priority": ANYTHING,
    },
)
USES = st.builds(
    SessionUse,
    user=st.sampled_from(["alice", "bob"]),
    gpu_equivalents=st.sampled_from([0.0, 1 / 7, 0.1429, 2 / 7, 3 / 7, 1.0]),
    memory=st.none() | st.integers(0, 32 * GIB),
    preemptible=st.booleans(),
)


@given(OPTIONS, st.lists(USES, max_size=5), st.frozensets(st.text(max_size=10), max_size=3), st.booleans())
def test_no_options_exceed_a_limit(raw, sessions, groups, full):
    found = limits()
    try:
        options = parse_options(raw)
    except Refused:
        return
    usage = Usage(tuple(sessions), workspace_free=0 if full else None)
    made = plan(Person("alice", groups), found, options, usage, NOW)
    if isinstance(made, Refusal):
        assert made.sentence
        return
    mine = [s for s in sessions if s.user == "alice"]
    assert len(mine) < 3
    assert made.cpus <= 4
    assert made.memory <= 8 * GIB
    assert made.shm <= made.memory
    assert made.pids <= 512
    assert (made.swap, made.priority, made.ulimits) == (0, 7, {"nofile": (4096, 4096)})
    assert made.lifetime_s <= 86400
    assert made.expires_at <= NOW + timedelta(hours=24)
    assert sum(8 * GIB if s.memory is None else s.memory for s in mine) + made.memory <= 20 * GIB or not mine
    assert not (made.rescue and made.gpu.wants_gpu)
    assert options.environment in ("", "torch") or options.environment.startswith(("py", "course/"))
    if made.gpu.wants_gpu:
        weight = equivalents_of(made.gpu.profile) * made.gpu.count
        held = sum(s.gpu_equivalents for s in mine)
        quota = sum(s.gpu_equivalents for s in mine if not s.preemptible)
        assert made.gpu.count <= 2
        assert made.gpu.profile in ("auto", "1g.10gb", "2g.20gb", "3g.40gb")
        assert made.gpu.full_gpu is False
        assert held + weight <= 1 + 0.01
        assert made.preemptible or quota + weight <= 3 / 7 + 0.01
        assert held + made.gpu.max_equivalents <= 1 + 0.01

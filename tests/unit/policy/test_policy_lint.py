"""What a policy file may say and still looks like a mistake."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from ds01spawner.policy import builtin_policy, load_policy, parse_policy
from ds01spawner.policy.lint import lint

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
DEMO = Path(__file__).parents[3] / "hub_config" / "policy.yaml"

ODD = [
    ("groups: {a: {members: [x]}, b: {members: [x]}}", "x is a member of group a and of group b: where both"),
    ("users: {x: {expires: 2026-10-01, session: {max: 9}}}", "the exception of x ended 2026-10-01 00:00 UTC"),
    ("users: {x: {session: {max: 9}}}", "the exception of x has no end"),
    ("defaults: {idle: {timeout: 5m}}", "defaults: idle.warn_lead is not shorter than idle.timeout"),
    ("groups: {a: {session: {shm: 9g}}}", "group a: session.shm is larger than session.memory"),
    ("defaults: {session: {memory: null}}", "defaults: session.memory is unlimited"),
    ("defaults: {session: {pids: null}}", "defaults: session.pids is unlimited"),
    ("defaults: {aggregate: {memory: 4g}}", "defaults: session.memory is above aggregate.memory"),
    ("defaults: {aggregate: {memory: 9g, memory_high: 9g}}", "defaults: aggregate.memory_high is not below"),
    ("defaults: {aggregate: {gpu_equivalents: 0.5}}", "defaults: gpu.max_equivalents is above aggregate."),
    ("defaults: {gpu: {profiles: [], full_gpu: false}}", "defaults: no GPU can be chosen"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "warning"), ODD)
def test_odd_policies_are_told(text, warning):
    found = lint(parse_policy("version: 1\n" + text, Path("p.yaml")), NOW)
    assert any(line.startswith(warning) for line in found), found


def test_the_built_in_policy_and_the_demo_are_clean():
    assert lint(builtin_policy(), NOW) == ()
    assert lint(load_policy(DEMO), NOW) == ()

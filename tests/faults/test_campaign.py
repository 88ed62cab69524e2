"""A campaign of a few minutes, as every run of the tests has it; ``make nightly`` runs one of an hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from faults import plan
from faults.engine import ROOT

SEED = int(os.environ.get("DS01_FAULTS_SEED", "1"))
OUT = ROOT / ".cache" / "faults"
MINUTES = float(os.environ.get("DS01_FAULTS_MINUTES", "5"))


def test_a_plan_is_a_pure_function_of_its_seed():
    assert plan.make(7, 10) == plan.make(7, 10)
    assert plan.make(7, 10) != plan.make(8, 10)


def test_a_longer_plan_begins_like_a_shorter_one():
    short, long = plan.make(7, 5), plan.make(7, 30)
    assert long.storms[: len(short.storms)] == short.storms
    assert long.lives[: len(short.lives)] == short.lives


def test_half_an_hour_is_enough_for_every_kind_of_fault():
    made = plan.make(1, 30)
    assert {f.kind for s in made.storms for f in s.faults} == {kind for kind, _ in plan.KINDS}
    assert made.faults >= 250
    assert len(made.lives) >= 1000
    for storm in made.storms:
        for apart in plan.APART:
            assert sum(f.kind in apart for f in storm.faults) <= 1
        assert all(storm.begins <= f.at and f.at + f.lasts <= storm.ends for f in storm.faults)


@pytest.mark.faults
@pytest.mark.timeout(MINUTES * 60 + 900)
def test_nothing_breaks_a_promise():
    if os.geteuid() != 0:
        pytest.skip("namespaces and an engine of its own need root")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "result.json").unlink(missing_ok=True)
    command = ["-m", "tests.faults", "--seed", str(SEED), "--minutes", str(MINUTES), "--quiet"]
    done = subprocess.run([sys.executable, *command, "--out", str(OUT)], cwd=ROOT, check=False)
    result = json.loads((OUT / "result.json").read_text())
    assert result["sessions"] > 10 * MINUTES
    assert sum(result["faults"].values()) > 3 * MINUTES
    found = [f"{v['rule']}: {v['text']}" for v in result["violations"]]
    assert found == [], f"the log is in {OUT}"
    assert done.returncode == 0

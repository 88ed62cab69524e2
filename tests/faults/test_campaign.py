"""A campaign of a few minutes, as every run of the tests has it; ``make nightly`` runs one of an hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults import plan
from faults.engine import ROOT

SEED = int(os.environ.get("DS01_FAULTS_SEED", "1"))
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
def test_nothing_breaks_a_promise(tmp_path: Path):
    if os.geteuid() != 0:
        pytest.skip("namespaces and an engine of its own need root")
    command = ["-m", "tests.faults", "--seed", str(SEED), "--minutes", str(MINUTES), "--quiet"]
    done = subprocess.run([sys.executable, *command, "--out", str(tmp_path)], cwd=ROOT, check=False)
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["sessions"] > 10 * MINUTES
    assert sum(result["faults"].values()) > 3 * MINUTES
    assert result["violations"] == [], f"{len(result['violations'])} violations; the log is in {tmp_path}"
    assert done.returncode == 0

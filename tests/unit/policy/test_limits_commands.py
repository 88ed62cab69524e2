"""``ds01 limits``, ``ds01 why`` and ``ds01 import-limits`` as an admin calls them."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ds01spawner.cli import build_app
from ds01spawner.store import Store

HERE = Path(__file__).parent / "ds01"
ROOT = Path(__file__).parents[3]
POLICY = """\
version: 1
defaults: {gpu: {full_gpu: false}}
groups:
  students:
    members: [alice]
    session: {memory: 16g}
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "policy.yaml").write_text(POLICY)
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DS01_POLICY", str(tmp_path / "policy.yaml"))
    monkeypatch.setenv("DS01_DEVICES", "simulated")
    monkeypatch.setenv("DS01_INVENTORY", str(ROOT / "hub_config" / "gpus.yaml"))
    monkeypatch.setenv("DS01_DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    return tmp_path


def ds01(*words):
    result = CliRunner().invoke(build_app(), list(words))
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def data(*words, rc=0):
    result = ds01(*words, "--json")
    assert result.exit_code == rc, result.output
    return json.loads(result.stdout)


def test_limits_shows_each_value_with_its_source(site):
    found = data("limits", "alice")
    assert (found["user"], found["groups"]) == ("alice", ["students"])
    memory = found["values"]["session.memory"]
    assert (memory["value"], memory["text"]) == (16 * 2**30, "16g")
    assert memory["source"] == "group students (policy.yaml:6)"
    assert found["values"]["gpu.full_gpu"]["source"] == "defaults (policy.yaml:2)"
    assert "groups of the hub are not known here" in found["notes"][0]
    text = ds01("limits", "alice").stdout
    assert "session.memory" in text
    assert "group students (policy.yaml:6)" in text


def test_limits_takes_the_hubs_groups_and_tells_unknown_ones(site):
    found = data("limits", "bob", "--groups", "students, poets")
    assert found["groups"] == ["students"]
    assert found["notes"] == ["the policy has no group poets: it changes nothing"]


def test_limits_reads_approved_requests_and_never_makes_a_store(site):
    data("limits", "alice")
    assert not (site / "state").exists()
    (site / "state").mkdir()
    store, now = Store.open(f"sqlite:///{site}/state/ds01.sqlite"), datetime.now(timezone.utc)
    number = store.requests.add("alice", {"session.max": 9}, "thesis", now, now + timedelta(days=1))
    store.requests.decide(number, "approved", "root", now)
    value = data("limits", "alice")["values"]["session.max"]
    assert value["value"] == 9
    assert value["source"].startswith(f"request {number} approved by root until ")


@pytest.mark.parametrize("command", ["limits", "why"])
def test_a_broken_policy_is_refused_with_line_and_key(site, command):
    (site / "policy.yaml").write_text("version: 1\ndefaults: {sessions: {}}")
    answer = data(command, "alice", rc=1)
    assert answer["message"] == 'policy.yaml:2: defaults.sessions: unknown key; did you mean "session"?'
    assert data(command, "alice", "--policy", str(site / "none.yaml"), rc=1)["ok"] is False


@pytest.mark.parametrize(
    ("words", "code", "ask"),
    [
        (("--gpu", "full"), "full-gpu", "gpu.full_gpu"),
        (("--gpu", "1g.10gb", "--count", "2"), "gpu-devices", "gpu.max_devices_per_session"),
        (("--gpu", "huge"), "bad-options", ""),
        (("--project", "../x"), "bad-options", ""),
        (("--gpu", "1g.10gb"), "engine-down", ""),
    ],
)
def test_why_not(site, words, code, ask):
    answer = data("why", "alice", *words, rc=1)
    assert answer["ok"] is False
    assert answer["refusal"]["code"] == code
    assert answer["message"] == answer["refusal"]["message"]
    command = f"ds01 request alice {ask}=VALUE --reason REASON --until WHEN"
    assert answer.get("ask", "") == (command if ask else "")
    assert not (site / "state").exists()


def test_import_writes_a_policy_that_limits_reads(site):
    (site / "ds01").mkdir()
    for name in ("resource-limits.yaml", "user-overrides.yaml"):
        shutil.copy(HERE / name, site / "ds01")
    report = data("import-limits", str(site / "ds01" / "resource-limits.yaml"))
    target = site / "ds01" / "policy.yaml"
    assert (report["ok"], report["policy"]) == (True, str(target))
    assert report["counts"]["taken"] > 20
    found = data("limits", "carol", "--groups", "researcher", "--policy", str(target))["values"]
    assert (found["session.cpus"]["value"], found["aggregate.memory"]["text"]) == (48.0, "320g")
    # A second import replaces what the first one wrote, and nothing else.
    data("import-limits", str(site / "ds01" / "resource-limits.yaml"))
    target.write_text(POLICY)
    refused = data("import-limits", str(site / "ds01" / "resource-limits.yaml"), rc=1)
    assert "was not made by this command" in refused["message"]
    assert target.read_text() == POLICY
    data("import-limits", str(site / "ds01" / "resource-limits.yaml"), "--force")
    assert target.read_text() != POLICY


def test_import_tells_what_is_wrong_and_exits_1(site):
    out = site / "out.yaml"
    result = ds01("import-limits", str(HERE / "resource-limits.yaml"), "--out", str(out))
    assert result.exit_code == 1
    assert "group-overrides.txt:3: broken line: wrong: expected user:group" in result.stdout
    assert out.exists()
    assert data("import-limits", str(site / "none.yaml"), rc=1)["ok"] is False


def test_import_to_the_terminal_is_a_policy(site):
    (site / "limits.yaml").write_text("defaults: {max_cpus: 4}")
    result = ds01("import-limits", str(site / "limits.yaml"), "--out", "-")
    assert result.exit_code == 0
    assert result.stdout.endswith("version: 1\ndefaults:\n  session:\n    cpus: 4\n")

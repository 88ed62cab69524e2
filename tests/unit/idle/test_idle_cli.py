"""``ds01 keep-alive`` and ``ds01 idle``."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from idle_site import Site
from typer.testing import CliRunner

from ds01spawner.cli import build_app, idle
from ds01spawner.core.errors import EngineError
from ds01spawner.core.settings import Settings

POLICY = """\
version: 1
defaults:
  idle: {timeout: 30m, keep_alive: {per_session: 4h, per_day: 6h}}
groups:
  students: {}
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = Site(tmp_path)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    settings = Settings(
        state_dir=tmp_path, store_url=f"sqlite:///{tmp_path / 'store.sqlite'}", policy=policy, devices="none"
    )
    settings.write()
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(idle.EngineReader, "running", lambda self: made.running())
    yield made
    made.store.close()


def run(*args: str):
    return CliRunner().invoke(build_app(), list(args))


def test_keep_alive_tells_until_when_and_what_is_left(site):
    done = run("keep-alive", "alice", "--for", "2h", "--reason", "deadline", "--json")
    data = json.loads(done.output)
    assert done.exit_code == 0
    assert (data["ok"], data["seconds"], data["left_session"], data["left_day"]) == (True, 7200, 7200, 14400)
    audit = site.store.extensions.find(session="s-alice")
    assert [(r.seconds, r.source, r.reason) for r in audit] == [(7200, "cli", "deadline")]
    assert "Kept alive until" in run("keep-alive", "alice", "--for", "3h").output


def test_keep_alive_past_the_cap_is_refused(site):
    before = datetime.now(timezone.utc) - timedelta(hours=5)
    site.store.extensions.grant("s-alice", "alice", before, 4 * 3600, by="alice", source="button")
    done = run("keep-alive", "alice", "--for", "1h", "--json")
    data = json.loads(done.output)
    assert (done.exit_code, data["ok"], data["code"]) == (1, False, "keep-alive-cap")
    assert "The limit of 4 h for one session is used up" in data["message"]
    assert site.store.extensions.total("s-alice") == 4 * 3600


def test_keep_alive_of_nobody(site):
    done = run("keep-alive", "bob", "--json")
    assert done.exit_code == 1
    assert json.loads(done.output)["message"] == "There is no running session bob."
    done = run("keep-alive", "alice/other", "--json")
    assert json.loads(done.output)["message"] == (
        "There is no running session alice/other. Running are: alice."
    )
    assert run("keep-alive", "alice", "--for", "long").exit_code == 2


def test_an_engine_that_is_away_is_one_line(site, monkeypatch):
    def away(self):
        raise EngineError("the container engine did not answer: refused")

    monkeypatch.setattr(idle.EngineReader, "running", away)
    assert isinstance(run("keep-alive", "alice").exception, EngineError)


async def test_idle_lists_what_the_service_decided(site):
    assert run("idle", "--json").exit_code == 1
    site.clock.now = datetime.now(timezone.utc) - timedelta(minutes=5)
    await site.passes(5)
    shown = json.loads(run("idle", "--json").output)
    assert [(s["address"], s["state"]) for s in shown["sessions"]] == [("alice", "idle")]
    text = run("idle", "alice").output
    assert "Idle for 4 min" in text
    assert "CPU 0.4 % of a core" in text
    assert run("idle", "bob").exit_code == 1


async def test_idle_says_when_the_service_does_not_run(site):
    site.clock.now = datetime.now(timezone.utc) - timedelta(hours=2)
    await site.passes(1)
    done = run("idle")
    assert done.exit_code == 1
    assert "it does not run" in done.output

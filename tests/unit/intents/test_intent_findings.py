"""What `ds01 check` says of retirements and lost sessions."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

from ds01spawner.core.labels import SessionLabels
from ds01spawner.core.settings import Settings
from ds01spawner.doctor import diagnose
from ds01spawner.doctor.retirement_checks import findings
from ds01spawner.intents.intent import intend

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
ALICE = SessionLabels("alice", "two", "thesis", "hub", "s1")


def ask(site, **more):
    return site.intents.ask(intend(ALICE, NOW, reason="r", kind="admin", by="x", container="c", **more))


def levels(site, later):
    return [f.level for f in findings(site.intents, NOW + later)]


def test_all_is_well(site):
    assert levels(site, timedelta(0)) == ["ok"]


def test_a_late_retirement_is_wrong_and_named(site):
    intent = ask(site)
    assert levels(site, timedelta(seconds=60)) == ["ok"]
    assert levels(site, timedelta(seconds=61)) == ["error"]
    assert levels(site, -timedelta(hours=1)) == ["error"]  # the clock was set back
    site.intents.failed(intent, "connection refused")
    (finding,) = findings(site.intents, NOW + timedelta(minutes=5))
    assert finding.what.startswith("alice/two: it is being retired; the container engine does not answer yet")
    assert "connection refused" in finding.why


def test_a_session_that_the_hub_does_not_know_is_wrong_and_named(site):
    ask(site, due=NOW + timedelta(hours=3))
    (finding,) = findings(site.intents, NOW)
    assert finding.level == "error"
    assert "alice/two runs on project thesis, and the hub does not know it" in finding.what
    assert "13:00" in finding.why


def test_what_cannot_be_read_is_wrong(site):
    ask(site)
    (site.intents.folder / "x.json").write_text("{")
    assert levels(site, timedelta(0)) == ["error"]


def test_it_is_told_without_an_engine(site):
    settings = Settings(**{**site.settings.model_dump(), "docker_host": "unix:///nowhere.sock"})
    site.intents.ask(replace(ask(site), session="s2"))
    rows = diagnose(settings, ["retirements"])
    assert [r["level"] for r in rows] == ["error", "error"]

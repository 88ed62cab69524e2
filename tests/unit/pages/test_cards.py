"""Session cards, sparklines and the texts under them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.core import text
from ds01spawner.idle.model import Decision, Ground, Memory
from ds01spawner.pages.cards import session_card, spark
from ds01spawner.pages.inputs import KeepAlive, Runs, Series, SessionInfo

NOW = datetime(2026, 3, 3, 14, 0, tzinfo=timezone.utc)
INFO = SessionInfo(
    "alice",
    "s2",
    "thesis",
    "pytorch-2.6",
    ("1g.10gb on GPU 1",),
    NOW - timedelta(hours=3),
    NOW + timedelta(hours=9),
)


def decision(**changes):
    values = {
        "state": "idle",
        "reason": "Idle for 30 min.",
        "memory": Memory("x"),
        "why": (
            Ground("cpu", "idle", "0.3 %", "5 %"),
            Ground("gpu", "unsupported", "a slice has no counter"),
        ),
        "cause": "idle",
        "retire_at": NOW + timedelta(minutes=30),
        "idle_seconds": 1800.0,
        "limit": 3600.0,
    }
    return Decision(**(values | changes))


def test_a_card_says_what_why_and_until_when():
    card = session_card(INFO, NOW, decision=decision(), hub_url="/x/hub/", service_url="/x/services/ds01/")
    assert (card.title, card.compute, card.up, card.state) == (
        "thesis · pytorch-2.6",
        "1g.10gb on GPU 1",
        "3 h",
        "idle",
    )
    assert [(c.label, c.left, c.percent, c.urgent) for c in card.clocks] == [
        ("If it stays idle, it is retired", "30 min", 50, False),
        ("It ends in any case", "9 h", 25, False),
    ]
    assert [(s.name, s.measured, s.threshold, s.verdict) for s in card.signals] == [
        ("CPU", "0.3 %", "5 %", "idle"),
        ("GPU", "a slice has no counter", "", "not measured here"),
    ]
    assert card.stop_url == "/x/hub/api/users/alice/servers/s2"
    assert card.retire_url == "/x/services/ds01/retire?server=s2"


def test_nobody_has_looked_yet():
    card = session_card(INFO, NOW)
    assert (card.state, card.why, card.signals) == (
        "running",
        "It has just started; nothing is measured yet.",
        (),
    )


def test_default_server_and_odd_names():
    info = SessionInfo("a b/c@x", "", "p", "e")
    card = session_card(info, NOW)
    assert card.stop_url == "/hub/api/users/a%20b%2Fc@x/server"
    assert (card.address, card.up, card.compute) == ("a b/c@x", "n/a", "CPU only")


@pytest.mark.parametrize(
    ("runs", "title", "environment", "update"),
    [
        (None, "thesis · pytorch-2.6", "", ""),
        (Runs("pytorch-2.6"), "thesis · pytorch-2.6", "", ""),
        (Runs("PyTorch 2.6"), "thesis · PyTorch 2.6", "pytorch-2.6", ""),
        (
            Runs("NLP", "course", newer=True),
            "thesis · NLP",
            "pytorch-2.6",
            "Update available: the course has published another image since this session started. "
            "To use it, retire this session and start again; your project stays.",
        ),
    ],
)
def test_a_card_names_its_environment_and_says_when_there_is_a_newer_one(runs, title, environment, update):
    card = session_card(INFO, NOW, runs=runs)
    assert (card.title, card.environment, card.update) == (title, environment, update)


@pytest.mark.parametrize(
    ("kind", "who"),
    [("mine", "you have built"), ("shared", "its owner has built"), ("lab", "the site has renewed")],
)
def test_who_renewed_an_environment(kind, who):
    assert who in session_card(INFO, NOW, runs=Runs("T", kind, newer=True)).update


@pytest.mark.parametrize(
    ("keep", "button", "note"),
    [
        (None, "", ""),
        (KeepAlive(timedelta(hours=1), timedelta(hours=3)), "Keep alive +1 h", "3 h of the allowance left."),
        (
            KeepAlive(timedelta(hours=1), timedelta(minutes=5), NOW + timedelta(hours=2)),
            "",
            "Kept alive for 2 h more. The allowance for keeping alive is used up.",
        ),
        (KeepAlive(timedelta(hours=1), timedelta(0), refused="Switched off."), "", "Switched off."),
    ],
)
def test_keep_alive(keep, button, note):
    card = session_card(INFO, NOW, keep=keep)
    assert (card.keep_alive, card.keep_alive_note) == (button, note)


@pytest.mark.parametrize(
    ("series", "value", "pieces", "spoken"),
    [
        (
            Series("CPU", (0.0, 50.0, 100.0), 100.0),
            "100 %",
            ("0.0,27.0 60.0,14.0 120.0,1.0",),
            "CPU: now 100 %, between 0 % and 100 %",
        ),
        (
            Series("CPU", (10.0, None, 30.0), 100.0),
            "30 %",
            ("0.0,24.4", "120.0,19.2"),
            "CPU: now 30 %, between 10 % and 30 %",
        ),
        (
            Series("GPU activity", (), unavailable="this slice has no counter"),
            "n/a",
            (),
            "GPU activity: n/a, this slice has no counter",
        ),
        (Series("GPU activity", (None, None)), "n/a", (), "GPU activity: n/a, nothing measured yet"),
        (
            Series("Memory", (2.0**30, 2.0**31), 2.0**32, "bytes"),
            "2 GiB of 4 GiB",
            ("0.0,20.5 120.0,14.0",),
            "Memory: now 2 GiB of 4 GiB, between 1 GiB of 4 GiB and 2 GiB of 4 GiB",
        ),
    ],
)
def test_sparklines_keep_gaps_and_never_show_unknown_as_zero(series, value, pieces, spoken):
    drawn = spark(series)
    assert (drawn.value, drawn.points, drawn.spoken) == (value, pieces, spoken)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (text.size(0), "0 bytes"),
        (text.size(8_100_000_000), "7.5 GiB"),
        (text.size(12_400_000_000), "11.5 GiB"),
        (text.size(3e12), "2.7 TiB"),
        (text.size(117 * 2**20), "117 MiB"),
        (text.size(1.5 * 2**30), "1.5 GiB"),
        (text.size(80 * 2**30), "80 GiB"),
        (text.size(None), "n/a"),
        (text.memory(9728), "10 GB"),
        (text.memory(81559), "80 GB"),
        (text.memory(None), "n/a"),
        (text.duration(timedelta(hours=1, minutes=30)), "1 h 30 min"),
        (text.duration(timedelta(hours=48)), "2 days"),
        (text.duration(-5), "0 s"),
        (text.duration(None), "n/a"),
        (text.ago(None, NOW), "never"),
        (text.ago(NOW - timedelta(seconds=5), NOW), "just now"),
        (text.ago(NOW - timedelta(days=1, hours=2), NOW), "yesterday"),
        (text.ago(NOW - timedelta(days=20), NOW), "11 Feb"),
        (text.ago(NOW - timedelta(days=400), NOW), "27 Jan 2025"),
        (text.amount(None), "n/a"),
        (text.amount(3 / 7), "0.43"),
        (text.amount(1.0), "1"),
        (text.amount(0.001), "0"),
        (text.moment(NOW), "Tue 3 Mar 14:00 UTC"),
        (text.readable("group students (policy.yaml:29)"), "group students"),
        (text.readable("no (rule: group x (policy.yaml:2)); 1 used"), "no (rule: group x); 1 used"),
        (text.readable("free at 2026-03-03T14:00:00+00:00, no"), "free at Tue 3 Mar 14:00 UTC, no"),
        (text.readable("at 2026-99-99T14:00:00Z"), "at n/a"),
        (text.parse_time("2026-03-03T14:00:00Z"), NOW),
        (text.parse_time("yesterday"), None),
    ],
)
def test_texts(given, shown):
    assert given == shown

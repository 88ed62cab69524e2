"""Keep alive is one bounded extension by whatever way it is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from idle_rows import TEN, at

from ds01spawner.core.errors import Refusal
from ds01spawner.idle.keepalive import Extension, Grant, Used, ask, file_asks, until
from ds01spawner.idle.model import KeepAliveCaps
from ds01spawner.idle.rules import from_policy
from ds01spawner.policy.model import Idle

H = 3600
CAPS = KeepAliveCaps(request=4 * H, session=8 * H, day=10 * H, file=4 * H)

# what, wanted, used in session, used in day, alive until (minutes), granted, until, sentence
GRANTS = [
    ("first", 2 * H, 0, 0, None, 2 * H, 120,
     "Kept alive until 12:00 UTC. Left: 6 h for this session, 8 h within 24 hours."),
    ("more than one request may have", 6 * H, 0, 0, None, 4 * H, 240,
     "Kept alive until 14:00 UTC, less than the 6 h asked for. "
     "Left: 4 h for this session, 6 h within 24 hours."),
    ("again, an hour later is paid for", 2 * H, 1 * H, 1 * H, 60, 1 * H, 120,
     "Kept alive until 12:00 UTC. Left: 6 h for this session, 8 h within 24 hours."),
    ("already longer", 1 * H, 2 * H, 2 * H, 120, 0, 120, "Already kept alive until 12:00 UTC."),
    ("the session's cap leaves half an hour", 2 * H, 7.5 * H, 7.5 * H, -30, 1800, 30,
     "Kept alive until 10:30 UTC, less than the 2 h asked for. "
     "Left: 0 s for this session, 2 h within 24 hours."),
    ("the day's cap leaves an hour", 2 * H, 2 * H, 9 * H, None, 1 * H, 60,
     "Kept alive until 11:00 UTC, less than the 2 h asked for. "
     "Left: 5 h for this session, 0 s within 24 hours."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "wanted", "session", "day", "alive", "seconds", "end", "sentence"),
    GRANTS,
    ids=lambda v: str(v)[:40],
)
def test_grants(what, wanted, session, day, alive, seconds, end, sentence):
    got = ask(TEN, wanted, CAPS, Used(session, day), None if alive is None else at(alive))
    assert isinstance(got, Grant)
    assert (got.seconds, got.until, got.sentence) == (seconds, at(end), sentence)


REFUSALS = [
    ("session used up", 2 * H, CAPS, Used(8 * H, 8 * H),
     "You asked to keep the session alive for 2 h. The limit of 8 h for one session is used up (group "
     "students). Use the session to keep it, or save your work; the workspace stays."),
    ("day used up", 2 * H, CAPS, Used(1 * H, 10 * H),
     "You asked to keep the session alive for 2 h. The limit of 10 h within 24 hours is used up (group "
     "students). Time comes back 24 hours after it was granted. Use the session to keep it, or save your "
     "work; the workspace stays."),
    ("switched off", 2 * H, KeepAliveCaps(0, 0, 0, 0), Used(),
     "You asked to keep the session alive for 2 h. Keeping sessions alive is switched off (group "
     "students). Save your work in time."),
    ("nothing asked", 0, CAPS, Used(),
     "You asked to keep the session alive for 0 s. A time to keep alive is more than nothing. Ask for a "
     "time such as 2h."),
    ("not a number", float("nan"), CAPS, Used(),
     "You asked to keep the session alive for nan. A time to keep alive is more than nothing. Ask for a "
     "time such as 2h."),
]  # fmt: skip


@pytest.mark.parametrize(("what", "wanted", "caps", "used", "sentence"), REFUSALS, ids=lambda v: str(v)[:40])
def test_refusals(what, wanted, caps, used, sentence):
    got = ask(TEN, wanted, caps, used, None, rule="group students")
    assert isinstance(got, Refusal)
    assert got.sentence == sentence


# what, touched at (minutes), last handled, session start, seconds asked
FILES = [
    ("touched a minute ago", -1, None, -120, 4 * H - 60),
    ("touched before, found again", -1, -1, -120, None),
    ("touched again", -1, -30, -120, 4 * H - 60),
    ("touched before the session began", -121, None, -120, None),
    ("too long ago", -241, None, -600, None),
    ("dated in the future", 300, None, -120, None),
    ("seconds ahead, by another clock", 0.5, None, -120, 4 * H + 30),
]


@pytest.mark.parametrize(("what", "touched", "handled", "started", "asked"), FILES)
def test_keep_alive_file(what, touched, handled, started, asked):
    known = 0.0 if handled is None else at(handled).timestamp()
    assert file_asks(TEN, at(touched).timestamp(), known, CAPS, at(started)) == asked


def test_extensions_follow_one_another():
    assert until([]) is None
    assert until([Extension(at(0), H)]) == at(60)
    assert until([Extension(at(0), H), Extension(at(30), H)]) == at(120)
    assert until([Extension(at(100), H), Extension(at(0), H)]) == at(160)


@given(st.lists(st.tuples(st.integers(0, 6 * H), st.floats(-10, 20 * H)), max_size=60))
def test_no_series_of_requests_passes_a_cap(requests):
    now, extensions = TEN, []
    for wait, wanted in requests:
        now += timedelta(seconds=wait)
        recent = sum(e.seconds for e in extensions if e.at > now - timedelta(days=1))
        used = Used(sum(e.seconds for e in extensions), recent)
        got = ask(now, wanted, CAPS, used, until(extensions))
        if isinstance(got, Grant) and got.seconds:
            assert got.until <= now + timedelta(seconds=CAPS.request)
            extensions.append(Extension(now, got.seconds))
            assert until(extensions) == got.until
        assert sum(e.seconds for e in extensions) <= CAPS.session
        assert sum(e.seconds for e in extensions if e.at > now - timedelta(days=1)) <= CAPS.day


def test_rules_from_the_policy():
    idle = Idle.model_validate(
        {
            "timeout": "30m",
            "start_grace": "10m",
            "warn_lead": "5m",
            "lifetime_lead": "20m",
            "keep_alive": {"per_session": "8h", "per_day": "12h"},
            "pressure": {"threshold": 0.9, "factor": 0.5},
            "thresholds": {"gpu": 0.1, "cpu": 0.03, "network": "1k", "gpu_memory": "32m"},
        }
    )
    rules = from_policy(idle, "group students", poll=60)
    assert (rules.timeout, rules.start_grace, rules.warn_lead, rules.lifetime_lead) == (1800, 600, 300, 1200)
    assert (rules.gpu_fraction, rules.cpu_cores, rules.network_bps) == (0.1, 0.03, 1024)
    assert rules.gpu_memory_mib == 32
    assert rules.max_gap == 180
    assert (rules.pressure.share, rules.pressure.factor, rules.pressure.floor) == (0.9, 0.5, 300)
    assert rules.keep_alive == KeepAliveCaps(8 * H, 8 * H, 12 * H, 8 * H)
    assert from_policy(Idle(), "default", 60).pressure is None

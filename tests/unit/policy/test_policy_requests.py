"""Asking for more: what may be asked, and what an approval makes of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from support.rows import request

from ds01spawner.core.errors import Refused
from ds01spawner.policy import Person, builtin_policy, resolve
from ds01spawner.policy.requested import ASKABLE, check_request, overrides_from

NOW = datetime(2026, 11, 1, tzinfo=timezone.utc)
SOON = NOW + timedelta(days=7)
ALICE = Person("alice")
LIMITS = resolve(builtin_policy(), ALICE, NOW)
WANTED = {"session.lifetime": "72h", "gpu.max_equivalents": 2}

REFUSED = [
    (WANTED, "pls", SOON, "the reason is shorter than 10 letters"),
    (WANTED, "thesis deadline", None, "it has no end within the next year"),
    (WANTED, "thesis deadline", NOW, "it has no end within the next year"),
    (WANTED, "thesis deadline", NOW + timedelta(days=400), "it has no end within the next year"),
    ({}, "thesis deadline", SOON, "it asks for nothing"),
    (
        {"storage.quota_command": ["rm"]},
        "thesis deadline",
        SOON,
        "'storage.quota_command' cannot be asked for",
    ),
    ({"session.swap": "8g"}, "thesis deadline", SOON, "'session.swap' cannot be asked for"),
    ({"session": {"max": 9}}, "thesis deadline", SOON, "'session' cannot be asked for"),
    ({"session.lifetime": 72}, "thesis deadline", SOON, "session.lifetime: expected a duration"),
    ({"session.max": 9, "gpu.full_gpu": "yes"}, "thesis deadline", SOON, "gpu.full_gpu: Input should be"),
    ({"session.lifetime": "1h"}, "thesis deadline", SOON, "you already have what it asks for"),
]


@pytest.mark.parametrize(("wanted", "reason", "until", "why"), REFUSED)
def test_requests_that_cannot_be_taken(wanted, reason, until, why):
    with pytest.raises(Refused) as error:
        check_request(wanted, reason, until, LIMITS, NOW)
    assert error.value.refusal.status == 400
    assert error.value.refusal.limit.startswith(why)


def _row(**fields):
    known = {"id": "7", "user": "alice", "wanted": WANTED, "until": SOON, "reason": "thesis", "by": "root"}
    return request(**{**known, **fields})


def test_an_approved_request_is_an_exception_until_its_end():
    assert check_request(WANTED, "thesis deadline", SOON, LIMITS, NOW) == WANTED
    approved = overrides_from([_row()])
    found = resolve(builtin_policy(), ALICE, NOW, approved)
    assert (found.session.lifetime, found.gpu.max_equivalents, found.until) == (72 * 3600, 2.0, SOON)
    assert found.source("session.lifetime") == "request 7 approved by root until 2026-11-08 00:00 UTC"
    assert resolve(builtin_policy(), ALICE, SOON, approved).session == LIMITS.session
    assert resolve(builtin_policy(), Person("bob"), NOW, approved).session == LIMITS.session


@pytest.mark.parametrize(
    "wanted",
    [
        {"session.lifetime": 10**12},
        {"session.swap": "1t"},
        {"nonsense": None},
        {"session.max": -1},
        {"gpu": None},
    ],
)
def test_a_stored_value_the_policy_cannot_read_widens_nothing(wanted):
    found = resolve(builtin_policy(), ALICE, NOW, overrides_from([_row(wanted=wanted)]))
    assert found.session == LIMITS.session
    assert found.gpu == LIMITS.gpu


def test_everything_that_may_be_asked_for_exists():
    assert set(builtin_policy().builtin) >= ASKABLE

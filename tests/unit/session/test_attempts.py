"""What a form is told of the start before it: once, while it is news, and of the right server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.core.errors import Refusal
from ds01spawner.hub import attempts

NOW = datetime(2026, 3, 3, 14, tzinfo=timezone.utc)
REFUSAL = Refusal("gpus-full", "a slice was asked for", "none is free", "wait")


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Nobody has tried anything."""
    monkeypatch.setattr(attempts, "_choices", type(attempts._choices)())
    monkeypatch.setattr(attempts, "_refusals", type(attempts._refusals)())


def test_choices_stay_until_a_start_works():
    attempts.tried("alice", "", {"gpu": "1g.10gb"})
    assert attempts.choices("alice") == attempts.choices("alice") == {"gpu": "1g.10gb"}
    assert attempts.choices("bob") is None
    attempts.worked("alice")
    assert attempts.choices("alice") is None


def test_the_reason_is_told_once_to_its_server():
    attempts.refused("alice", "two", REFUSAL, NOW)
    assert attempts.told("alice", "", NOW) is None
    assert attempts.told("alice", "two", NOW + attempts.NEWS) == REFUSAL
    assert attempts.told("alice", "two", NOW) is None


@pytest.mark.parametrize("forget", [lambda: attempts.tried("alice", "", {}), lambda: None])
def test_old_news_is_not_told(forget):
    attempts.refused("alice", "", REFUSAL, NOW)
    forget()
    assert attempts.told("alice", "", NOW + attempts.NEWS + timedelta(seconds=1)) is None


def test_a_new_start_forgets_the_old_reason():
    attempts.refused("alice", "", REFUSAL, NOW)
    attempts.tried("alice", "", {})
    assert attempts.told("alice", "", NOW) is None


def test_it_does_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(attempts, "MAX_KEPT", 2)
    for name in "abc":
        attempts.tried(name, "", {"project": name})
        attempts.refused(name, "", REFUSAL, NOW)
    assert [attempts.choices(n) for n in "abc"] == [None, {"project": "b"}, {"project": "c"}]
    assert [attempts.told(n, "", NOW) is None for n in "abc"] == [True, False, False]

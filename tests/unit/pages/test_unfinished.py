"""What a person reads of sessions that are being retired or were lost by the hub."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from ds01spawner.core.labels import SessionLabels
from ds01spawner.intents.intent import intend, troubled
from ds01spawner.pages.unfinished import unfinished

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)


def intent(user="alice", server="", kind="admin", **more):
    labels = SessionLabels(user, server, "thesis", "hub", f"s-{user}-{server}")
    return intend(labels, NOW, reason="r", kind=kind, by="x", container="c", **more)


def test_only_ones_own_are_told():
    found = unfinished([intent(), intent("bob"), intent(server="two")], "alice", NOW)
    assert [u.server for u in found] == ["", "two"]


def test_retired_is_never_said_of_what_is_still_there():
    (found,) = unfinished([intent()], "alice", NOW)
    assert found.sentence.startswith("It is being retired. ")
    assert not found.lost
    (found,) = unfinished([troubled(intent(), "connection refused")], "alice", NOW)
    assert found.sentence.startswith("It is being retired; the container engine does not answer yet. ")


def test_a_lost_one_says_the_way_back_and_how_long_it_is_open():
    (found,) = unfinished([intent(due=NOW + timedelta(hours=2))], "alice", NOW)
    assert found.lost
    assert "the hub has lost it. Start it again" in found.sentence
    assert found.until == NOW + timedelta(hours=2)


def test_what_a_start_left_behind_is_no_session_of_anybodys():
    assert unfinished([intent(kind="failed"), intent(kind="ended")], "alice", NOW) == []

"""No session starts that could not be warned before the maintenance ends it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.errors import StoreError
from ds01spawner.maintenance import Maintenance, closed
from ds01spawner.store import Store

SIX = datetime(2026, 3, 6, 18, 0, tzinfo=timezone.utc)
LEAD = 1800


def row(starts=SIX, until=None, uuid="*"):
    return {"uuid": uuid, "starts_at": starts, "until": until, "reason": "new driver"}


@pytest.mark.parametrize(
    ("minutes", "rows", "refused"),
    [
        (-31, [row()], False),
        (-30, [row()], True),
        (0, [row()], True),
        (600, [row()], True),
        (59, [row(until=SIX + timedelta(hours=1))], True),
        (60, [row(until=SIX + timedelta(hours=1))], False),
        (0, [row(uuid="GPU-1")], False),
        (0, [row(uuid="GPU-1"), row()], True),
        (0, [], False),
    ],
)
def test_when_starts_are_refused(minutes, rows, refused):
    assert (closed(rows, SIX + timedelta(minutes=minutes), LEAD) is not None) is refused


def test_the_refusal_says_why_and_until_when():
    refusal = closed([row(until=SIX + timedelta(hours=3))], SIX, LEAD)
    assert refusal is not None
    assert refusal.code == "maintenance"
    assert "new driver" in refusal.sentence
    assert "21:00 UTC" in refusal.sentence


def test_a_store_that_is_down_does_not_open_the_site(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    down = []

    def give():
        if down:
            raise StoreError("down")
        return store

    site = Maintenance(give)
    assert site.refusal(SIX, LEAD) is None
    number = store.add_maintenance(SIX, "new driver", "root", SIX - timedelta(days=1))
    assert site.refusal(SIX, LEAD) is not None
    down.append(True)
    assert site.refusal(SIX, LEAD) is not None
    down.clear()
    store.end_maintenance(number, "root", SIX)
    assert site.refusal(SIX, LEAD) is None
    store.close()

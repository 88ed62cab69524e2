"""No session starts that could not be warned before the maintenance ends it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from support.rows import block

from ds01spawner.admission.maintenance import Maintenance, ahead, closed, longest_lead
from ds01spawner.core.errors import StoreError
from ds01spawner.placement.devices import Block, Card, Device, GpuRequest, Inventory
from ds01spawner.placement.place import place
from ds01spawner.policy.load import parse_policy
from ds01spawner.store import Store

SIX = datetime(2026, 3, 6, 18, 0, tzinfo=timezone.utc)
LEAD = 1800


def row(starts=SIX, until=None, uuid="*"):
    return block(kind="maintenance", uuid=uuid, starts_at=starts, until=until, reason="new driver")


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
    number = store.blocks.add_maintenance(SIX, "new driver", "root", SIX - timedelta(days=1))
    assert site.refusal(SIX, LEAD) is not None
    down.append(True)
    assert site.refusal(SIX, LEAD) is not None
    down.clear()
    store.blocks.end_maintenance(number, "root", SIX)
    assert site.refusal(SIX, LEAD) is None
    store.close()


@pytest.mark.parametrize(
    ("minutes", "rows", "kept"),
    [
        (-31, [row(uuid="GPU-1")], []),
        (-30, [row(uuid="GPU-1")], ["GPU-1"]),
        (-1, [row(uuid="GPU-1"), row(uuid="MIG-2")], ["GPU-1", "MIG-2"]),
        (0, [row(uuid="GPU-1")], []),
        (-1, [row()], []),
        (-1, [], []),
    ],
    ids=["far", "near", "two", "begun: the store's own block", "of the whole site: it is closed", "none"],
)
def test_which_devices_are_kept_ahead(minutes, rows, kept):
    assert sorted(ahead(rows, SIX + timedelta(minutes=minutes), LEAD)) == kept


def test_a_card_s_maintenance_keeps_its_slices_from_new_sessions_and_says_why():
    inventory = Inventory(
        "simulated",
        (
            Device("MIG-1", "A100", "1g.10gb", 10240, 1, "GPU-1"),
            Device("MIG-2", "A100", "1g.10gb", 10240, 1, "GPU-2"),
        ),
        (Card("GPU-1", "A100", 81920, True), Card("GPU-2", "A100", 81920, True, index=1)),
    )
    near = ahead([row(uuid="GPU-1", until=SIX + timedelta(hours=2))], SIX - timedelta(minutes=5), LEAD)
    assert near == {
        "GPU-1": Block(
            "drained",
            "maintenance from 18:00 UTC, too near to warn a new session in time: new driver",
            "2026-03-06T20:00:00+00:00",
        )
    }
    assert [d.uuid for d in place(GpuRequest("1g.10gb"), inventory, (), near).devices] == ["MIG-2"]
    both = {**near, "GPU-2": near["GPU-1"]}
    refused = place(GpuRequest("1g.10gb"), inventory, (), both)
    assert refused.code == "unavailable"
    assert refused.refused == (
        "of 2 such devices none is free: 2 drained (maintenance from 18:00 UTC, too near to warn a new "
        "session in time: new driver)"
    )
    assert refused.when == "the first of them is due to become free at 2026-03-06T20:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("version: 1\n", 1800),
        ("version: 1\ndefaults:\n  idle: {lifetime_lead: 5m}\n", 1800),
        ("version: 1\ngroups:\n  profs:\n    idle: {lifetime_lead: 2h}\n", 7200),
        ("version: 1\nusers:\n  ada:\n    reason: x\n    idle: {lifetime_lead: 3h}\n", 10800),
    ],
    ids=["built in", "shorter for all", "a group's", "a person's"],
)
def test_the_longest_time_ahead_that_anybody_is_warned(text, seconds, tmp_path):
    assert longest_lead(parse_policy(text, tmp_path / "policy.yaml")) == seconds


def test_the_device_stays_kept_while_the_store_is_down(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    store.blocks.add_maintenance(SIX, "new driver", "root", SIX - timedelta(days=1), None, "GPU-1")
    down = []

    def give():
        if down:
            raise StoreError("down")
        return store

    site = Maintenance(give)
    now = SIX - timedelta(minutes=5)
    assert list(site.ahead(now, LEAD)) == ["GPU-1"]
    down.append(True)
    assert list(site.ahead(now, LEAD)) == ["GPU-1"]
    store.close()

"""The state of every device, as `ds01 gpus` and the launch page show it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from machines import FOUR_CARDS, held, machine

from ds01spawner.placement import availability, merge_blocks, status
from ds01spawner.placement.devices import Block, Card, Holding, Inventory

ONE = machine(("3g.40gb", "4g.40gb"))


def row(rows, uuid):
    return next(r for r in rows if r.uuid == uuid)


def test_a_free_device_in_full():
    first = status(ONE)[0]
    assert first.__dict__ == {
        "uuid": "MIG-0-0",
        "parent": "GPU-0",
        "name": "NVIDIA A100-SXM4-80GB",
        "profile": "3g.40gb",
        "memory_mib": 40448,
        "equivalents": 0.4286,
        "state": "free",
        "holder": "",
        "reason": "",
        "until": "",
    }


@pytest.mark.parametrize(
    ("holdings", "blocks", "state", "holder", "reason"),
    [
        (held("MIG-0-0"), {}, "held", "alice/thesis", "in use by a session"),
        (held("GPU-0"), {}, "held", "alice/thesis", "its card is in use"),
        (
            held("MIG-0-0", kind="foreign"),
            {},
            "foreign",
            "container x",
            "in use by a container this service did not start",
        ),
        (
            (Holding("MIG-0-0", "process 7", "process"),),
            {},
            "foreign",
            "process 7",
            "in use by a process outside every container",
        ),
        (held("MIG-0-1"), {}, "free", "", ""),
        ((), {"GPU-0": Block("drained", "fan")}, "drained", "", "fan"),
        (held("MIG-0-0"), {"GPU-0": Block("drained", "fan")}, "drained", "alice/thesis", "fan"),
        (held("MIG-0-0"), {"MIG-0-0": Block("lost", "gone")}, "lost", "alice/thesis", "gone"),
        (
            held("MIG-0-0"),
            {"MIG-0-0": Block("reserved", "course")},
            "held",
            "alice/thesis",
            "in use by a session",
        ),
        ((), {"MIG-0-0": Block("reserved", "course")}, "reserved", "", "course"),
        ((), {"MIG-0-0": Block("reserved", "course", exempt=frozenset({"user:me"}))}, "free", "", ""),
        ((), {"MIG-0-0": Block("reserved", "course"), "GPU-0": Block("lost", "gone")}, "lost", "", "gone"),
    ],
)
def test_states(holdings, blocks, state, holder, reason):
    found = row(status(ONE, holdings, blocks, keys=frozenset({"user:me"})), "MIG-0-0")
    assert (found.state, found.holder, found.reason) == (state, holder, reason)


def test_until_tells_when_the_last_holder_goes():
    both = held("MIG-0-0", until="2026-01-02") + held("GPU-0", until="2026-01-05")
    assert row(status(ONE, both), "MIG-0-0").until == "2026-01-05"
    assert row(status(ONE, both + held("MIG-0-0")), "MIG-0-0").until == ""
    assert (
        row(status(ONE, (), {"GPU-0": Block("drained", "x", until="2026-02-01")}), "MIG-0-0").until
        == "2026-02-01"
    )


def test_a_card_that_offers_no_device_is_listed():
    inventory = Inventory(
        "nvml",
        ONE.devices,
        (
            *ONE.cards,
            Card("GPU-7", "H100", 81559, False, "lost", "it fell off the bus", 1),
            Card("GPU-8", "H100", 81559, True, "unready", "MIG is on but the card has no slices", 2),
        ),
    )
    rows = status(inventory)
    assert [(r.uuid, r.profile, r.state, r.reason) for r in rows[2:]] == [
        ("GPU-7", "full", "lost", "it fell off the bus"),
        ("GPU-8", "mig", "unready", "MIG is on but the card has no slices"),
    ]


def test_a_driver_that_does_not_answer_makes_everything_unready():
    rows = status(replace(ONE, state="error", reason="the driver hangs"))
    assert {(r.state, r.reason) for r in rows} == {("unready", "the driver hangs")}


def test_availability_counts_per_profile_smallest_first():
    rows = status(
        FOUR_CARDS,
        held("MIG-2-0", until="2026-03-02") + held("MIG-3-1"),
        {"MIG-1-0": Block("drained", "fan")},
    )
    found = {a.profile: a for a in availability(rows)}
    assert list(found) == ["1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb", "full"]
    assert (found["1g.10gb"].total, found["1g.10gb"].free, found["1g.10gb"].reasons) == (9, 8, {"fan": 1})
    assert (found["3g.40gb"].free, found["3g.40gb"].until) == (0, "2026-03-02")
    assert found["3g.40gb"].reasons == {"in use by a session": 2}


def test_merging_keeps_the_block_that_is_harder_to_lift():
    mine = {"a": Block("reserved", "course", exempt=frozenset({"user:me"})), "b": Block("drained", "fan")}
    engine = {"a": Block("unready", "no CDI name"), "c": Block("lost", "gone")}
    expected = {"a": engine["a"], "b": mine["b"], "c": engine["c"]}
    assert merge_blocks(mine, engine) == merge_blocks(engine, mine) == expected


def test_a_card_row_says_who_holds_the_card_and_a_sound_card_without_devices_is_not_listed():
    inventory = Inventory(
        "nvml",
        (),
        (
            Card("GPU-7", "H100", 81559, False, "lost", "", 1),
            Card("GPU-8", "A30", 24576, True, "ok", "", 2),
        ),
    )
    other = Holding("GPU-9", "container z", "foreign")
    holdings = held("GPU-7", kind="foreign") + held("GPU-7") + (other,)
    assert [r.__dict__ for r in status(inventory, holdings)] == [
        {
            "uuid": "GPU-7",
            "parent": None,
            "name": "H100",
            "profile": "full",
            "memory_mib": 81559,
            "equivalents": 1.0,
            "state": "lost",
            "holder": "container x and alice/thesis",
            "reason": "lost",
            "until": "",
        }
    ]


def test_a_card_that_offers_devices_has_no_row_of_its_own_though_it_is_ill():
    ill = replace(ONE, cards=(replace(ONE.cards[0], state="unready", reason="fan"),))
    assert [(r.uuid, r.state) for r in status(ill)] == [("MIG-0-0", "unready"), ("MIG-0-1", "unready")]


def test_a_whole_card_is_held_by_its_slices():
    both = Inventory(
        "simulated",
        (replace(machine(()).devices[0], uuid="GPU-0"), replace(ONE.devices[0], parent="GPU-0")),
        ONE.cards,
    )
    found = row(status(both, held("MIG-0-0")), "GPU-0")
    assert (found.state, found.reason) == ("held", "slices of this card are in use")
    mixed = (Holding("MIG-0-0", "process 7", "process"), *held("MIG-0-0"))
    assert row(status(both, mixed), "MIG-0-0").reason == "in use by a process outside every container"


def test_availability_in_full():
    """The smallest memory, the profile's size, and the first time of those that are not free."""
    rows = status(ONE, held("MIG-0-0", until="2026-03-02"))
    small = replace(rows[0], uuid="MIG-9", memory_mib=40000, state="held", until="2026-03-01")
    free = replace(rows[0], uuid="MIG-8", state="free", until="2026-01-01", reason="")
    (taken, _) = availability([*rows, small])
    assert taken.__dict__ == {
        "profile": "3g.40gb",
        "total": 2,
        "free": 0,
        "memory_mib": 40000,
        "equivalents": 0.4286,
        "reasons": {"in use by a session": 2},
        "until": "2026-03-01",
    }
    assert [a.until for a in availability([*rows, free])] == ["", ""]
    assert [a.until for a in availability(status(ONE, held("MIG-0-0")))] == ["", ""]

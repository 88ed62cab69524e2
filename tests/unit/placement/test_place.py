"""Which device a request gets, or why none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import FOUR_CARDS, held, machine

from ds01spawner.placement import STRATEGIES, place, refusal
from ds01spawner.placement.devices import Block, Card, Device, GpuRequest, Holding, Inventory

SMALL = tuple(f"MIG-1-{n}" for n in range(7))


def uuids(placement) -> tuple[str, ...]:
    return tuple(d.uuid for d in placement.devices)


@pytest.mark.parametrize(
    ("profile", "taken", "expected"),
    [
        # Nothing held: card order decides between equals.
        ("1g.10gb", (), "MIG-1-0"),
        ("2g.20gb", (), "MIG-2-1"),
        ("full", (), "GPU-0"),
        ("auto", (), "MIG-1-0"),
        # The fullest card first, so that the others stay whole.
        ("1g.10gb", ("MIG-2-0",), "MIG-2-2"),
        ("3g.40gb", ("MIG-2-2",), "MIG-2-0"),
        ("3g.40gb", ("MIG-2-2", "MIG-3-0"), "MIG-3-1"),
        # auto moves up when the small ones are gone.
        ("auto", (*SMALL, "MIG-2-2", "MIG-2-3"), "MIG-2-1"),
        ("auto", (*SMALL, "MIG-2-1", "MIG-2-2", "MIG-2-3"), "MIG-2-0"),
    ],
)
def test_best_fit_and_pack(profile, taken, expected):
    assert uuids(place(GpuRequest(profile), FOUR_CARDS, held(*taken))) == (expected,)


@pytest.mark.parametrize(
    ("strategy", "taken", "expected"),
    [
        ("best-fit", (), "MIG-1-0"),
        ("first-fit", (), "GPU-0"),
        ("first-fit", ("GPU-0", "MIG-1-0"), "MIG-1-1"),
        ("spread", (), "GPU-0"),
        ("spread", ("GPU-0",), "MIG-3-0"),
        ("spread", ("GPU-0", "MIG-3-0"), "MIG-2-0"),
        ("spread", ("GPU-0", "MIG-3-0", "MIG-2-0"), "MIG-3-1"),
    ],
)
def test_the_strategy_decides_between_sufficient_devices(strategy, taken, expected):
    assert uuids(place(GpuRequest("auto"), FOUR_CARDS, held(*taken), strategy=strategy)) == (expected,)


def test_an_unknown_strategy_is_named():
    with pytest.raises(ValueError, match="known are best-fit, first-fit, spread"):
        place(GpuRequest("auto"), FOUR_CARDS, (), strategy="lucky")


def test_a_profile_is_never_silently_replaced_by_a_larger_one():
    placement = place(GpuRequest("2g.20gb"), FOUR_CARDS, held("MIG-2-1"))
    assert (placement.devices, placement.code) == ((), "full")


def test_several_devices_have_one_profile_and_pack():
    assert uuids(place(GpuRequest("1g.10gb", 3), FOUR_CARDS, held("MIG-2-0"))) == (
        "MIG-2-2",
        "MIG-2-3",
        "MIG-1-0",
    )
    assert uuids(place(GpuRequest("3g.40gb", 2), FOUR_CARDS, ())) == ("MIG-2-0", "MIG-3-1")
    # auto takes the smallest profile of which enough are free.
    taken = held("MIG-2-2", "MIG-2-3", *SMALL[1:])
    assert uuids(place(GpuRequest("auto", 2), FOUR_CARDS, taken)) == ("MIG-2-0", "MIG-3-1")


def test_a_card_and_its_slices_exclude_each_other():
    both = Inventory(
        "simulated",
        (Device("GPU-9", "A", "full", 80000), Device("MIG-a", "A", "1g.10gb", 10000, 1, "GPU-9", 1)),
        (Card("GPU-9", "A", 80000, True),),
    )
    assert place(GpuRequest("full"), both, held("MIG-a")).code == "full"
    assert place(GpuRequest("1g.10gb"), both, held("GPU-9")).code == "full"
    assert place(GpuRequest("1g.10gb"), both, ()).ok
    assert place(GpuRequest("full"), both, (), {"MIG-a": Block("drained", "fan")}).code == "unavailable"


def test_a_card_that_is_held_holds_its_slices():
    placement = place(GpuRequest("1g.10gb"), FOUR_CARDS, held("GPU-1", kind="foreign"))
    assert uuids(placement) == ("MIG-2-2",)


@pytest.mark.parametrize("state", ["drained", "lost", "unready", "reserved"])
def test_a_block_on_a_card_covers_its_slices_and_names_its_reason(state):
    blocks = {"GPU-2": Block(state, "the fan is being changed", until="2026-03-01T12:00:00+00:00")}
    placement = place(GpuRequest("2g.20gb"), FOUR_CARDS, (), blocks)
    assert placement.code == "unavailable"
    assert "the fan is being changed" in placement.refused
    assert placement.when == "the first of them is due to become free at 2026-03-01T12:00:00+00:00"


def test_a_block_is_lifted_for_whom_it_exempts():
    blocks = {"MIG-2-1": Block("reserved", "reserved for a course", exempt=frozenset({"group:nlp"}))}
    request = GpuRequest("2g.20gb")
    assert place(request, FOUR_CARDS, (), blocks, keys=frozenset({"user:eve"})).code == "unavailable"
    assert place(request, FOUR_CARDS, (), blocks, keys=frozenset({"user:eve", "group:nlp"})).ok
    # A drain beside the reservation is not lifted by it.
    blocks["GPU-2"] = Block("drained", "fan")
    assert not place(request, FOUR_CARDS, (), blocks, keys=frozenset({"group:nlp"})).ok


def test_a_block_on_everything():
    assert (
        place(GpuRequest("auto"), FOUR_CARDS, (), {"*": Block("drained", "maintenance")}).code
        == "unavailable"
    )


def test_blocks_of_the_inventory_and_of_cards_count():
    lost = replace(FOUR_CARDS, blocks={"GPU-0": Block("lost", "the GPU no longer answers")})
    assert "the GPU no longer answers" in place(GpuRequest("full"), lost, ()).refused
    cards = (replace(FOUR_CARDS.cards[0], state="unready", reason="waits for a reset"), *FOUR_CARDS.cards[1:])
    assert "waits for a reset" in place(GpuRequest("full"), replace(FOUR_CARDS, cards=cards), ()).refused


@pytest.mark.parametrize(
    ("quota", "profile", "count", "code"),
    [
        (1 / 7, "1g.10gb", 1, ""),
        (0.14, "1g.10gb", 1, ""),
        (0.1, "1g.10gb", 1, "over-limit"),
        (0.43, "1g.10gb", 3, ""),
        (0.43, "1g.10gb", 4, "over-limit"),
        (3 / 7 - 2 / 7, "2g.20gb", 1, "over-limit"),
        (1 - 6 / 7, "1g.10gb", 1, ""),
        (1.0, "full", 1, ""),
        (0.99, "full", 1, "over-limit"),
        (0.0, "auto", 1, "over-limit"),
    ],
)
def test_the_quota_counts_sevenths(quota, profile, count, code):
    assert place(GpuRequest(profile, count, max_equivalents=quota), FOUR_CARDS, ()).code == code


def test_auto_stays_within_policy_and_quota():
    taken = held(*SMALL, "MIG-2-2", "MIG-2-3")
    only = frozenset({"1g.10gb", "3g.40gb"})
    assert uuids(place(GpuRequest("auto", allowed=only), FOUR_CARDS, taken)) == ("MIG-2-0",)
    assert place(GpuRequest("auto", max_equivalents=1 / 7), FOUR_CARDS, taken).code == "full"
    assert uuids(place(GpuRequest("auto", min_memory_mib=30000), FOUR_CARDS, taken)) == ("MIG-2-0",)


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (GpuRequest("7g.80gb"), "no-such-profile", "it has full, 1g.10gb, 3g.40gb, 2g.20gb and 4g.40gb"),
        (GpuRequest("2g.20gb", 2), "no-such-profile", "has only 1 of them"),
        (
            GpuRequest("full", allowed=frozenset({"1g.10gb"})),
            "not-allowed",
            "does not allow full here; allowed: 1g.10gb",
        ),
        (GpuRequest("full", full_gpu=False), "not-allowed", "does not allow whole GPUs"),
        (
            GpuRequest("full", max_equivalents=0.5),
            "over-limit",
            "1.00 GPU-equivalents and 0.43 of the quota are left",
        ),
    ],
)
def test_what_waiting_cannot_mend(request_, code, text):
    placement = place(request_, FOUR_CARDS, ())
    assert placement.code == code
    assert text in placement.refused
    assert refusal(request_, placement).retry_after is None


def test_the_reason_counts_who_is_in_the_way_and_names_nobody():
    taken = held("MIG-2-0", until="2026-03-02T09:00:00+00:00") + held("MIG-3-1", kind="foreign")
    placement = place(GpuRequest("3g.40gb"), FOUR_CARDS, taken)
    assert placement.refused == (
        "of 2 such devices none is free: 1 in use by sessions, "
        "1 in use by something this service did not start"
    )
    assert placement.when == "the first of them is due to become free at 2026-03-02T09:00:00+00:00"
    shown = refusal(GpuRequest("3g.40gb"), placement)
    assert (shown.code, shown.status, shown.retry_after) == ("gpus-full", 503, 60)
    assert "alice" not in shown.sentence


def test_when_is_empty_where_nobody_of_ours_holds_it():
    assert place(GpuRequest("full"), FOUR_CARDS, held("GPU-0", kind="foreign")).when == ""
    assert "retired" in place(GpuRequest("full"), FOUR_CARDS, held("GPU-0")).when


@pytest.mark.parametrize(
    "inventory",
    [
        Inventory("none", reason="no NVIDIA driver"),
        replace(FOUR_CARDS, state="version-mismatch", reason="no NVIDIA driver"),
    ],
)
def test_an_inventory_that_did_not_answer_offers_nothing(inventory):
    placement = place(GpuRequest("auto"), inventory, ())
    assert (placement.code, placement.refused) == ("unavailable", "no NVIDIA driver")


def test_no_gpu_is_always_granted():
    assert place(GpuRequest("none"), Inventory("none"), ()).ok


LAYOUTS = [(), ("1g.10gb",) * 7, ("3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"), ("4g.40gb", "3g.40gb")]


@given(
    layout=st.lists(st.sampled_from(LAYOUTS), min_size=1, max_size=5),
    taken=st.sets(st.integers(0, 30)),
    blocked=st.sets(st.integers(0, 30), max_size=4),
    profile=st.sampled_from(["auto", "full", "1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb"]),
    count=st.integers(1, 3),
    strategy=st.sampled_from(sorted(STRATEGIES)),
)
def test_granted_devices_are_free_alike_distinct_and_refusals_are_right(
    layout, taken, blocked, profile, count, strategy
):
    inventory = machine(*layout)
    names = [d.uuid for d in inventory.devices]
    busy = {names[n] for n in taken if n < len(names)}
    bad = {names[n] for n in blocked if n < len(names)}
    placement = place(
        GpuRequest(profile, count),
        inventory,
        held(*busy),
        {u: Block("drained", "x") for u in bad},
        strategy=strategy,
    )
    free = [d for d in inventory.devices if d.uuid not in busy | bad and profile in ("auto", d.profile)]
    by_profile = {p: sum(d.profile == p for d in free) for p in {d.profile for d in free}}
    assert placement.ok == any(n >= count for n in by_profile.values())
    if placement.ok:
        assert set(placement.devices) <= set(free)
        assert len({d.uuid for d in placement.devices}) == count
        assert len({d.profile for d in placement.devices}) == 1
    else:
        assert placement.refused
        assert placement.devices == ()


@given(st.permutations(FOUR_CARDS.devices), st.sampled_from(sorted(STRATEGIES)))
def test_the_order_of_a_reading_does_not_matter(devices, strategy):
    shuffled = replace(FOUR_CARDS, devices=tuple(devices))
    request = GpuRequest("1g.10gb", 2)
    expected = place(request, FOUR_CARDS, held("MIG-1-3"), strategy=strategy)
    assert place(request, shuffled, held("MIG-1-3"), strategy=strategy) == expected


def test_a_holding_of_an_unknown_device_is_no_hindrance():
    assert place(GpuRequest("full"), FOUR_CARDS, [Holding("MIG-gone", "x")]).ok

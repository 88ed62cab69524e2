"""What is said when nothing is placed: word for word, and with which status."""

from __future__ import annotations

import pytest
from machines import FOUR_CARDS, held, machine

from ds01spawner.placement import place, refusal
from ds01spawner.placement.devices import Block, Card, GpuRequest, Inventory, Placement
from ds01spawner.placement.place import describe
from ds01spawner.placement.standing import standings, used_by_card

SMALL = tuple(f"MIG-1-{n}" for n in range(7))
TWO = machine(("2g.20gb", "2g.20gb"))
WAIT = "choose another GPU, start without one, or wait in the queue"
OTHER = "choose another GPU or fewer of them, or start without one"


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (GpuRequest("1g.10gb"), "1 × 1g.10gb"),
        (GpuRequest("2g.20gb", 3), "3 × 2g.20gb"),
        (GpuRequest("full", 2), "2 × whole GPU"),
        (GpuRequest("auto"), "1 × GPU of any kind"),
        (GpuRequest("auto", min_memory_mib=24 * 1024), "1 × GPU of at least 24 GiB"),
        (GpuRequest("auto", min_memory_mib=1536), "1 × GPU of at least 1.5 GiB"),
        (GpuRequest("1g.10gb", min_memory_mib=24 * 1024), "1 × 1g.10gb"),
    ],
)
def test_a_request_in_words(request_, words):
    assert describe(request_) == words


@pytest.mark.parametrize(
    ("code", "do", "status", "retry"),
    [
        ("full", WAIT, 503, 60),
        ("unavailable", WAIT, 503, 60),
        ("no-such-profile", OTHER, 400, None),
        ("not-allowed", OTHER, 403, None),
        ("over-limit", OTHER, 403, None),
    ],
)
def test_a_refusal_says_what_helps(code, do, status, retry):
    told = refusal(GpuRequest("2g.20gb"), Placement(refused="why not", code=code, when="soon"))
    assert (told.code, told.asked, told.limit, told.when) == (
        f"gpus-{code}",
        "1 × 2g.20gb was asked for",
        "why not",
        "soon",
    )
    assert (told.do, told.status, told.retry_after) == (do, status, retry)


@pytest.mark.parametrize(
    ("taken", "blocks", "count", "code", "words"),
    [
        (("MIG-0-0", "MIG-0-1"), {}, 1, "full", "of 2 such devices none is free: 2 in use by sessions"),
        (("MIG-0-0",), {}, 2, "full", "of 2 such devices 1 is free: 1 in use by sessions"),
        (
            (),
            {"MIG-0-0": Block("drained", "fan")},
            2,
            "unavailable",
            "of 2 such devices 1 is free: 1 drained (fan)",
        ),
        (
            ("MIG-0-1",),
            {"MIG-0-0": Block("unready", "")},
            1,
            "full",
            "of 2 such devices none is free: 1 not ready, 1 in use by sessions",
        ),
        (
            (),
            {"MIG-0-0": Block("moved", "out"), "MIG-0-1": Block("lost", "")},
            1,
            "unavailable",
            "of 2 such devices none is free: 1 moved (out), 1 lost",
        ),
    ],
)
def test_what_keeps_each_device(taken, blocks, count, code, words):
    placement = place(GpuRequest("2g.20gb", count), TWO, held(*taken), blocks)
    assert (placement.code, placement.refused) == (code, words)


def test_three_free_of_too_few_are_counted():
    """Three of one profile are free where four exist, and four were asked for."""
    four = machine(("1g.10gb",) * 4)
    told = place(GpuRequest("1g.10gb", 4), four, held("MIG-0-0")).refused
    assert told == "of 4 such devices 3 are free: 1 in use by sessions"


def test_who_holds_a_device_is_said_without_a_name():
    assert place(GpuRequest("full"), FOUR_CARDS, held("GPU-0", kind="foreign")).refused == (
        "of 1 such devices none is free: 1 in use by something this service did not start"
    )


def test_when_no_end_is_known_a_retirement_is_what_frees_it():
    assert place(GpuRequest("full"), FOUR_CARDS, held("GPU-0")).when == (
        "one becomes free as soon as a session that holds it is retired"
    )
    assert place(GpuRequest("full"), FOUR_CARDS, held("GPU-0", kind="foreign")).when == ""


def test_what_the_machine_has_instead():
    assert place(GpuRequest("7g.80gb"), TWO, ()).refused == (
        "this machine has no such device; it has 2g.20gb"
    )
    assert place(GpuRequest("7g.80gb"), machine((), ("2g.20gb",)), ()).refused == (
        "this machine has no such device; it has full and 2g.20gb"
    )
    assert place(GpuRequest("7g.80gb"), FOUR_CARDS, ()).refused == (
        "this machine has no such device; it has full, 1g.10gb, 3g.40gb, 2g.20gb and 4g.40gb"
    )
    bare = Inventory("nvml", (), (Card("GPU-0", "A100", 81920, True, "unready", "no slices"),))
    assert place(GpuRequest("full"), bare, ()).refused == (
        "this machine has no such device; it has none at all"
    )


def test_a_card_in_use_by_a_stranger_is_as_full_as_its_slices_say():
    """Packing goes by what is in use: a card held whole is the fullest there is, and offers nothing."""
    inventory = machine(("1g.10gb", "1g.10gb"), ("1g.10gb", "1g.10gb"))
    first = place(GpuRequest("1g.10gb"), inventory, held("MIG-1-0"))
    assert [d.uuid for d in first.devices] == ["MIG-1-1"]
    second = place(GpuRequest("1g.10gb"), inventory, held("GPU-1"))
    assert [d.uuid for d in second.devices] == ["MIG-0-0"]


def test_what_is_in_use_counts_the_slices_of_a_card_that_is_held_whole():
    taken = standings(FOUR_CARDS, held("GPU-1", kind="foreign") + held("MIG-2-1"))
    assert used_by_card(taken) == {"GPU-1": 7, "GPU-2": 2}

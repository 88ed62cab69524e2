"""Who leaves a device to those who can use nothing else, and who does not any longer."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01spawner.placement.devices import Card, Device, GpuRequest, Holding, Inventory
from ds01spawner.queue.order import decide
from ds01spawner.queue.pool import PlacementPool
from ds01spawner.queue.ticket import Rules, Ticket, Usage

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
M, H = timedelta(minutes=1), timedelta(hours=1)
A, B, SMALL = "MIG-A", "MIG-B", "MIG-S"
MACHINE = Inventory(
    "simulated",
    (
        *(Device(u, "A100", "3g.40gb", 40960, 3, "GPU-1", i) for i, u in enumerate((A, B))),
        Device(SMALL, "A100", "1g.10gb", 10240, 1, "GPU-1", 2),
    ),
    (Card("GPU-1", "A100", 81920, True),),
)


def ticket(name, ago=timedelta(0), profile="3g.40gb", count=1, **kw):
    return Ticket(name, f"user-{name}", NOW - ago, GpuRequest(profile, count), **kw)


def granted(tickets, *held, rules=None, entitled=None):
    pool = PlacementPool(
        MACHINE,
        [Holding(u, "x", "session") for u in held],
        {},
        dict.fromkeys(held, NOW + 9 * H),
    )
    answer = decide(tickets, pool, Usage(), NOW, rules or Rules(), entitled)
    return {g.ticket.id: g.devices for g in answer.grants}


@pytest.mark.parametrize(
    ("tickets", "expected"),
    [
        pytest.param(
            [ticket("any", 30 * M, "auto"), ticket("large", 10 * M)],
            {"large": (A,)},
            id="who has waited about as long",
        ),
        pytest.param(
            [ticket("any", 12 * H, "auto"), ticket("large", 10 * M)],
            {"any": (A,)},
            id="but not who has waited much longer",
        ),
        pytest.param(
            [ticket("any", 12 * H, "auto"), *(ticket(f"large{i}", (9 - i) * M) for i in range(4))],
            {"large0": (A,)},
            id="but to a crowd, the last of which would wait longer",
        ),
        pytest.param(
            [ticket("any", 49 * H, "auto"), *(ticket(f"large{i}", (30 - i) * M) for i in range(30))],
            {"any": (A,)},
            id="not even to a crowd after two days more",
        ),
        pytest.param(
            [ticket("any", 30 * M, "auto", priority=4), ticket("large", 10 * M)],
            {"any": (A,)},
            id="a priority counts as waiting",
        ),
        pytest.param(
            [ticket("any", 30 * M, "auto"), ticket("two", 10 * M, count=2)],
            {"any": (A,)},
            id="nothing is left to who could not take it now",
        ),
    ],
)
def test_who_can_use_anything_leaves_the_large_device_to(tickets, expected):
    assert granted(tickets, B, SMALL) == expected


def test_nothing_is_left_to_somebody_over_the_own_limits():
    tickets = [ticket("any", 30 * M, "auto"), ticket("large", 10 * M)]
    entitled = lambda t, grants: "you hold 1.00 of 1.00" if t.id == "large" else ""  # noqa: E731
    assert granted(tickets, B, SMALL, entitled=entitled) == {"any": (A,)}


def test_the_longer_sessions_last_the_more_a_crowd_counts():
    tickets = [ticket("any", 12 * H, "auto"), ticket("l1", 2 * M), ticket("l2", M)]
    assert granted(tickets, B, SMALL, rules=Rules(usual=H)) == {"any": (A,)}
    assert granted(tickets, B, SMALL, rules=Rules(usual=9 * H)) == {"l1": (A,)}


def test_the_small_device_is_nobody_else_s():
    tickets = [ticket("any", 30 * M, "auto"), *(ticket(f"large{i}", i * M) for i in range(3))]
    assert granted(tickets, A, B) == {"any": (SMALL,)}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 24))
def test_however_many_come_who_can_use_nothing_else_one_gives_way_for_two_days_at_most(large, small, usual):
    """Newcomers without end on both sides: the device goes to the one who came two days before them."""
    crowd = [ticket(f"l{i}", i * M) for i in range(large)]
    crowd += [ticket(f"s{i}", i * M, "1g.10gb") for i in range(small)]
    waits = ticket("any", 49 * H, "auto")
    assert granted([*crowd, waits], B, SMALL, rules=Rules(usual=usual * H)) == {"any": (A,)}

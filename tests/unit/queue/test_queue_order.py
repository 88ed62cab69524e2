"""Who is next, and who may pass whom."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ds01spawner.placement.devices import Block, Card, Device, GpuRequest, Holding, Inventory
from ds01spawner.queue.order import decide, line_up, next_grants, step
from ds01spawner.queue.pool import PlacementPool
from ds01spawner.queue.simulation import DEVICES, FleetPool
from ds01spawner.queue.ticket import Grant, Rules, Ticket, Usage, Wait

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
M = timedelta(minutes=1)
H = timedelta(hours=1)
A, B = "MIG-A", "MIG-B"
PAIR = Inventory(
    "simulated",
    tuple(Device(u, "A100", "3g.40gb", 40960, 3, "GPU-1", i) for i, u in enumerate((A, B))),
    (Card("GPU-1", "A100", 81920, True),),
)


def ticket(name, user=None, ago=0, profile="3g.40gb", count=1, **kw):
    request = GpuRequest(profile, count)
    return Ticket(name, user or f"user-{name}", NOW - ago * M, request, **kw)


def pool(*held, ends=None, blocks=None, inventory=PAIR):
    holdings = [Holding(u, holder="x", kind="session") for u in held]
    return PlacementPool(inventory, holdings, blocks or {}, ends or {})


def names(tickets):
    return [t.id for t in tickets]


@pytest.mark.parametrize(
    ("tickets", "usage", "expected"),
    [
        pytest.param([ticket("a", ago=1), ticket("b", ago=2)], {}, ["b", "a"], id="arrival"),
        pytest.param([ticket("a", ago=9), ticket("b", priority=1)], {}, ["b", "a"], id="priority"),
        pytest.param(
            [ticket("a", ago=9), ticket("b")], {"user-a": 8.0}, ["b", "a"], id="fair share before arrival"
        ),
        pytest.param(
            [ticket("a", ago=9), ticket("b")], {"user-a": 0.9}, ["a", "b"], id="minutes of use do not count"
        ),
        pytest.param(
            [ticket("a", ago=361), ticket("b")], {"user-a": 500.0}, ["a", "b"], id="waiting beats fair share"
        ),
        pytest.param(
            [ticket("a", ago=361), ticket("b", priority=2)], {}, ["b", "a"], id="two points beat six hours"
        ),
        pytest.param(
            [ticket("a", ago=721), ticket("b", priority=1)], {}, ["a", "b"], id="twelve hours beat one point"
        ),
        pytest.param(
            [ticket("a1", "ann", 9), ticket("a2", "ann", 8), ticket("b", "ben", 1)],
            {},
            ["a1", "b", "a2"],
            id="a second place comes after everybody's first",
        ),
        pytest.param(
            [ticket("a1", "ann", 9, state="starting"), ticket("a2", "ann", 8), ticket("b", "ben", 1)],
            {},
            ["b", "a2"],
            id="a place being served counts as a turn",
        ),
    ],
)
def test_the_order_of_the_line(tickets, usage, expected):
    assert names(line_up(tickets, Usage(users=usage), NOW, Rules())) == expected


def test_a_group_s_use_decides_between_equal_people():
    tickets = [ticket("a", ago=5, groups=("big",)), ticket("b", ago=1, groups=("small",))]
    usage = Usage(groups={"big": 100.0, "small": 1.0})
    assert names(line_up(tickets, usage, NOW, Rules())) == ["b", "a"]


@pytest.mark.parametrize(("hours", "expected"), [(0, 0), (0.99, 0), (1, 1), (3, 2), (7, 3), (1000, 9)])
def test_steps_of_recent_use(hours, expected):
    assert step(hours, 1.0) == expected


class TestGrants:
    def test_a_free_device_goes_to_the_first(self):
        tickets = [ticket("a", ago=2), ticket("b", ago=1)]
        answer = next_grants(tickets, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        grant, wait = answer
        assert isinstance(grant, Grant)
        assert (grant.ticket.id, grant.devices) == ("a", (B,))
        assert isinstance(wait, Wait)
        assert (wait.ticket.id, wait.position, wait.code) == ("b", 1, "busy")

    def test_nothing_is_granted_twice(self):
        tickets = [ticket(str(i), ago=9 - i) for i in range(5)]
        answer = decide(tickets, pool(), Usage(), NOW, Rules())
        assert sorted(g.devices for g in answer.grants) == [(A,), (B,)]
        assert names(answer.waiting) == ["2", "3", "4"]

    def test_the_head_that_needs_both_keeps_the_free_one(self):
        tickets = [ticket("big", ago=9, count=2), ticket("small", ago=1)]
        answer = next_grants(tickets, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        assert [(w.ticket.id, w.code) for w in answer] == [("big", "busy"), ("small", "kept")]

    def test_a_session_that_ends_before_the_head_starts_may_pass(self):
        tickets = [ticket("big", ago=9, count=2), ticket("short", ago=1, length=H - M)]
        answer = decide(tickets, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        assert [(g.ticket.id, g.devices) for g in answer.grants] == [("short", (B,))]

    def test_a_session_that_would_end_later_may_not(self):
        tickets = [ticket("big", ago=9, count=2), ticket("long", ago=1, length=H + M)]
        assert decide(tickets, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules()).grants == []

    def test_greedy_rules_let_everybody_pass_and_strict_ones_nobody(self):
        tickets = [ticket("big", ago=9, count=2), ticket("small", ago=1)]
        greedy = decide(tickets, pool(A), Usage(), NOW, Rules(backfill="greedy"))
        assert names(g.ticket for g in greedy.grants) == ["small"]
        strict = decide(tickets, pool(A), Usage(), NOW, Rules(backfill="none"))
        assert strict.grants == []

    def test_over_one_s_own_limits_one_keeps_the_place_and_stands_in_nobody_s_way(self):
        tickets = [ticket("a", ago=9), ticket("b", ago=1)]
        entitled = lambda t, grants: "you hold 1.00 of 1.00" if t.id == "a" else ""  # noqa: E731
        grant, wait = next_grants(tickets, pool(A), Usage(), NOW, Rules(), entitled)
        assert grant.ticket.id == "b"
        assert (wait.ticket.id, wait.code, wait.reason) == ("a", "limit", "you hold 1.00 of 1.00")

    def test_limits_see_what_this_pass_has_granted(self):
        tickets = [ticket("a1", "ann", 9), ticket("a2", "ann", 8)]
        entitled = lambda t, grants: "enough" if any(g.ticket.user == t.user for g in grants) else ""  # noqa: E731
        answer = decide(tickets, pool(), Usage(), NOW, Rules(), entitled)
        assert names(g.ticket for g in answer.grants) == ["a1"]
        assert answer.limited == {"a2": "enough"}

    def test_a_drained_device_is_not_granted_and_a_hold_only_to_its_ticket(self):
        blocks = {
            A: Block("drained", "fan"),
            B: Block("reserved", "held", exempt=frozenset({"ticket:b"})),
        }
        answer = decide([ticket("a", ago=9), ticket("b")], pool(blocks=blocks), Usage(), NOW, Rules())
        assert [(g.ticket.id, g.devices) for g in answer.grants] == [("b", (B,))]

    def test_the_guard_stops_others_but_not_the_queue(self):
        guard = {u: Block("reserved", "people wait", exempt=frozenset({"queue"})) for u in (A, B)}
        assert len(decide([ticket("a")], pool(blocks=guard), Usage(), NOW, Rules()).grants) == 1

    def test_devices_people_wait_for_are_guarded(self):
        answer = decide([ticket("a")], pool(A, B, ends={A: NOW + H, B: NOW + H}), Usage(), NOW, Rules())
        assert answer.guarded == {A, B}
        assert decide([], pool(), Usage(), NOW, Rules()).guarded == frozenset()

    def test_cpu_only_starts_at_once_whatever_waits(self):
        answer = decide([ticket("c", profile="none")], pool(A, B), Usage(), NOW, Rules())
        assert [g.devices for g in answer.grants] == [()]

    def test_what_this_machine_does_not_have_is_impossible(self):
        (wait,) = next_grants([ticket("a", profile="7g.80gb")], pool(), Usage(), NOW, Rules())
        assert wait.code == "impossible"
        assert "has 3g.40gb" in wait.reason

    def test_a_stranger_s_container_is_not_expected_to_end(self):
        foreign = PlacementPool(PAIR, [Holding(A, "x"), Holding(B, "x")], {}, {})
        answer = decide([ticket("a")], foreign, Usage(), NOW, Rules())
        assert list(answer.targets.values()) == [None]

    def test_who_is_before_is_told_by_class(self):
        tickets = [ticket("a", ago=9), ticket("b", ago=8, count=2), ticket("c", ago=7)]
        full = pool(A, B, ends={A: NOW + H, B: NOW + 2 * H})
        waits = next_grants(tickets, full, Usage(), NOW, Rules())
        assert [w.position for w in waits] == [1, 2, 3]
        assert waits[2].ahead == (("2 × 3g.40gb", 1), ("3g.40gb", 1))
        assert waits[2].reason == "2 places are before it for the same devices"


DRAWN = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 2000), st.sampled_from([1, 1, 2]), st.integers(-2, 2)),
    max_size=12,
)


@example([(0, 719, 2, 2), (0, 720, 1, 0), (1, 510, 1, 2)], set(), 211)
@settings(max_examples=150, deadline=None)
@given(DRAWN, st.sets(st.sampled_from([A, B])), st.integers(1, 500))
def test_no_device_is_promised_twice_and_the_head_is_never_delayed(drawn, held, minutes):
    tickets = [
        ticket(f"t{i}", f"u{user}", ago, count=count, priority=priority)
        for i, (user, ago, count, priority) in enumerate(drawn)
    ]
    ends = dict.fromkeys(held, NOW + minutes * M)
    answer = decide(tickets, pool(*held, ends=ends), Usage(), NOW, Rules())
    granted = [u for g in answer.grants for u in g.devices]
    assert len(granted) == len(set(granted))
    assert not set(granted) & held
    line = line_up(tickets, Usage(), NOW, Rules())
    if line:
        alone = decide([line[0]], pool(*held, ends=ends), Usage(), NOW, Rules())
        together = answer.grants[:1] if answer.grants and answer.grants[0].ticket is line[0] else []
        assert [g.devices for g in alone.grants] == [g.devices for g in together]
    if answer.waiting:
        # Whoever heads those who wait starts no later than if nobody had been behind.
        head = answer.waiting[0]
        front = line[: line.index(head) + 1]
        # A person's second place comes later only while the first one is in the line.
        assume(line_up(front, Usage(), NOW, Rules()) == front)
        alone = decide(front, pool(*held, ends=ends), Usage(), NOW, Rules())
        key = pool().key(head)
        assert alone.targets[key] == answer.targets[key]
        if (target := answer.targets[key]) is not None:
            after = [g for g in answer.grants if line.index(g.ticket) > line.index(head)]
            assert not {u for g in after for u in g.devices} & set(target.devices)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30))
def test_whatever_the_use_and_the_stream_of_newcomers_nobody_starves(hours, newcomers):
    heavy = ticket("heavy", ago=60 * 24)
    fresh = [ticket(f"n{i}", ago=i) for i in range(newcomers)]
    line = line_up([*fresh, heavy], Usage(users={"user-heavy": float(hours)}), NOW, Rules())
    assert line[0] is heavy


@settings(max_examples=200, deadline=None)
@given(
    st.sets(st.integers(0, len(DEVICES) - 1)),
    st.sets(st.integers(0, len(DEVICES) - 1)),
    st.sampled_from([10, 20, 40, 80]),
)
def test_the_simulated_fleet_answers_as_the_real_pool_does(held, kept, size):
    fleet = FleetPool()
    order = {name: i for i, name in enumerate(fleet.names)}
    # One card for each device: then "the fullest card" never decides, as in the fleet.
    devices = tuple(
        Device(n, "x", f"{c}g.{m}gb", m, c, f"card-{n}", 0)
        for n, (m, c) in zip(fleet.names, DEVICES, strict=True)
    )
    cards = tuple(Card(f"card-{n}", "x", 80, True, index=i) for n, i in order.items())
    inventory = Inventory("simulated", devices, cards)
    names_of = lambda numbers: frozenset(fleet.names[i] for i in numbers)  # noqa: E731
    real = PlacementPool(inventory, [Holding(u, "x", "session") for u in names_of(held)], {}, {})
    fleet.since = dict.fromkeys(names_of(held), 0.0)
    asked = Ticket("t", "u", NOW, GpuRequest("auto", min_memory_mib=size))
    assert fleet.find(asked, names_of(kept)) == real.find(asked, names_of(kept))
    assert fleet.eligible(asked) == real.eligible(asked)

"""The edges of the queue's rules, one literal case each: a changed sign or bound turns one over."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from ds01spawner.placement.devices import Block, Card, Device, GpuRequest, Holding, Inventory
from ds01spawner.queue.estimate import Calibration, Lengths, estimate
from ds01spawner.queue.order import decide, explain, hold_back, line_up, next_grants, step
from ds01spawner.queue.pool import PlacementPool
from ds01spawner.queue.preempt import Preemptible, victims
from ds01spawner.queue.scarcity import ScarcityGuard
from ds01spawner.queue.ticket import Rules, Ticket, Usage

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
S, M, H = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
A, B, C = "MIG-A", "MIG-B", "MIG-C"
PLAIN = Calibration(1.0, 1.0, 0)


def machine(*profiles: str) -> Inventory:
    """One card with a slice A, B, C, … for each profile."""
    devices = tuple(
        Device(f"MIG-{letter}", "A100", profile, int(profile[0]) * 10240, int(profile[0]), "GPU-1", i)
        for i, (letter, profile) in enumerate(zip("ABC", profiles, strict=False))
    )
    return Inventory("simulated", devices, (Card("GPU-1", "A100", 81920, True),))


PAIR = machine("3g.40gb", "3g.40gb")
TRIO = machine("2g.20gb", "2g.20gb", "2g.20gb")
MIXED = machine("3g.40gb", "1g.10gb")


def ticket(name, ago=timedelta(0), profile="3g.40gb", count=1, user=None, **kw):
    return Ticket(name, user or f"user-{name}", NOW - ago, GpuRequest(profile, count), **kw)


def pool(*held, ends=None, inventory=PAIR, blocks=None):
    holdings = [Holding(u, holder="x", kind="session") for u in held]
    return PlacementPool(inventory, holdings, blocks or {}, ends or {})


def granted(decision):
    return {g.ticket.id: g.devices for g in decision.grants}


class TestPassing:
    """Whoever waits for devices gets them when they were promised, to the second."""

    @pytest.mark.parametrize(("length", "passes"), [(H - S, True), (H, True), (H + S, False), (None, False)])
    def test_who_ends_in_the_very_second_of_the_promise_may_pass(self, length, passes):
        line = [ticket("big", 9 * M, count=2), ticket("other", M, length=length)]
        answer = decide(line, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        assert granted(answer) == ({"other": (B,)} if passes else {})

    def test_another_of_a_class_that_waits_passes_only_with_a_bounded_length(self):
        """The head of two-device tickets cannot start; a later one of its kind is tried only when bounded."""
        line = [ticket("a", 9 * M, count=2), ticket("b", 8 * M, count=2, length=M)]
        answer = decide(line, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        assert granted(answer) == {}
        # A drained device lifted for b only: it is of another class then, and starts.
        blocks = {A: Block("reserved", "course", exempt=frozenset({"user:user-b"}))}
        apart = decide(line, pool(blocks=blocks), Usage(), NOW, Rules())
        assert granted(apart) == {"b": (A, B)}

    def test_a_bounded_one_of_the_same_class_may_use_what_the_head_cannot_yet(self):
        """Both want one 3g; the free one is withheld until an hour from now for a head that needs both."""
        line = [ticket("head", 9 * M, count=2), ticket("x", 8 * M), ticket("y", 7 * M, length=30 * M)]
        answer = decide(line, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        assert granted(answer) == {"y": (B,)}
        greedy = decide(line, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules(backfill="greedy"))
        assert granted(greedy) == {"x": (B,)}

    def test_greedy_rules_promise_nothing(self):
        answer = decide(
            [ticket("a")], pool(A, B, ends={A: NOW + H, B: NOW + H}), Usage(), NOW, Rules(backfill="greedy")
        )
        assert list(answer.targets.values()) == [None]

    def test_promises_to_several_are_kept_from_those_behind_all_of_them(self):
        """Two classes wait, each for its own device; a third that could use both keeps off both."""
        inventory = machine("3g.40gb", "1g.10gb", "2g.20gb")
        ends = {A: NOW + H, B: NOW + 2 * H, C: NOW + 3 * H}
        line = [ticket("a", 9 * M), ticket("b", 8 * M, "1g.10gb"), ticket("c", 7 * M, "2g.20gb")]
        answer = decide(line, pool(A, B, C, ends=ends, inventory=inventory), Usage(), NOW, Rules())
        targets = {t.devices: t.start for t in answer.targets.values() if t}
        assert targets == {(A,): NOW + H, (B,): NOW + 2 * H, (C,): NOW + 3 * H}
        assert answer.guarded == {A, B, C}

    def test_what_is_promised_to_one_is_not_promised_to_the_next(self):
        """Three classes that could all use any of three devices: each is promised another one."""
        ends = {A: NOW + H, B: NOW + 2 * H, C: NOW + 3 * H}
        any_of = GpuRequest("auto", min_memory_mib=1)
        line = [ticket("a", 9 * M, "2g.20gb"), ticket("b", 8 * M, "auto"), Ticket("c", "c", NOW, any_of)]
        answer = decide(line, pool(A, B, C, ends=ends, inventory=TRIO), Usage(), NOW, Rules())
        assert [(t.devices, t.start) for t in answer.targets.values()] == [
            ((A,), NOW + H),
            ((B,), NOW + 2 * H),
            ((C,), NOW + 3 * H),
        ]


class TestOrder:
    def test_a_third_place_comes_after_two_of_everybody_else(self):
        line = [ticket(f"a{i}", (30 - i) * M, user="ann") for i in range(3)]
        line += [ticket(f"b{i}", (9 - i) * M, user="ben") for i in range(2)]
        assert [t.id for t in line_up(line, Usage(), NOW, Rules())] == ["a0", "b0", "a1", "b1", "a2"]

    def test_of_two_that_came_in_the_same_second_the_smaller_id_is_first_and_tickets_are_not_compared(self):
        line = [ticket("b"), ticket("a")]
        assert [t.id for t in line_up(line, Usage(), NOW, Rules())] == ["a", "b"]
        twice = [ticket("a"), ticket("a")]
        assert [t.id for t in line_up(twice, Usage(), NOW, Rules())] == ["a", "a"]

    @pytest.mark.parametrize(
        ("hours", "unit", "expected"), [(3, 1.0, 2), (6, 2.0, 2), (2, 4.0, 0), (-5, 1.0, 0)]
    )
    def test_steps_are_counted_in_the_unit(self, hours, unit, expected):
        assert step(hours, unit) == expected

    def test_who_is_in_no_group_or_in_an_unused_one_has_used_nothing(self):
        used = Usage(groups={"big": 1.0})
        line = [ticket("a", M, groups=("big",)), ticket("b", groups=("new",)), ticket("c")]
        assert [t.id for t in line_up(line, used, NOW, Rules())] == ["b", "c", "a"]
        # The least used of one's groups counts.
        both = [ticket("a", groups=("big", "new")), ticket("b", M, groups=("big",))]
        assert [t.id for t in line_up(both, used, NOW, Rules())] == ["a", "b"]

    def test_who_has_no_record_has_used_nothing(self):
        used = Usage(users={"user-a": 1.0})
        assert [t.id for t in line_up([ticket("a", M), ticket("b")], used, NOW, Rules())] == ["b", "a"]

    @pytest.mark.parametrize(
        ("order", "tickets", "usage", "expected"),
        [
            ("fifo", [ticket("a", M), ticket("b", 2 * M, priority=-9)], {"user-b": 99.0}, ["b", "a"]),
            (
                "shortest",
                [ticket("a", 9 * M), ticket("b", length=2 * H), ticket("c", length=H)],
                {},
                ["c", "b", "a"],
            ),
            # Seven days of waiting, all of the fair share and one point of priority weigh the same.
            ("multifactor", [ticket("a", 7 * 24 * H), ticket("b", priority=1)], {}, ["a", "b"]),
            ("multifactor", [ticket("a", 6.9 * 24 * H), ticket("b", priority=1)], {}, ["b", "a"]),
            ("multifactor", [ticket("a", 99 * 24 * H), ticket("b", priority=2)], {}, ["b", "a"]),
            ("multifactor", [ticket("a", M), ticket("b")], {"user-a": 3.0, "user-c": 1.0}, ["b", "a"]),
            # Half of the use among two people: half a share lost, as much as three and a half days bring.
            (
                "multifactor",
                [ticket("a", 3.4 * 24 * H), ticket("b")],
                {"user-a": 2.0, "user-c": 2.0},
                ["b", "a"],
            ),
            (
                "multifactor",
                [ticket("a", 3.6 * 24 * H), ticket("b")],
                {"user-a": 2.0, "user-c": 2.0},
                ["a", "b"],
            ),
            # All of the use, alone: half a share as well, since one person is all people.
            ("multifactor", [ticket("a", 3.4 * 24 * H), ticket("b")], {"user-a": 1.0}, ["b", "a"]),
            ("multifactor", [ticket("a", 3.6 * 24 * H), ticket("b")], {"user-a": 1.0}, ["a", "b"]),
        ],
    )
    def test_the_orders_that_are_compared_in_the_simulation(self, order, tickets, usage, expected):
        rules = Rules(order=order)
        assert [t.id for t in line_up(tickets, Usage(users=usage), NOW, rules)] == expected


class TestHoldingBack:
    def decision(self):
        line = [ticket("a", 9 * M), ticket("b", 8 * M), ticket("c", 7 * M)]
        return decide(line, pool(ends={}), Usage(), NOW, Rules())

    @pytest.mark.parametrize(("room", "kept"), [(2, ["a", "b"]), (1, ["a"]), (0, []), (-1, [])])
    def test_only_as_many_as_there_is_room_for(self, room, kept):
        answer, devices = self.decision(), pool()
        hold_back(answer, devices, room, "one at a time")
        assert [g.ticket.id for g in answer.grants] == kept
        later = [i for i in ("a", "b") if i not in kept]
        assert [t.id for t in answer.waiting] == [*later, "c"]
        assert answer.limited == dict.fromkeys(later, "one at a time")

    def test_the_devices_of_those_held_back_are_guarded_beside_those_waited_for(self):
        blocks = {B: Block("drained", "fan")}
        line = [ticket("a", 9 * M), ticket("x", 8 * M, "1g.10gb")]
        mixed = machine("3g.40gb", "3g.40gb", "1g.10gb")
        devices = pool(C, ends={C: NOW + H}, inventory=mixed, blocks=blocks)
        answer = decide(line, devices, Usage(), NOW, Rules())
        assert (granted(answer), answer.guarded) == ({"a": (A,)}, {C})
        hold_back(answer, devices, 0, "later")
        assert answer.guarded == {A, C}


class TestWords:
    def test_one_place_and_several_before(self):
        full = pool(A, B, ends={A: NOW + H, B: NOW + H})
        line = [ticket("a", 9 * M), ticket("b", 8 * M), ticket("c", 7 * M)]
        waits = next_grants(line, full, Usage(), NOW, Rules())
        assert [(w.code, w.reason) for w in waits[1:]] == [
            ("behind", "1 place is before it for the same devices"),
            ("behind", "2 places are before it for the same devices"),
        ]

    def test_those_who_want_other_devices_are_not_before(self):
        held = pool(A, B, ends={A: NOW + H, B: NOW + H}, inventory=MIXED)
        line = [ticket("a", 9 * M), ticket("b", 8 * M, "1g.10gb")]
        assert [w.ahead for w in next_grants(line, held, Usage(), NOW, Rules())] == [(), ()]

    def test_why_a_free_device_is_not_given(self):
        line = [ticket("big", 9 * M, count=2), ticket("small", M)]
        answer = decide(line, pool(A, ends={A: NOW + H}), Usage(), NOW, Rules())
        waits = explain(answer, pool(A, ends={A: NOW + H}))
        assert waits[1].reason == "the free device is kept for somebody who waits longer and needs it whole"
        assert waits[1].code == "kept"

    def test_no_words_for_who_needs_no_device(self):
        assert pool().why(ticket("cpu", profile="none")) == ""


class TestPool:
    def test_what_one_takes_the_next_cannot_have_and_it_counts_as_a_session(self):
        devices = pool()
        devices.take(ticket("a", user="ann"), (A,))
        assert devices.holdings == [Holding(A, "somebody in the queue", "session", "ann")]
        assert devices.find(ticket("b"), frozenset()) == (B,)
        assert devices.why(ticket("b", count=2)) == "of 2 such devices 1 is free: 1 in use by sessions"

    def test_what_others_are_promised_is_not_a_target(self):
        both = pool(A, B, ends={A: NOW + H, B: NOW + 2 * H})
        assert both.target(ticket("a"), frozenset()).devices == (A,)
        assert both.target(ticket("a"), frozenset({A})).devices == (B,)
        assert both.target(ticket("a"), frozenset({A, B})) is None

    def test_the_target_is_the_earliest_of_many_ends(self):
        """Seven devices end one after the other; for each count it is the end that makes it possible."""
        slices = tuple(Device(f"M{i}", "A100", "1g.10gb", 10240, 1, "G", i) for i in range(7))
        inventory = Inventory("simulated", slices, (Card("G", "A100", 81920, True),))
        ends = {f"M{i}": NOW + (i + 1) * H for i in range(7)}
        full = pool(*ends, ends=ends, inventory=inventory)
        starts = [
            full.target(ticket("t", profile="1g.10gb", count=n), frozenset()).start for n in range(1, 8)
        ]
        assert starts == [NOW + n * H for n in range(1, 8)]

    def test_the_site_s_strategy_decides_which_is_taken(self):
        cards = (Card("G1", "A100", 81920, True, index=0), Card("G2", "A100", 81920, True, index=1))
        slices = tuple(
            Device(f"{card}-{i}", "A100", "1g.10gb", 10240, 1, card, i)
            for card in ("G1", "G2")
            for i in (0, 1)
        )
        inventory = Inventory("simulated", slices, cards)
        held = [Holding("G1-0", "x", "session")]
        asked = ticket("t", profile="1g.10gb")
        pack = PlacementPool(inventory, held, {}, {})
        spread = PlacementPool(inventory, held, {}, {}, "spread")
        assert (pack.find(asked, frozenset()), spread.find(asked, frozenset())) == (("G1-1",), ("G2-0",))
        with pytest.raises(ValueError, match="known are"):
            PlacementPool(inventory, held, {}, {}, "lucky").eligible(asked)
        with pytest.raises(ValueError, match="known are"):
            PlacementPool(inventory, held, {}, {}, "lucky").why(asked)

    def test_a_block_lifted_for_somebody_is_no_hindrance_to_them_alone(self):
        blocks = {
            A: Block("reserved", "course", exempt=frozenset({"user:user-a"})),
            B: Block("drained", "fan"),
        }
        devices = pool(blocks=blocks)
        assert devices.eligible(ticket("a")) == {A}
        assert devices.eligible(ticket("b")) == frozenset()
        assert devices.why(ticket("a")) == ""
        assert (
            devices.why(ticket("b")) == "of 2 such devices none is free: 1 reserved (course), 1 drained (fan)"
        )


class TestRoomForOthers:
    DEVICES = ("A", "B", "C", "D")

    def session(self, name, age, warned=False):
        return Preemptible(name, f"u-{name}", "", "p", NOW - age, warned)

    def place(self, ticket, holdings):
        """A ticket ``p-AB`` needs just those two; any other as many as it counts."""
        free = [d for d in self.DEVICES if d not in {h.uuid for h in holdings}]
        if ticket.id.startswith("p-"):
            want = tuple(ticket.id[2:])
            return want if set(want) <= set(free) else None
        return tuple(free[: ticket.request.count]) if len(free) >= ticket.request.count else None

    def test_a_session_that_began_with_the_reservation_stays(self):
        sessions = {"s": self.session("s", H)}
        held = [Holding("A", "s", "session", session="s")]
        assert victims([], sessions, held, self.place, {"A": NOW - H}) == []
        assert victims([], sessions, held, self.place, {"A": NOW - H + S}) == [sessions["s"]]

    def test_who_turned_out_not_to_be_in_the_way_stays(self):
        """The youngest is asked first, but its device is none of the two that are needed."""
        sessions = {n: self.session(n, age) for n, age in (("c", 10 * M), ("a", 20 * M), ("b", 30 * M))}
        held = [Holding(n.upper(), n, "session", session=n) for n in "abc"]
        gone = victims([ticket("p-AB")], sessions, held, self.place)
        assert [v.session for v in gone] == ["a", "b"]

    def test_the_devices_somebody_gets_are_not_given_to_the_next(self):
        """One free device and two who wait: the second needs a session to go, the first does not."""
        sessions = {"s": self.session("s", H)}
        held = [Holding(d, "x", "session") for d in "AB"] + [Holding("C", "s", "session", session="s")]
        assert victims([ticket("t")], sessions, held, self.place) == []
        assert [v.session for v in victims([ticket("t"), ticket("u")], sessions, held, self.place)] == ["s"]
        assert [
            v.session for v in victims([ticket("t"), ticket("u"), ticket("v")], sessions, held, self.place)
        ] == ["s"]

    def test_what_is_held_for_one_after_several_went_is_what_it_was_given(self):
        """After two sessions made room for p-AB the next ticket must not be given A or B again."""
        sessions = {n: self.session(n, age) for n, age in (("a", 20 * M), ("b", 30 * M), ("d", 90 * M))}
        held = [Holding(n.upper(), n, "session", session=n) for n in "abd"] + [Holding("C", "x", "session")]
        gone = victims([ticket("p-AB"), ticket("t")], sessions, held, self.place)
        assert [v.session for v in gone] == ["a", "b", "d"]


class TestEstimates:
    def test_history_counts_from_the_twentieth_session_on(self):
        assert Lengths([1.0] * 19).remaining(0.0) == 4.0
        assert Lengths([1.0] * 20).remaining(0.0) == 1.0
        assert (Lengths([1.0] * 19).mean, Lengths([1.0] * 20).mean) == (4.0, 1.0)

    def test_sessions_without_a_length_teach_nothing(self):
        assert (len(Lengths([0.0, -1.0, 2.0])), Lengths([0.0] * 9 + [2.0]).median) == (1, 2.0)

    def test_five_that_lasted_longer_are_enough(self):
        """Fifteen of one hour and five of ten: after two hours those five say eight more."""
        assert Lengths([1.0] * 15 + [10.0] * 5).remaining(2.0) == pytest.approx(8.0)
        # With four the age decides, or the longest shared out among all.
        assert Lengths([1.0] * 16 + [10.0] * 4).remaining(2.0) == pytest.approx(1.0)
        assert Lengths([1.0] * 15 + [2.0, 3.0, 4.0, 50.0, 100.0]).remaining(2.5) == pytest.approx(5.0)

    def test_something_is_always_left(self):
        assert Lengths([1.0] * 20 + [1.0 + 1e-9] * 20).remaining(1.0) == 0.01

    def test_a_calibration_counts_from_the_twentieth_wait_on_and_only_what_was_estimated(self):
        assert Calibration.learn([(2.0, 4.0, 8.0)] * 19) == Calibration(1.0, 1.6, 19)
        assert Calibration.learn([(2.0, 4.0, 8.0)] * 20) == Calibration(4.0, 2.0, 20)
        useless = [(0.0, 4.0, 8.0), (2.0, 0.0, 8.0)] * 20
        assert Calibration.learn([(2.0, 4.0, 8.0)] * 20 + useless) == Calibration(4.0, 2.0, 20)

    def test_the_ninth_tenth_of_twenty(self):
        past = [(1.0, 1.0, i / 10) for i in range(1, 21)]
        assert (Calibration.learn(past).f50, Calibration.learn(past).f90) == (1.1, 1.9)

    def test_the_factors_multiply_what_the_model_says(self):
        plain, found = estimate([4.0], 1, PLAIN), estimate([4.0], 1, Calibration(0.5, 2.0, 0))
        assert found.p50 / plain.p50 == pytest.approx(0.5)
        assert found.p90 / plain.p90 == pytest.approx(2.0)
        assert found.model90 == plain.p90

    def test_the_nth_end_bounds_the_nth_start(self):
        assert estimate([40.0, 40.0], 2, PLAIN, latest=[5.0, 1.0]).p90 == 5 * H

    def test_nothing_is_said_to_take_longer_than_a_year(self):
        assert estimate([1e9], 1, PLAIN).p50 == timedelta(days=365)

    def test_the_basis_names_what_there_is_enough_of(self):
        basis = estimate([4.0], 1, Calibration(1, 1, 20), lengths=Lengths([2.0] * 20)).basis
        assert basis == (
            "1 device that you could use is in use and you are first in line for them; "
            "the median length of 20 past sessions is 2 h; "
            "corrected by the last 20 waits, 90 % of which were shorter"
        )


class TestStandingBack:
    """Who can use anything leaves the large device to those who can use nothing else."""

    def kept(self, line, who, inventory=MIXED, rules=None, **kw):
        devices = pool(inventory=inventory)
        guard = ScarcityGuard(line, devices, NOW, rules or Rules(), **kw)
        asking = next(t for t in line if t.id == who)
        guard.passed(asking)
        return guard.kept_from(asking)

    def test_only_in_a_line_of_several_ordered_by_fair_share_that_promises(self):
        line = [ticket("any", 30 * M, "auto"), ticket("large", 10 * M)]
        assert self.kept(line, "any") == {A}
        assert self.kept(line[:1], "any") == frozenset()
        for rules in (Rules(order="fifo"), Rules(backfill="greedy"), Rules(backfill="none")):
            assert self.kept(line, "any", rules=rules) == frozenset()

    def test_who_had_a_turn_is_not_stood_back_for_any_more(self):
        line = [ticket("any", 30 * M, "auto"), ticket("large", 10 * M)]
        guard = ScarcityGuard(line, pool(inventory=MIXED), NOW, Rules())
        for one in line:
            guard.passed(one)
            guard.passed(one)  # twice does no harm
        assert guard.kept_from(line[0]) == frozenset()

    @pytest.mark.parametrize(("ahead", "kept"), [(48 * H, frozenset({A})), (48 * H + S, frozenset())])
    def test_nobody_stands_back_who_has_waited_two_days_longer(self, ahead, kept):
        crowd = [ticket(f"large{i}", 10 * M) for i in range(40)]
        assert self.kept([ticket("any", 10 * M + ahead, "auto"), *crowd], "any") == kept

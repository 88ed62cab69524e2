"""The simulation is repeatable, and our rules keep their promises in a short one."""

import pytest

from ds01spawner.cli.simulate_queue import compare, meets_goals
from ds01spawner.queue import simulation
from ds01spawner.queue.simulation import (
    CLASSES,
    RULES,
    Arrival,
    arrivals,
    jain,
    least_longest,
    quantile,
    simulate,
)


@pytest.mark.parametrize(
    ("values", "expected"), [([1, 1, 1, 1], 1.0), ([4, 0, 0, 0], 0.25), ([3, 1], 0.8), ([0, 0], 1.0)]
)
def test_jain(values, expected):
    assert jain(values) == expected


@pytest.mark.parametrize(("q", "expected"), [(0, 1), (0.5, 6), (0.95, 10), (1, 10)])
def test_quantile(q, expected):
    assert quantile(range(1, 11), q) == expected


def test_the_same_seed_gives_the_same_run():
    coming = arrivals(3, 0.55, 500)
    assert coming == arrivals(3, 0.55, 500)
    assert simulate(coming, RULES["ds01"]).waits == simulate(coming, RULES["ds01"]).waits


def test_everybody_is_served_by_every_rule():
    coming = arrivals(1, 0.5, 800)
    for rules in RULES.values():
        outcome = simulate(coming, rules)
        assert sum(map(len, outcome.waits.values())) == 800
        assert outcome.unserved == 0


def test_a_rule_that_does_not_keep_up_is_found_out(monkeypatch):
    monkeypatch.setattr(simulation, "GIVE_UP", 100)
    outcome = simulate(arrivals(1, 0.9, 3000), RULES["fifo"])
    assert outcome.overloaded
    assert outcome.unserved == 3000 - sum(map(len, outcome.waits.values())) > 500


def test_the_goals_hold_at_the_load_they_are_set_for():
    rules = compare(rules=("ds01", "fifo"), seeds=(1,), count=8000, processes=1)[0.55]
    ours = rules["ds01"]
    assert meets_goals(ours), ours
    assert ours["p95_wait_largest"] < rules["fifo"]["p95_wait_largest"]
    assert ours["p95_wait_smallest"] < 1 < rules["fifo"]["p95_wait_smallest"]


def test_the_mix_is_a_mix():
    assert sum(p for _, p in CLASSES) == pytest.approx(1.0)


def test_the_longest_wait_stays_near_the_least_one_can_hope_for():
    """By the time waited alone, those who need the whole card would wait half as long again."""
    coming = arrivals(9, 0.95, 3000)
    least = least_longest(coming)
    longest = max(max(waits) for waits in simulate(coming, RULES["ds01"]).waits.values())
    assert least == pytest.approx(14.3, abs=0.05)
    assert least <= longest < least + 3


def test_the_least_longest_wait_is_that_of_a_line_for_the_devices_that_fit():
    """Three come at once for the one whole card and stay a mean length each; small ones have devices."""
    large = [Arrival(0.0, 0, 80, 4.0)] * 3
    assert least_longest([*large, *[Arrival(0.0, 1, 10, 4.0)] * 9]) == 2.0

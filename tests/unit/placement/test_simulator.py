"""The simulator chooses as `place` does, counts what it says, and the shipped strategy meets its goals."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import FOUR_CARDS

from ds01spawner.cli.simulate import compare
from ds01spawner.placement import STRATEGIES, place
from ds01spawner.placement.devices import GpuRequest, Holding
from ds01spawner.placement.load_simulator import (
    GIB,
    MIX,
    Arrival,
    Machine,
    arrivals,
    offline_bound,
    reference_layout,
    simulate,
)


@given(
    seed=st.integers(0, 10**6),
    strategy=st.sampled_from(sorted(STRATEGIES)),
    layout=st.sampled_from([reference_layout(), FOUR_CARDS]),
)
def test_the_simulator_chooses_exactly_as_place_does(seed, strategy, layout):
    chance = random.Random(seed)
    machine = Machine(layout, STRATEGIES[strategy])
    for _ in range(40):
        busy = sorted(set(range(len(machine.devices))) - machine.free)
        holdings = [Holding(machine.devices[n].uuid, "x", "session") for n in busy]
        need = chance.choice([n for n, _ in MIX])
        placed = place(GpuRequest("auto", min_memory_mib=need), layout, holdings, strategy=strategy)
        chosen = machine.choose(need)
        assert placed.devices == (() if chosen is None else (machine.devices[chosen],))
        if chosen is not None and chance.random() < 0.8:
            machine.take(chosen)
        elif busy:
            machine.release(chance.choice(busy))


def test_the_reference_layout_has_fourteen_devices():
    layout = reference_layout()
    profiles = [d.profile for d in layout.devices]
    assert len(layout.cards) == 4
    assert {p: profiles.count(p) for p in profiles} == {"full": 1, "3g.40gb": 3, "2g.20gb": 1, "1g.10gb": 9}


def test_a_history_by_hand():
    """Eleven small sessions, then one of 20 GB and two of 80 GB."""
    layout = reference_layout()
    history = [Arrival(n / 100, 10, 10 * GIB) for n in range(11)]
    history += [Arrival(1, 10, 20 * GIB), Arrival(2, 10, 80 * GIB), Arrival(3, 10, 80 * GIB)]
    first = simulate(layout, STRATEGIES["first-fit"], history)
    # First fit put a small session on the whole card: moving it would have let either large one in.
    assert (first.refused, first.avoidable) == (2 / 14, 2 / 14)
    # Best fit kept the whole card for the first of them; nobody could have served both.
    best = simulate(layout, STRATEGIES["best-fit"], history)
    assert (best.refused, best.avoidable) == (1 / 14, 0.0)
    assert offline_bound(layout, history) == 1 / 14


def test_the_bound_drops_what_ends_last():
    layout = reference_layout()
    history = [Arrival(0, 100, 80 * GIB), *(Arrival(n, n + 0.5, 80 * GIB) for n in range(1, 10))]
    assert offline_bound(layout, history) == 0.1


@pytest.mark.parametrize("load", [0.3, 0.7])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_no_strategy_beats_the_bound(load, name):
    layout = reference_layout()
    history = arrivals(14, load, 7, 2000)
    outcome = simulate(layout, STRATEGIES[name], history)
    assert 0 <= outcome.avoidable <= outcome.refused
    assert outcome.refused >= offline_bound(layout, history)


def test_a_seed_gives_the_same_history_again():
    assert arrivals(14, 0.45, 3, 50) == arrivals(14, 0.45, 3, 50)
    assert arrivals(14, 0.45, 3, 50) != arrivals(14, 0.45, 4, 50)


def test_best_fit_meets_its_goals_at_the_reference_load():
    rules = compare(reference_layout(), 0.45, seeds=5)["rules"]
    assert rules["best-fit"]["refused"] <= 0.5 * rules["first-fit"]["refused"]
    assert rules["best-fit"]["avoidable"] <= 0.015
    assert rules["best-fit"]["idle_cards"] > rules["first-fit"]["idle_cards"] > rules["spread"]["idle_cards"]

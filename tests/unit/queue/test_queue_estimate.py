"""Estimates: literal cases, and that they hold on invented people."""

from datetime import timedelta
from random import Random

import pytest

from ds01spawner.queue.estimate import Calibration, Lengths, estimate

PLAIN = Calibration(1.0, 1.0, 0)


@pytest.mark.parametrize(
    ("remaining", "nth", "p50", "p90"),
    [
        ([4.0], 1, 2.81, 9.12),
        ([4.0, 4.0], 1, 1.40, 4.56),
        ([4.0], 2, 6.74, 15.49),
        ([4.0, 1.0], 1, 0.56, 1.82),
    ],
)
def test_the_model(remaining, nth, p50, p90):
    found = estimate(remaining, nth, PLAIN)
    assert found.p50.total_seconds() / 3600 == pytest.approx(p50, abs=0.01)
    assert found.p90.total_seconds() / 3600 == pytest.approx(p90, abs=0.01)


def test_lifetimes_bound_the_estimate():
    assert estimate([40.0], 1, PLAIN, latest=[2.0]).p90 == timedelta(hours=2)
    assert estimate([40.0], 1, PLAIN, latest=[2.0]).p50 <= timedelta(hours=2)
    assert estimate([40.0], 2, PLAIN, latest=[2.0]).p90 > timedelta(hours=2)


@pytest.mark.parametrize(("remaining", "nth"), [([], 1), ([4.0], 0), ([0.0], 1)])
def test_no_estimate_where_nothing_is_known(remaining, nth):
    assert estimate(remaining, nth, PLAIN) is None


def test_the_basis_says_what_it_rests_on():
    rough = estimate([4.0, 4.0], 2, Calibration()).basis
    assert rough == (
        "2 devices that you could use are in use and 1 before you want them too; "
        "there is too little history of how long sessions last, so this is rough"
    )
    sure = estimate([4.0], 1, Calibration(1, 1, 50), lengths=Lengths([2.0] * 30)).basis
    assert sure == (
        "1 device that you could use is in use and you are first in line for them; "
        "the median length of 30 past sessions is 2 h; "
        "corrected by the last 50 waits, 90 % of which were shorter"
    )


class TestLengths:
    def test_what_is_left_is_learned_from_those_that_lasted_longer(self):
        lengths = Lengths([1.0] * 50 + [10.0] * 50)
        assert lengths.remaining(0.0) == pytest.approx(5.5)
        assert lengths.remaining(2.0) == pytest.approx(8.0)
        assert lengths.remaining(100.0) == 50.0

    def test_without_history_it_is_cautious(self):
        assert Lengths([]).remaining(0.0) == 4.0
        assert Lengths([1.0]).remaining(20.0) == 10.0


class TestCalibration:
    def test_it_learns_the_factor_that_would_have_kept_nine_of_ten(self):
        past = [(1.0, 1.0, i / 10) for i in range(1, 101)]
        learned = Calibration.learn(past)
        assert (learned.f50, learned.f90, learned.cases) == (5.1, 9.1, 100)

    def test_few_cases_teach_nothing(self):
        assert Calibration.learn([(1.0, 1.0, 99.0)] * 19).f90 == Calibration().f90

    def test_factors_stay_within_reason(self):
        assert Calibration.learn([(1.0, 1.0, 1000.0)] * 50).f90 == 10.0
        assert Calibration.learn([(1.0, 1.0, 0.0)] * 50).f90 == 0.2

    def test_promises_are_kept_though_the_model_is_wrong(self):
        random, past, kept = Random(7), [], []
        for _ in range(1500):
            actual = random.lognormvariate(1.0, 1.0)
            factor = Calibration.learn(past[-300:]).f90
            kept.append(actual <= 1.3 * factor)
            past.append((1.0, 1.3, actual))
        assert sum(kept) / len(kept) >= 0.85

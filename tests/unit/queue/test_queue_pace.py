"""How many sessions start side by side."""

from ds01spawner.queue.pace import Pace


class TestPace:
    def test_quick_starts_let_it_rise_and_slow_ones_fall(self):
        pace = Pace(3)
        for _ in range(12):
            pace.started(1.0)
        assert pace.width > 3
        wide = pace.width
        for _ in range(wide):
            pace.started(5.0)
        assert pace.width < wide

    def test_it_stays_within_its_bounds(self):
        pace = Pace(2, least=1, most=4)
        for _ in range(10):
            pace.failed()
        assert (pace.width, pace.free(0), pace.free(5)) == (1, 1, 0)
        for _ in range(50):
            pace.started(1.0)
        assert pace.width == 4

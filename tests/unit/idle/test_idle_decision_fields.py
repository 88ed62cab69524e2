"""What a decision carries besides its state: pages and the log show every field of it."""

from __future__ import annotations

from idle_rows import GPU_QUIET, ON_GPU, SCARCE, STUDENT, at, memory, replace, row

from ds01spawner.idle.decide import mark_visible
from ds01spawner.idle.model import PressureRule, Warned

PRESSED = replace(STUDENT, pressure=PressureRule(share=0.8, factor=0.5, floor=300))


def test_a_warning_carries_its_grounds_the_time_counted_and_the_limit_in_force():
    made = row(30, memory(29, 8), GPU_QUIET, PRESSED, ON_GPU, SCARCE)
    assert (made.state, made.warn, made.cause) == ("warned", True, "idle")
    assert (made.idle_seconds, made.limit, made.pressed) == (9 * 60, 900, True)
    assert made.why == row(30, memory(29, 1), GPU_QUIET, PRESSED, ON_GPU).why
    assert made.why != ()


def test_so_does_the_end():
    made = row(45, memory(44, 30, warned=30, visible=31), GPU_QUIET, PRESSED, ON_GPU, SCARCE)
    assert (made.state, made.warn, made.cause) == ("retire", False, "idle")
    assert (made.idle_seconds, made.limit, made.pressed) == (31 * 60, 900, True)
    assert made.why != ()


def test_a_warning_that_was_seen_stays_seen_since_then():
    before = replace(memory(30), warnings=(Warned("idle", at(20), at(21)), Warned("lifetime", at(22), None)))
    after = mark_visible(before, at(30))
    assert [w.visible_at for w in after.warnings] == [at(21), at(30)]

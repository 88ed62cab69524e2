"""Sizes, durations, shares and CPU counts: what is read, what is refused, and the way back."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.policy import units

SIZES = [
    (0, 0),
    ("0b", 0),
    ("512m", 512 * 2**20),
    ("32g", 32 * 2**30),
    ("96G", 96 * 2**30),
    ("1.5 GiB", 3 * 2**29),
    ("10gb", 10 * 2**30),
    (" 4k ", 4096),
    ("1t", 2**40),
]
BAD_SIZES = [32, -1, True, None, "", "32", "g", "-1g", "1e3g", "32 gig", "9999999999999t", 1.5, [], "٣g"]

DURATIONS = [
    (0, 0),
    ("90m", 5400),
    ("48h", 172800),
    ("1h30m", 5400),
    ("7d", 604800),
    ("2w", 1209600),
    ("0.5h", 1800),
]
BAD_DURATIONS = [48, 0.5, True, None, "", "48", "h", "1h1h", "-1h", "1 h", "0.1s", "99999w", "1:30"]


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_sizes(text, size):
    assert units.parse_size(text) == size


@pytest.mark.parametrize("text", BAD_SIZES)
def test_sizes_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match='expected a size with its unit, such as "512m" or "32g"'):
        units.parse_size(text)


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text, seconds):
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize("text", BAD_DURATIONS)
def test_durations_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match="expected a duration with its unit"):
        units.parse_duration(text)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("250%", 2.5), (0.3, 0.3), (0, 0.0), (1, 1.0)])
def test_shares(text, share):
    assert units.parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", [5, -0.1, True, "5", "%", "-5%", None, float("nan")])
def test_shares_refused(text):
    with pytest.raises(ValueError, match='expected a share such as "5%"'):
        units.parse_share(text)


@pytest.mark.parametrize("value", [0, 0.001, True, "2", None, float("inf"), float("nan"), -1])
def test_cpus_refused(value):
    with pytest.raises(ValueError, match="expected a number of CPUs"):
        units.parse_cpus(value)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        (65536, (65536, 65536)),
        ("1024:65536", (1024, 65536)),
        ("unlimited", (-1, -1)),
        (-1, (-1, -1)),
        ("8:-1", (8, -1)),
    ],
)
def test_ulimits(text, pair):
    assert units.parse_ulimit(text) == pair


@pytest.mark.parametrize("text", ["", "2:1", "-1:5", "-2", True, None, 1.5, "a"])
def test_ulimits_refused(text):
    with pytest.raises(ValueError, match="expected a ulimit"):
        units.parse_ulimit(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unlimited"),
        (0, "0s"),
        (1800, "30m"),
        (5400, "1h30m"),
        (172800, "48h"),
        (604800, "7d"),
        (61, "1m1s"),
    ],
)
def test_durations_for_people(seconds, text):
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "unlimited"), (0, "0"), (512, "512b"), (2**30, "1g"), (3 * 2**29, "1.5g"), (900 * 2**20, "900m")],
)
def test_sizes_for_people(size, text):
    assert units.format_size(size) == text


def test_sizes_in_sentences():
    assert [units.say_size(s) for s in (None, 0, 5, 3 * 2**29)] == [
        "unlimited",
        "0 bytes",
        "5 bytes",
        "1.5 GiB",
    ]


@given(st.integers(min_value=0, max_value=units.MAX_SECONDS))
def test_a_duration_reads_back_as_itself(seconds):
    assert units.parse_duration(units.format_duration(seconds)) == seconds


@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none(), st.booleans()))
def test_anything_at_all_is_read_or_refused(value):
    for parse in (units.parse_size, units.parse_duration, units.parse_share, units.parse_cpus):
        with suppress(ValueError):
            assert parse(value) >= 0

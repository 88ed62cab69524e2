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


LONG = "x" * 60
SIZE = 'expected a size with its unit, such as "512m" or "32g"'
DURATION = 'expected a duration with its unit, such as "90m", "48h" or "7d"'
SHARE = 'expected a share such as "5%" or 0.05'
CPUS = "expected a number of CPUs such as 2 or 0.5"
ULIMIT = 'expected a ulimit such as 65536, "1024:65536" or "unlimited"'


@pytest.mark.parametrize(
    ("parse", "value", "sentence"),
    [
        (units.parse_size, 32, f"{SIZE}, not 32"),
        (units.parse_size, "x" * 38, f"{SIZE}, not '{'x' * 38}'"),
        (units.parse_size, "x" * 39, f"{SIZE}, not '{'x' * 38}…"),
        (units.parse_size, LONG, f"{SIZE}, not '{'x' * 38}…"),
        (units.parse_size, "9999t", f"{SIZE}; '9999t' is too large (write null for no limit)"),
        (units.parse_duration, [], f"{DURATION}, not []"),
        (units.parse_duration, "48", f"{DURATION}, not '48'"),
        (units.parse_duration, "1h1h", f"{DURATION}; '1h1h' has a unit twice"),
        (units.parse_duration, "9999w", f"{DURATION}; '9999w' is too long (write null for no limit)"),
        (units.parse_duration, "0.5s", f"{DURATION}; '0.5s' is under a second"),
        (units.parse_share, 5, f"{SHARE}, not 5; above 1 write the percent sign"),
        (units.parse_share, 1.001, f"{SHARE}, not 1.001; above 1 write the percent sign"),
        (units.parse_share, "5", f"{SHARE}, not '5'"),
        (units.parse_cpus, "2", f"{CPUS}, not '2'"),
        (units.parse_cpus, 0.009, f"{CPUS}, at least 0.01, not 0.009 (write null for no limit)"),
        (units.parse_cpus, 65536.5, f"{CPUS}, at least 0.01, not 65536.5 (write null for no limit)"),
        (units.parse_ulimit, True, f"{ULIMIT}, not True"),
        (units.parse_ulimit, -2, f"{ULIMIT}, not -2"),
        (units.parse_ulimit, 1.0, f"{ULIMIT}, not 1.0"),
        (units.parse_ulimit, None, f"{ULIMIT}, not None"),
        (units.parse_ulimit, "2:1", f"{ULIMIT}; in '2:1' the soft limit is above the hard one"),
    ],
)
def test_what_is_wrong_is_said_whole(parse, value, sentence):
    with pytest.raises(ValueError) as refused:  # noqa: PT011  (the sentence is compared whole)
        parse(value)
    assert str(refused.value) == sentence


def test_the_largest_and_smallest_that_are_taken():
    assert units.parse_size("8p") == units.MAX_BYTES
    assert units.parse_duration("3660d") == units.MAX_SECONDS
    assert [units.parse_duration(text) for text in ("1s", "1.5s", "0s")] == [1, 1, 0]
    assert [units.parse_cpus(value) for value in (0.01, 65536)] == [0.01, 65536.0]
    with pytest.raises(ValueError, match="not False"):
        units.parse_ulimit(False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(72 * 3600, "72h"), (72 * 3600 + 1, "3d1s"), (72 * 3600 + 71, "3d1m11s"), (73 * 3600, "3d1h")],
)
def test_days_begin_after_three_days_of_hours(seconds, text):
    assert units.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "unlimited"), (2, "2"), (10, "10"), (0.43, "0.43"), (1.5, "1.5"), (0, "0")]
)
def test_numbers_for_people(value, text):
    assert units.format_number(value) == text
    assert units.format_share(0.1) == "10%"


def test_every_unit_in_a_sentence():
    assert [units.say_size(2**n) for n in (10, 20, 30, 40, 50)] == [
        "1 KiB", "1 MiB", "1 GiB", "1 TiB", "1 PiB",
    ]  # fmt: skip

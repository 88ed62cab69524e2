"""One formatter: what it writes, and that nothing else formats times, sizes and durations for people."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ds01spawner.core import text
from ds01spawner.policy import units

ROOT = Path(__file__).parents[3]
AT = datetime(2026, 3, 3, 16, 40, 5, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (text.size(50 * 2**30), "50 GiB"),
        (text.size(49.9 * 2**30), "49.9 GiB"),
        (text.size(1023 * 2**20), "1 GiB"),
        (text.rate(16 * 1024), "16 KiB/s"),
        (text.rate(120), "120 B/s"),
        (text.duration(3600), "1 h"),
        (text.duration(59.6), "1 min"),
        (text.duration(timedelta(days=3, hours=4)), "3 d 4 h"),
        (text.percent(0.004), "0.4 %"),
        (text.percent(0.62), "62 %"),
        (text.moment(AT), "Tue 3 Mar 16:40 UTC"),
        (text.moment("2026-03-03T17:40:05+01:00"), "Tue 3 Mar 16:40 UTC"),
        (text.moment(AT.replace(tzinfo=None)), "Tue 3 Mar 16:40 UTC"),
        (text.moment(None), "n/a"),
        (text.clock(AT, AT), "16:40 UTC"),
        (text.clock(AT, AT - timedelta(days=1)), "Tue 3 Mar 16:40 UTC"),
        (text.second(AT), "16:40:05 UTC"),
        (text.stamp(AT), "2026-03-03 16:40 UTC"),
        (text.stamp(AT, seconds=True), "2026-03-03 16:40:05 UTC"),
    ],
)
def test_what_people_read(given, shown):
    assert given == shown


@pytest.mark.parametrize("count", [0, 5, 900 * 2**20, 8 * 2**30, 50 * 2**30, 2**41])
def test_a_refusal_and_a_page_say_the_same_size(count):
    assert units.say_size(count) == text.size(count)


OTHERWISE = re.compile(
    r"%H:%M|strftime\(|/ ?2\*\*[1234]0[^)\n]{0,6}:|// ?1024\}|/ ?1024[^\n]{0,3}:[.\d]*[fg]"
    r"|/ ?(?:60|3600)[^\n]{0,3}:[.\d]*f"
)
MACHINES = {
    "core/text.py": "the formatter",
    "engines/docker/ledger.py": "an ISO time in a record that programs read",
    "environments/environment_service.py": "the tag of a saved image",
}


def _elsewhere(files: dict[str, str]) -> list[str]:
    return sorted(
        name for name, content in files.items() if OTHERWISE.search(content) and name not in MACHINES
    )


def test_nothing_else_formats_times_and_sizes():
    package = ROOT / "ds01spawner"
    files = {str(f.relative_to(package)): f.read_text(encoding="utf-8") for f in package.rglob("*.py")}
    files |= {
        str(f.relative_to(ROOT)): f.read_text(encoding="utf-8") for f in (ROOT / "templates").rglob("*.html")
    }
    assert _elsewhere(files) == []


@pytest.mark.parametrize(
    "planted",
    [
        'f"{when:%Y-%m-%d %H:%M}"',
        'when.strftime("%a")',
        'f"{size / 2**30:.1f} GiB"',
        'f"{size / 1024:.0f} KiB"',
        'f"{seconds // 60:.0f} min"',
    ],
)
def test_another_way_of_formatting_is_found(planted):
    assert _elsewhere({"pages/planted.py": planted}) == ["pages/planted.py"]


def test_a_time_in_a_template_stands_in_a_time_element():
    bare = re.compile(r"\|\s*moment|ds01\.moment\(")
    for file in (ROOT / "templates").rglob("*.html"):
        content = re.sub(r"<time\b.*?</time>", "", file.read_text(encoding="utf-8"), flags=re.S)
        assert not bare.search(content), file

"""Which tests stay together, and which begin first."""

from __future__ import annotations

from support.longest_first import group_of, longest_first


def test_a_file_stays_together_unless_its_tests_share_nothing():
    assert group_of("tests/hub/test_session.py::test_a[x]") == "tests/hub/test_session.py"
    assert group_of("tests/hub/test_restarts.py::test_a[x]") == "tests/hub/test_restarts.py::test_a[x]"


def test_the_longest_group_begins_first_and_what_is_unknown_counts_by_its_tests():
    tests = ["tests/b.py::test_1", "tests/a.py::test_1", "tests/new.py::test_1", "tests/new.py::test_2"]
    assert longest_first(tests, {"tests/a.py": 1.5, "tests/b.py": 9.0}) == [
        "tests/b.py",
        "tests/new.py",
        "tests/a.py",
    ]

"""What people wrote cannot work a terminal: names and reasons are text."""

from __future__ import annotations

import pytest

from ds01spawner.cli import common

NASTY = "\x1b[2J\x1b]0;owned\x07 fine\x9b31m\r"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain text, Ünïcode 🎓\n\tand lines", "plain text, Ünïcode 🎓\n\tand lines"),
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\x00c\x7f\x9b", "a\\x0db\\x00c\\x7f\\x9b"),
    ],
)
def test_control_characters_become_visible(given, shown):
    assert common.printable(given) == shown


def test_tables_and_sentences_let_none_through(capsys):
    common.table(["reason"], [[NASTY], [None]])
    common.console.print(NASTY, markup=False)
    common.problems.print(NASTY, markup=False)
    written = "".join(capsys.readouterr())
    assert "fine" in written
    assert "n/a" in written
    assert not set(written) & set("\x1b\x07\x9b\r")

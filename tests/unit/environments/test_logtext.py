"""Build logs: nothing secret, nothing that plays tricks on a terminal or a page."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.logtext import Lines, Masker, clean, plain, to_html


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("Cloning https://bob:hunter22@git.example/x", "Cloning https://•••@git.example/x"),
        ("token ghp_0123456789abcdefghijABCDEFGHIJ012345 used", "token ••• used"),
        ("export API_KEY=abcdef123", "export API_KEY=•••"),
        ("PASSWORD: hunter2222", "PASSWORD: •••"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer •••"),
        ("the value is s3cr3t-value!", "the value is •••!"),
        ("Collecting tokenizers==0.20", "Collecting tokenizers==0.20"),
        ("pip install numpy", "pip install numpy"),
    ],
)
def test_secrets_are_masked(line, shown):
    assert Masker(["s3cr3t-value", "abc"])(line) == shown


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("a\rb\rc", "c"),
        ("50%\r100%\r\n", "100%"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b[2J\x1b[Hx", "x"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://evil\x1b\\x", "x"),
        ("a\x00\x08b\u202ec", "abc"),
    ],
)
def test_control_codes_go_colours_stay(line, shown):
    assert clean(line) == shown


@given(st.text())
def test_what_is_shown_has_no_control_codes_and_no_markup(text):
    line = clean(text)
    assert len(line) <= 2002
    assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f]", line)
    assert "\x1b" not in plain(line)
    assert not re.sub(r'<span class="[a-z0-9 -]+">|</span>', "", to_html(line)).count("<")


def test_html_colours():
    assert to_html("a<b \x1b[1;31mred\x1b[0m end") == (
        'a&lt;b <span class="ds01-ansi-bold ds01-ansi-31">red</span> end'
    )


@given(st.lists(st.text(alphabet="ab\n", max_size=10)))
def test_lines_are_put_together_whatever_the_chunks(chunks):
    lines = Lines(Masker())
    got = [line for chunk in chunks for line in lines.feed(chunk)] + lines.end()
    expected = "".join(chunks).split("\n")
    assert got == (expected if expected[-1] else expected[:-1])


def test_a_secret_split_over_chunks_is_masked():
    lines = Lines(Masker(["s3cr3t-value"]))
    assert [*lines.feed("x s3cr3t"), *lines.feed("-value y\n")] == ["x ••• y"]

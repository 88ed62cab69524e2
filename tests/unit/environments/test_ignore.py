"""What a ``.dockerignore`` leaves out, by the documented rules, and never slowly."""

import os
import posixpath
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.workspace.ignore import MAX_PATTERNS, BadPattern, parse
from ds01spawner.workspace.projectfiles import ProjectFileError, ProjectFiles

SOON_S = 20
"""What takes milliseconds here takes for ever in an engine that backtracks."""


@pytest.mark.parametrize(
    ("patterns", "path", "ignored"),
    [
        ("*/temp*", "somedir/temporary.txt", True),
        ("*/temp*", "somedir/temp/below", True),
        ("*/temp*", "temp", False),
        ("*/*/temp*", "somedir/sub/temporary.txt", True),
        ("*/*/temp*", "somedir/temporary.txt", False),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("temp?", "temp/", False),
        ("**/*.go", "a.go", True),
        ("**/*.go", "x/y/a.go", True),
        ("**/*.go", "x/y/a.gox", False),
        ("/foo/bar", "foo/bar", True),
        ("foo/bar", "foo/bar/below/x", True),
        ("./foo/../bar/", "bar/x", True),
        ("  spaced  ", "spaced", True),
        ("# comment\nb", "b", True),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README.md", "OTHER.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", False),
        ("big\n!big/keep", "big/keep", False),
        ("big\n!big/keep", "big/other", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "a/xb", False),
        ("a/**", "a/x/y", True),
        ("**", "any/thing", True),
        ("**end", "x/the-end", True),
        ("**/**/x", "x", True),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("\\*x", "*x", True),
        ("\\*x", "ax", False),
        (".", "a", False),
        ("/", "a", False),
        ("a.b", "axb", False),
        ("(a|b)+$", "(a|b)+$", True),
        ("ä*", "ä1", True),
        ("", "a", False),
    ],
)
def test_the_documented_rules(patterns, path, ignored):
    assert parse(patterns).matches(path.rstrip("/")) is ignored


@pytest.mark.parametrize("pattern", ["[", "[a", "[]a]", "[a-]", "a\\", "!", "[a-\\"])
def test_what_the_builder_refuses_is_refused(pattern):
    with pytest.raises(BadPattern):
        parse(pattern)


def as_regex(pattern: str) -> str:
    """The same pattern as the builder writes it down as a regular expression, for short names."""
    out, place = "", 0
    while place < len(pattern):
        if pattern.startswith("**", place):
            place += 2 + pattern.startswith("/", place + 2)
            out += ".*" if place == len(pattern) else "(.*/)?"
            continue
        character = pattern[place]
        out += {"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character)
        place += 1
    return out


PATTERNS = st.lists(
    st.text(st.sampled_from("ab/*?."), min_size=1, max_size=8)
    .map(posixpath.normpath)
    .filter(lambda p: not p.startswith(("/", ".")) and not re.match(r"\*\*[^/]*$", p)),
    min_size=1,
    max_size=4,
)
PATHS = st.lists(st.text(st.sampled_from("ab."), min_size=1, max_size=4), min_size=1, max_size=4)


@given(PATTERNS, st.lists(st.booleans(), min_size=4, max_size=4), PATHS)
def test_the_same_as_by_regular_expressions(patterns, back, names):
    expected = False
    above = ["/".join(names[: i + 1]) for i in range(len(names))]
    for pattern, takes_back in zip(patterns, back, strict=False):
        if any(re.fullmatch(as_regex(pattern), path) for path in above):
            expected = not takes_back
    text = "\n".join("!" * b + p for p, b in zip(patterns, back, strict=False))
    assert parse(text).matches("/".join(names)) is expected


@pytest.mark.parametrize(
    ("patterns", "path"),
    [
        ("*a*a*a*a*a*a*a*b", "a" * 250),
        ("*a" * 150 + "b", "a" * 250),
        ("**/a" * 90 + "/b", "/".join("a" * 100)),
        ("\n".join(["*a*a*a*a*a*a*a*b"] * 400), "a" * 250),
        ("[a-z]*" * 60 + "0", "z" * 250),
        ("?" * 300 + "\n" + "*?" * 150, "\N{SNOWMAN}" * 250),
    ],
)
def test_no_pattern_is_slow(patterns, path):
    begun = time.monotonic()
    assert not parse(patterns).matches(path) or "?" in patterns
    assert time.monotonic() - begun < SOON_S


@pytest.mark.parametrize("text", ["a\n" * (MAX_PATTERNS + 1), "a" * 500, ("a" * 390 + "\n") * 60])
def test_too_many_patterns_are_refused(text):
    with pytest.raises(BadPattern, match="more than"):
        parse(text)


def test_names_of_a_million_characters_keep_nothing():
    ignore = parse("[a-z]\n*x")
    for code in range(0x4E00, 0x4E00 + 3000):
        ignore.matches(chr(code))
    assert len(ignore._moves) <= 256


def test_a_context_with_a_hostile_pattern_is_packed_at_once(tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / ("a" * 120)).write_text("x")
    project = ProjectFiles(tmp_path, ("p",), os.getuid(), os.getgid())
    begun = time.monotonic()
    with project.pack(10**6, {}, "*a*a*a*a*a*a*a*b").file:
        assert time.monotonic() - begun < SOON_S
    with pytest.raises(ProjectFileError, match="dockerignore"):
        project.pack(10**6, {}, "[")


def test_packing_ends_when_it_is_no_longer_wanted(tmp_path):
    (tmp_path / "p" / "below").mkdir(parents=True)
    asked = []

    def still_wanted():
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ProjectFiles(tmp_path, ("p",), os.getuid(), os.getgid()).pack(10**6, {}, "", still_wanted)

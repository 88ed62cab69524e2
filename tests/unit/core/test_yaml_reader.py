"""What people write in YAML, read: data, lines, and every fault with its place."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.yaml_reader import OF_PEOPLE, OF_THE_SITE, Bounds, FileProblems, parse, read


def test_data_and_lines():
    found = parse("a: 1\nb:\n  - x\n  - {c: true}\n", "f.yaml")
    assert found.data == {"a": 1, "b": ["x", {"c": True}]}
    assert [found.line(at) for at in [("a",), ("b",), ("b", 1), ("b", 1, "c"), ("b", 1, "missing")]] == [
        1, 2, 4, 4, 4,
    ]  # fmt: skip
    assert str(found.problem(("b", 1, "c"), "is wrong")) == "f.yaml:4: b.1.c: is wrong"
    assert parse("", "f.yaml").data is None


def test_names_and_times_stay_text():
    text = "{no: a, 007: b, null: c, 1e3: d, 2026-12-01: 2026-12-01}"
    assert parse(text, "f").data == {
        "no": "a",
        "007": "b",
        "null": "c",
        "1e3": "d",
        "2026-12-01": "2026-12-01",
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: 1\nb: 2\na: 3", "f:3: a: written twice (first on line 1)"),
        ("x: {a: 1, a: 2}", "f:1: x.a: written twice (first on line 1)"),
        ("x: {<<: {a: 1}}", "f:1: x.<<: merge keys"),
        ("? [a]\n: 1", "f:1: a key must be plain text"),
        ("a: !!binary aGVsbG8=", "f:1: a: the tag '!!binary' has no place here"),
        ("a: !!set {b, c}", "f:1: a: the tag 'tag:yaml.org,2002:set' has no place here"),
        ("a: !!omap [b: 1]", "has no place here"),
        ("a: !mine 3", "f:1: a: cannot be read: could not determine a constructor"),
        ("a: !!int x", "f:1: a: cannot be read"),
        ("a: [", "f:1: not valid YAML"),
        ("--- 1\n--- 2", "f:2: not valid YAML: but found another document"),
        ("a: \x07", "not valid YAML"),
        ("a: &x 1\nb: *x", "f:2: not valid YAML: aliases are not allowed"),
        ("a: " + "[" * 30, "it is nested more than 24 levels deep"),
        ("[" + "a," * 20_000 + "]", "it has more than 10000 values"),
        ("a: " + "1" * 3000, "must stand in quotes"),
        ("a: 1" + ":1" * 1000, "must stand in quotes"),
        ("a: a" + "\n b" * 2000, "must stand in quotes"),
        ("#" * 300_000, "it is larger than 256 KiB"),
    ],
)
def test_a_fault_has_its_place(text, fault):
    with pytest.raises(FileProblems) as error:
        parse(text, "f")
    assert fault in str(error.value)


def test_all_faults_are_told_at_once():
    with pytest.raises(FileProblems) as error:
        parse("a: 1\na: 2\nb: !!binary x\nc: {d: 1, d: 2}\n", "f")
    assert [(p.line, p.key) for p in error.value.problems] == [(2, "a"), (3, "b"), (4, "c.d")]


def test_a_site_s_own_file_may_use_aliases_but_not_without_end():
    assert parse("a: &x {y: 1}\nb: *x", "f", OF_THE_SITE).data == {"a": {"y": 1}, "b": {"y": 1}}
    with pytest.raises(FileProblems, match="too large or too deeply nested"):
        parse("a: &x {y: *x}", "f", OF_THE_SITE)
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    with pytest.raises(FileProblems, match="too large or too deeply nested"):
        parse(bomb, "f", OF_THE_SITE)


def test_files_that_cannot_be_read(tmp_path):
    for name, why in [("none", "No such file"), (".", "Is a directory")]:
        with pytest.raises(FileProblems, match=f"cannot be read: .*{why}"):
            read(tmp_path / name)
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    with pytest.raises(FileProblems, match="is not UTF-8"):
        read(tmp_path / "latin")
    (tmp_path / "large").write_bytes(b" " * 11)
    with pytest.raises(FileProblems, match="larger than"):
        read(tmp_path / "large", Bounds(size=10))


@given(st.text(alphabet="ab01:-[]{}&*!<>|? \n\"'#,%", max_size=60))
def test_no_text_is_anything_but_data_or_a_problem(text):
    for bounds in (OF_PEOPLE, OF_THE_SITE):
        with suppress(FileProblems):
            parse(text, "f", bounds)


_WORDS = st.text(alphabet="ab01:-[]{}#,% \u00e9\n\"'", max_size=8)
_LEAVES = st.none() | st.booleans() | st.integers() | _WORDS
_DATA = st.recursive(
    _LEAVES, lambda c: st.lists(c, max_size=3) | st.dictionaries(_WORDS, c, max_size=3), max_leaves=8
)


@given(_DATA)
def test_what_is_written_is_read(data):
    text = yaml.safe_dump(data, allow_unicode=True)
    with suppress(FileProblems):  # aliases that the writer makes of equal lists
        assert parse(text, "f").data == data

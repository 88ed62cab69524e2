"""Options from any source: one model, the first fault named, and nothing but known keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.errors import Refused
from ds01spawner.policy.options import LaunchOptions, from_form, is_project_name, parse_options

GOOD = [
    ({}, LaunchOptions(profile="default · CPU only")),
    ({"project": "thesis"}, LaunchOptions(project="thesis", profile="thesis · CPU only")),
    (
        dict(project="a", environment="lab", gpu="1g.10gb", gpu_count=2, wait=True, lifetime=3600),  # noqa: C408
        LaunchOptions(
            project="a", environment="lab", gpu="1g.10gb", gpu_count=2, wait=True, lifetime=3600,
            profile="a · lab · 2 × 1g.10gb",
        ),
    ),
    ({"gpu": "1c.3g.20gb"}, LaunchOptions(gpu="1c.3g.20gb", profile="default · 1c.3g.20gb")),
    ({"gpu": "1g.10gb+me"}, LaunchOptions(gpu="1g.10gb+me", profile="default · 1g.10gb+me")),
    ({"project": None, "profile": "<script>"}, LaunchOptions(profile="default · CPU only")),
]  # fmt: skip


@pytest.mark.parametrize(("raw", "options"), GOOD)
def test_good_options(raw, options):
    assert parse_options(raw) == options
    assert parse_options(options.stored()) == options


@pytest.mark.parametrize("name", ["a", "a-b", "a.b", "a_b", "0", "x" * 63])
def test_project_names(name):
    assert is_project_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a..b",
        "-a",
        "a-",
        ".a",
        "A",
        "a/b",
        "a\\b",
        "a b",
        "ä",
        "a\n",
        "a\0",
        "x" * 64,
        "{0}",
        "a:b",
    ],
)
def test_what_is_no_project_name(name):
    assert not is_project_name(name)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(SCALARS, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=8)


def outcome(raw):
    """The options, or the refusal."""
    try:
        return parse_options(raw)
    except Refused as refused:
        return refused.refusal


@given(ANYTHING)
def test_whatever_comes_is_options_or_a_refusal(raw):
    answer = outcome(raw)
    if isinstance(answer, LaunchOptions):
        assert is_project_name(answer.project)
    else:
        assert answer.status == 400
        assert len(answer.sentence) < 700


@given(st.dictionaries(st.text(max_size=20), st.lists(st.text(max_size=50), max_size=3), max_size=6))
def test_any_form_parses_to_something_that_is_then_checked(form):
    raw = from_form(form)
    assert isinstance(raw, dict)


FORMS = [
    ({"project": ["a"], "project_new": ["  "], "gpu": ["none"]}, {"project": "a", "gpu": "none"}),
    ({"project": ["a"], "project_new": ["new"]}, {"project": "new"}),
    ({"gpu_count": ["2"], "lifetime": ["3600"]}, {"gpu_count": 2, "lifetime": 3600}),
    ({"gpu_count": ["two"]}, {"gpu_count": "two"}),
    ({"wait": ["on"]}, {"wait": True}),
    ({"evil": ["x"]}, {"evil": "x"}),
    ({"_xsrf": ["t"], "next": ["/"], "environment": [""]}, {}),
    ({"again": ["project=old&gpu=1g.10gb"], "project": ["other"]}, {"project": "old", "gpu": "1g.10gb"}),
    ({"project": []}, {}),
]


@pytest.mark.parametrize(("form", "raw"), FORMS)
def test_forms(form, raw):
    assert from_form(form) == raw

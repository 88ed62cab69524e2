"""The queue of builds, former images, and what keeping packages and pruning decide."""

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.core.errors import EngineError
from ds01spawner.engines.docker.snapshot import (
    PruneRule,
    committed_config,
    kept,
    package_diff,
    packages_of_lock,
    parse_packages,
    prune_plan,
)
from ds01spawner.environments.builder.builds import BuildLimits, limits_from, next_builds
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.image_labels import reserved
from ds01spawner.environments.records import forward, kept_reference

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("queued", "running", "limits", "free", "chosen"),
    [
        ([("1", "a"), ("2", "a"), ("3", "b")], {}, {"a": 1, "b": 1}, 2, ["1", "3"]),
        ([("1", "a"), ("2", "a")], {}, {"a": 2}, 2, ["1", "2"]),
        ([("1", "a"), ("3", "b")], {"a": 1}, {"a": 1, "b": 1}, 1, ["3"]),
        ([("1", "a")], {}, {"a": 1}, 0, []),
        ([], {}, {}, 2, []),
    ],
)
def test_who_is_next(queued, running, limits, free, chosen):
    assert next_builds(queued, running, limits, free) == chosen


@given(
    st.lists(st.sampled_from("abc"), max_size=12),
    st.integers(0, 4),
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 3)),
)
def test_nobody_gets_more_than_their_limit(owners, free, limits):
    queued = [(str(i), o) for i, o in enumerate(owners)]
    chosen = next_builds(queued, {}, limits, free)
    assert len(chosen) <= free
    assert chosen == sorted(chosen, key=int)
    for owner in "abc":
        assert sum(dict(queued)[b] == owner for b in chosen) <= limits.get(owner, 1)


@pytest.mark.parametrize(
    ("previous", "current", "new", "keep", "result"),
    [
        ([], "", "n", 3, ([], [])),
        ([], "a", "n", 3, (["a"], [])),
        (["b", "c", "d"], "a", "n", 3, (["a", "b", "c"], ["d"])),
        (["b"], "a", "a", 3, (["b"], [])),
        (["b", "n"], "a", "n", 3, (["a", "b"], [])),
    ],
)
def test_former_images(previous, current, new, keep, result):
    assert forward(previous, current, new, keep) == result


def test_former_images_have_a_name_nobody_else_has():
    assert kept_reference("ds01-alice/p:v1", "sha256:0123456789abcdef") == "ds01-kept/alice/p:0123456789ab"


def test_limits_come_from_the_policy():
    assert limits_from({"time": 60, "keep": 1}) == BuildLimits(time=60, keep=1)


def test_package_diff():
    image = {"numpy": "2.0", "Six": "1.0", "gone": "1"}
    session = {"NumPy": "2.1", "six": "1.0", "typing_extensions": "4.12", "torch": "2.5.1+cu124", "-e x": "1"}
    diff = package_diff(session, image)
    assert diff.as_dict() == {
        "added": ["torch==2.5.1", "typing_extensions==4.12"],
        "changed": ["NumPy==2.1"],
        "removed": ["gone"],
        "unsafe": ["-e x==1"],
    }
    recipe = kept(parse_recipe({"base": "lab", "pip": ["numpy==2.0", "rich"]}), diff)
    assert recipe.pip == ("rich", "torch==2.5.1", "typing_extensions==4.12", "NumPy==2.1")
    assert package_diff(image, image).empty


def test_packages_of_a_lock():
    assert packages_of_lock({"pip": ["a==1", "b==2+x", "odd"]}) == {"a": "1", "b": "2+x"}


@pytest.mark.parametrize(
    ("output", "code"), [(b"[]", 1), (b"not json", 0), (b"", 0), (b"[1]", 0), (b"{}[", 0)]
)
def test_a_session_that_does_not_answer_is_not_a_session_without_packages(output, code):
    with pytest.raises(EngineError):
        parse_packages(output, code)


def test_packages_of_a_session():
    assert parse_packages(b'motd\n[["a", "1"], ["b", "2"]]\n', 0) == {"a": "1", "b": "2"}


def test_a_saved_image_has_none_of_the_sessions_secrets_or_labels():
    image = ImageFacts("sha256:1", labels={"x": "y"}, env={"PATH": "/bin"}, cmd=("jupyterhub-singleuser",))
    container = {
        "Env": ["PATH=/odd", "JUPYTERHUB_API_TOKEN=secret"],
        "Labels": {"ds01.managed": "true", "ds01.gpu.uuids": "GPU-1", "x": "y"},
    }
    config = committed_config(container, image, {"ds01.image.reproducible": "false"})
    assert set(config["Env"]) == {"PATH=/bin", "JUPYTERHUB_API_TOKEN="}
    assert config["Labels"] == {
        "ds01.managed": "", "ds01.gpu.uuids": "", "x": "y", "ds01.image.reproducible": "false",
    }  # fmt: skip
    assert reserved(config["Labels"]) == []


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"ds01.managed": "true"}, ["ds01.managed"]),
        ({"ds01.gpu.anything": "x"}, ["ds01.gpu.anything"]),
        ({"ds01.image.owner": "x", "ds01.singleuser.version": "6", "ds01.content": "x", "other": "y"}, []),
    ],
)
def test_reserved_labels(labels, found):
    assert reserved(labels) == found


def own(name, image, created="2025-01-01T00:00:00.123456789Z"):
    return ImageFacts(image, (f"ds01-alice/{name}:latest",), created=created, size=10)


@pytest.mark.parametrize(
    ("facts", "changes", "remove", "reason"),
    [
        (own("p", "1"), {}, True, "not used for 424 days (limit 90)"),
        (own("p", "1"), {"in_use": {"1": ("ds01-alice",)}}, False, "in use by ds01-alice"),
        (own("p", "1"), {"referenced": {"1": "the course nlp uses it"}}, False, "the course nlp uses it"),
        (own("p", "1"), {"last_used": {"1": NOW - timedelta(days=3)}}, False, "used or built 3 days ago"),
        (own("p", "1", created="?"), {}, False, "its age is not known"),
        (
            own("p", "1", "2026-02-27T00:00:00Z"),
            {"rule": PruneRule(max_images=0)},
            True,
            "beyond the 0 newest",
        ),
        (ImageFacts("1", ("ds01-pin/abc:latest",)), {}, True, "only a build needed it"),
        (ImageFacts("1", ("ds01-pin/abc:latest",)), {"in_use": {"1": ("x",)}}, False, "in use by x"),
    ],
)
def test_prune_decides_with_a_reason(facts, changes, remove, reason):
    given = {"in_use": {}, "referenced": {}, "last_used": {}, "rule": PruneRule(), **changes}
    (item,) = prune_plan([facts], now=NOW, **given)
    assert item.remove is remove
    assert item.reason.startswith(reason)


def test_prune_leaves_other_images_alone():
    others = [
        ImageFacts("1", ("debian:12", "ds01/lab:latest", "ds01-course/nlp:release-1", "ds01-kept/a/p:1"))
    ]
    assert prune_plan(others, {}, {}, {}, PruneRule(), NOW) == []

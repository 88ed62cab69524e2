"""The catalogue: who sees and may start what, and what a wrong file says."""

from pathlib import Path

import pytest

from ds01spawner.core.errors import Refused
from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.environments.catalogue import (
    Environment,
    Share,
    choose,
    course_environment,
    discover,
    load_catalogue,
    update_available,
    visible,
)
from ds01spawner.environments.facts import ImageFacts

LAB = Environment(id="lab", kind="lab", image="ds01/lab:latest", default=True)
TORCH = Environment(id="pytorch", kind="lab", image="ds01/torch:1", title="PyTorch", cuda="12.4")
STAFF_ONLY = Environment(id="next", kind="lab", image="ds01/next:1", groups=frozenset({"staff"}))
NLP = course_environment("nlp", "ds01-course/nlp:1", title="NLP", roster=["nlp-s26"], staff=["prof"])
MINE = Environment(id="ds01-alice/p:latest", kind="mine", image="ds01-alice/p:latest", owner="alice")
SHARED = Environment(
    id="ds01-bob/q:latest",
    kind="shared",
    image="ds01-bob/q:latest",
    owner="bob",
    groups=frozenset({"nlp-s26"}),
)
ALL = [MINE, SHARED, TORCH, LAB, STAFF_ONLY, NLP]


@pytest.mark.parametrize(
    ("person", "groups", "ids"),
    [
        ("alice", ["nlp-s26"], ["course/nlp", "lab", "pytorch", "ds01-alice/p:latest", "ds01-bob/q:latest"]),
        ("alice", [], ["lab", "pytorch", "ds01-alice/p:latest"]),
        ("prof", ["staff"], ["course/nlp", "lab", "next", "pytorch"]),
        ("eve", [], ["lab", "pytorch"]),
    ],
)
def test_who_sees_what_and_in_which_order(person, groups, ids):
    assert [i.environment.id for i in visible(ALL, person, groups)] == ids


@pytest.mark.parametrize(
    ("allowed", "startable"),
    [
        (["*"], {"course/nlp", "lab", "pytorch", "ds01-alice/p:latest", "ds01-bob/q:latest"}),
        (["lab"], {"course/nlp", "lab", "pytorch"}),
        (["pytorch", "mine"], {"course/nlp", "pytorch", "ds01-alice/p:latest"}),
        ([], {"course/nlp"}),
    ],
)
def test_the_policy_greys_out_with_a_reason(allowed, startable):
    listed = visible(ALL, "alice", ["nlp-s26"], allowed)
    assert {i.environment.id for i in listed if i.allowed} == startable
    assert all(i.reason.startswith("your limits allow these environments") for i in listed if not i.allowed)


def test_an_empty_choice_is_the_default():
    assert choose(ALL, "", "eve") is LAB
    assert choose([TORCH, MINE], "", "alice") is TORCH


@pytest.mark.parametrize("wanted", ["ds01-alice/p:latest", "course/nlp", "next", "nothing"])
def test_what_is_not_yours_reads_like_what_is_not_there(wanted):
    with pytest.raises(Refused) as refused:
        choose(ALL, wanted, "eve")
    assert refused.value.refusal.code == "no-environment"
    assert refused.value.refusal.status == 404


def test_not_allowed_names_the_rule():
    with pytest.raises(Refused, match="section images"):
        choose(ALL, "pytorch", "eve", allowed=["mine"])


def test_nothing_at_all_to_start():
    with pytest.raises(Refused, match="Ask an administrator"):
        choose([LAB], "", "eve", allowed=[])


def test_discover_own_shared_and_the_command_lines():
    images = [
        ImageFacts(
            "sha256:1",
            ("ds01-alice/p:latest", "ds01-alice/p:v1"),
            labels={"ds01.image.reproducible": "false"},
        ),
        ImageFacts("sha256:2", ("ds01-1001/old:latest",)),
        ImageFacts("sha256:3", ("ds01-bob/q:latest",)),
        ImageFacts("sha256:4", ("ds01-bob/secret:latest",)),
        ImageFacts("sha256:5", ("ds01-course/nlp:1", "debian:12")),
    ]
    shares = [Share("ds01-bob/q:latest", "bob", frozenset({"nlp"}))]
    found = {e.id: e for e in discover(images, "alice", ["nlp"], uid=1001, shares=shares)}
    assert {i: e.kind for i, e in found.items()} == {
        "ds01-1001/old:latest": "mine",
        "ds01-alice/p:latest": "mine",
        "ds01-alice/p:v1": "mine",
        "ds01-bob/q:latest": "shared",
    }
    assert "cannot be built again" in found["ds01-alice/p:v1"].note


@pytest.mark.parametrize(
    ("running", "now", "answer"),
    [
        ("sha256:1", "sha256:2", True),
        ("sha256:1", "sha256:1", False),
        ("", "sha256:2", False),
        ("sha256:1", "", False),
    ],
)
def test_update_available(running, now, answer):
    assert update_available(running, now) is answer


def test_the_shipped_catalogue_loads():
    lab = load_catalogue(Path(__file__).parents[3] / "hub_config" / "environments.yaml")
    assert [e.id for e in lab if e.default] == ["lab"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("version: 1\n", 1, "environments: is missing"),
        ("environments:\n  a:\n    image: x\n    imgae: y\n", 4, "environments.a.imgae: is not a known key"),
        (
            "environments:\n  a:\n    image: x\n  a:\n    image: y\n",
            4,
            "environments.a: written twice (first on line 2)",
        ),
        ("environments:\n  a:\n    image: x\n    cuda: 12.4\n", 4, "write the version in quotes"),
        ("environments:\n  'A B':\n    image: x\n", 2, "an id has lower-case letters"),
        ("environments:\n  a: {image: '-x y'}\n", 2, "environments.a.image"),
        (
            "environments:\n  a:\n    image: x\n    default: true\n  b:\n    image: y\n    default: true\n",
            7,
            "'a' is the default already",
        ),
        ("environments: [", 1, "not valid YAML"),
        ("a: &x 1\nb: *x\n", 2, "aliases are not allowed"),
        ("- 1\n", 1, "a set of `key: value` lines"),
    ],
)
def test_wrong_files_name_line_and_key(tmp_path, text, line, words):
    path = tmp_path / "environments.yaml"
    path.write_text(text)
    with pytest.raises(FileProblems) as problems:
        load_catalogue(path)
    assert words in str(problems.value)
    assert problems.value.problems[0].line == line
    assert problems.value.problems[0].file == str(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileProblems, match="cannot be read"):
        load_catalogue(tmp_path / "none.yaml")

"""The grammar of images' names, and when an engine's answer is what was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.environments.reference import carries, looks_like_id, parse

ID = "sha256:" + "4" * 64
DIGEST = "sha256:" + "5" * 64


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/library/python", "docker.io/library/python:latest"),
        ("ds01-bob/priv", "docker.io/ds01-bob/priv:latest"),
        ("quay.io/jupyter/base-notebook", "quay.io/jupyter/base-notebook:latest"),
        ("localhost/x", "localhost/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        ("Registry/x", "Registry/x:latest"),
        (f"python@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        (f"python:3@{DIGEST}", f"docker.io/library/python@{DIGEST}"),
        ("49", "docker.io/library/49:latest"),
        ("sha256:49", "docker.io/library/sha256:49"),
        (ID, ID),
    ],
)
def test_names(text, whole):
    assert str(parse(text)) == whole


NO_NAMES = [
    *(
        "",
        " python",
        "python ",
        "Python",
        "a//b",
        "/a",
        "a/",
        "a:",
        ":a",
        "a:b:c",
        "a b",
        "a\tb",
        "a\n",
        "a\0",
    ),
    *('a"b"', "a'b'", "a\\b", "$a", "${a}", "a@b", "a@sha256:00", f"a@{DIGEST}0", "a@@b", "-a", "a-", "a..b"),
    *("a___b", "\u0430lpine", "\uff41", "a" * 256, "a:" + "b" * 129, "4" * 64, "SHA256:" + "4" * 64),
    *("http://a/b", "a,b", "a;b", "a|b", "a`b`"),
]


@pytest.mark.parametrize("text", NO_NAMES)
def test_no_names(text):
    with pytest.raises(ValueError, match=r"\w"):
        parse(text)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("python", True),
        ("python:latest", True),
        ("docker.io/library/python", True),
        ("python:3", False),
        (ID, True),
        (f"python@{DIGEST}", True),
        (f"other@{DIGEST}", False),
        (f"python@{ID}", False),
        ("44", False),
        ("444", False),
        ("44:latest", False),
        ("sha256:44", False),
        ("sha256:444444444444", False),
        (ID[:-1] + "5", False),
    ],
)
def test_an_answer_counts_where_it_carries_the_very_name(asked, found):
    assert carries(parse(asked), ID, ("python:latest", "<none>:<none>"), (f"python@{DIGEST}",)) is found


@given(st.text(alphabet="0123456789abcdef", min_size=1, max_size=63))
def test_no_part_of_an_id_names_an_image(part):
    image = "sha256:" + (part * 64)[:64]
    for asked in (part, f"{part}:latest", f"sha256:{part}"):
        assert not carries(parse(asked), image, ("python:latest",), (f"python@{DIGEST}",))


@pytest.mark.parametrize(("text", "is_id"), [("493267c27c1d", True), ("sha256:49", True), ("cafe", False)])
def test_what_looks_like_an_id(text, is_id):
    assert looks_like_id(text) is is_id

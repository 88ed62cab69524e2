"""Names of images: legal for the engine, and never shared by two people."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01spawner.environments import naming

# The engine's own grammar of one path component.
COMPONENT = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
names = st.text(min_size=1, max_size=80)


@pytest.mark.parametrize(
    ("user", "project", "image"),
    [
        ("alice", "thesis", "ds01-alice/thesis:latest"),
        ("alice.smith", "a-b", "ds01-alice.smith/a-b:latest"),
        ("Alice", "thesis", "ds01-alice--3bc51062973c458d/thesis:latest"),
    ],
)
def test_user_image(user, project, image):
    assert naming.user_image(user, project) == image


@pytest.mark.parametrize("user", ["course", "pin", "building", "lab", "1001"])
def test_names_with_another_meaning_are_not_taken_over(user):
    assert naming.owner_component(user) != user


@given(names, names)
def test_different_people_have_different_repositories(one, other):
    first, second = naming.owner_component(one), naming.owner_component(other)
    assert (first == second) == (one == other)
    assert COMPONENT.fullmatch(first)


@given(names)
def test_every_name_can_be_taken_apart_again(user):
    image = naming.parse_user_image(naming.user_image(user, "p", "v1"))
    assert image is not None
    assert (image.name, image.tag) == ("p", "v1")
    assert naming.owns(user, image)


@pytest.mark.parametrize(
    "reference",
    [
        "ds01-course/nlp:1",
        "ds01-pin/abc:latest",
        "ds01-building/x:1",
        "debian:12",
        "ds01-a/b",
        "ds01-a/b/c:1",
    ],
)
def test_not_a_persons_image(reference):
    assert naming.parse_user_image(reference) is None


def test_images_of_the_command_line_belong_to_the_uid():
    image = naming.parse_user_image("ds01-1001/thesis:latest")
    assert image is not None
    assert naming.owns("alice", image, uid=1001)
    assert not naming.owns("alice", image, uid=1002)
    assert not naming.owns("1001", image)


@pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a b", "a" * 129, "é"])
def test_bad_tags(tag):
    with pytest.raises(ValueError, match="a tag has"):
        naming.user_image("alice", "p", tag)

"""Which names of images belong to this installation, and what an image built on ours does not inherit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.ours import INSTALLATION, OTHER

from ds01spawner.environments.catalogue import discover
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.ownership import SIGNED, claimed, made_here, sign, sort_names
from ds01spawner.environments.rights import Known, Reader, may_read

LABELS = {"ds01.image.owner": "bob", "ds01.image.base": "sha256:0", "ds01.image.built": "2026-01-01T00:00:00"}
OURS = sign(INSTALLATION, LABELS, "ds01-bob/thesis:latest")


def names(labels, *tags, by=INSTALLATION):
    facts = sort_names(by, ImageFacts("sha256:1", tags=tags, labels=labels))
    assert {*facts.tags, *facts.others} == set(tags)
    return facts.tags


def test_what_we_built_is_ours_by_every_name_in_its_repository():
    tags = ("ds01-bob/thesis:latest", "ds01-bob/thesis:experiment-42", "ds01-kept/bob/thesis:0123456789ab")
    assert names(OURS, *tags) == tags
    assert set(SIGNED) <= set(OURS), "what is left out would come from the base"


@pytest.mark.parametrize(
    ("labels", "tag"),
    [
        ({}, "ds01-bob/thesis:latest"),
        (LABELS, "ds01-bob/thesis:latest"),
        (sign(OTHER, LABELS, "ds01-bob/thesis:latest"), "ds01-bob/thesis:latest"),
        ({**OURS, "ds01.image.installation": OTHER.id}, "ds01-bob/thesis:latest"),
        ({**OURS, "ds01.image.owner": "eve"}, "ds01-bob/thesis:latest"),
        (OURS, "ds01-eve/thesis:latest"),
        (OURS, "ds01-bob/other:latest"),
        (OURS, "ds01-kept/bob/other:0123456789ab"),
        (OURS, "ds01-course/thesis:candidate"),
        # Built on ours by another hub's builder of an older version, which writes these labels anew:
        ({**OURS, "ds01.image.base": "sha256:1"}, "ds01-bob/thesis:latest"),
        ({**OURS, "ds01.image.built": "2026-02-02T00:00:00"}, "ds01-bob/thesis:latest"),
    ],
)
def test_another_installations_name_is_put_aside(labels, tag):
    assert names(labels, tag, "site/lab:1") == ("site/lab:1",)


def test_without_an_installation_nothing_is_ours():
    assert names(OURS, "ds01-bob/thesis:latest", by=None) == ()


def test_a_name_that_says_nothing_of_whose_it_is_stays():
    tags = (
        "ds01/lab:latest",
        "ds01-pin/0123:latest",
        "ds01-building/b-1:image",
        "ds01-course/nlp:release-0123",
    )
    assert not any(map(claimed, tags))
    assert names({}, *tags) == tags


def test_an_adopted_image_is_ours_by_its_id():
    known = replace(INSTALLATION, adopted=frozenset({"sha256:1"}))
    assert names({}, "ds01-bob/thesis:latest", by=known) == ("ds01-bob/thesis:latest",)


def test_bob_of_another_hub_is_offered_nothing():
    facts = ImageFacts("sha256:1", tags=("ds01-bob/thesis:latest",), labels=OURS)
    assert [e.id for e in discover([sort_names(INSTALLATION, facts)], "bob")] == ["ds01-bob/thesis:latest"]
    assert discover([sort_names(OTHER, facts)], "bob") == ()


def test_an_image_with_another_hubs_name_is_read_by_none_of_ours():
    reader = Reader("bob")
    assert not may_read(Known("sha256:1", names=("site/lab:1",), elsewhere=True), reader)
    assert may_read(Known("sha256:1", names=("site/lab:1",)), reader)
    assert not may_read(Known("sha256:1", labelled="bob", elsewhere=True), reader)


VERSION = "ds01.singleuser.version"
OURS_NLP = sign(INSTALLATION, LABELS, "ds01-course/nlp:candidate")


@pytest.mark.parametrize(
    ("labels", "tags", "by", "made"),
    [
        (OURS, ("ds01-bob/thesis:latest",), INSTALLATION, True),
        (OURS, ("site/lab:1", "ds01-kept/bob/thesis:0123456789ab"), INSTALLATION, True),
        (
            sign(INSTALLATION, LABELS, "ds01-course/nlp:candidate"),
            ("ds01-course/nlp:r2",),
            INSTALLATION,
            True,
        ),
        ({VERSION: "6.1.1"}, ("ds01/lab:latest",), INSTALLATION, False),
        ({VERSION: "6.1.1"}, ("ds01-bob/thesis:latest",), INSTALLATION, False),
        # Pulled or built on ours, and so with all of its labels:
        (OURS, ("registry.example.org/bob/thesis:1",), INSTALLATION, False),
        (OURS, ("ds01-building/b-1:image",), INSTALLATION, False),
        (OURS, ("ds01-bob/other:latest",), INSTALLATION, False),
        (OURS, (), INSTALLATION, False),
        ({**OURS, VERSION: "6.1.1"}, ("ds01-bob/thesis:latest",), INSTALLATION, False),
        (OURS, ("ds01-bob/thesis:latest",), OTHER, False),
        (OURS, ("ds01-bob/thesis:latest",), None, False),
    ],
)
def test_only_what_was_built_here_needs_no_probe(labels, tags, by, made):
    assert made_here(by, ImageFacts("sha256:1", tags=tags, labels=labels)) is made


def test_what_was_adopted_by_its_id_needs_no_probe():
    by = replace(INSTALLATION, adopted=frozenset({"sha256:1"}))
    assert made_here(by, ImageFacts("sha256:1"))

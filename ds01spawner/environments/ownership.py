"""Which names of images on an engine belong to this installation. Pure.

Several hubs may share an engine, and each has a bob: ``ds01-bob/thesis`` says nothing of which. An image that
we build says it in signed labels, which bind it to the repository it was made for and to this very build: an
image that somebody builds on it inherits the labels, but has another base, time or name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..core.installation import Installation
from .facts import LAYER_LABEL, SINGLEUSER_LABEL, ImageFacts
from .naming import COURSE_NAMESPACE, parse_user_image

OWNER_LABEL = "ds01.image.owner"
TITLE_LABEL = "ds01.image.title"
DESCRIPTION_LABEL = "ds01.image.description"
REPRODUCIBLE_LABEL = "ds01.image.reproducible"
BASE_LABEL = "ds01.image.base"
BUILT_LABEL = "ds01.image.built"
COURSE_LABEL = "ds01.image.course"
REPOSITORY_LABEL = "ds01.image.repository"
INSTALLATION_LABEL = "ds01.image.installation"
MAC_LABEL = "ds01.image.mac"
SIGNED = (
    *(OWNER_LABEL, TITLE_LABEL, DESCRIPTION_LABEL, REPRODUCIBLE_LABEL, BASE_LABEL, BUILT_LABEL),
    *(COURSE_LABEL, SINGLEUSER_LABEL, LAYER_LABEL, REPOSITORY_LABEL, INSTALLATION_LABEL),
)
KEPT = "ds01-kept/"
CANDIDATE = "candidate"


def sign(installation: Installation, labels: Mapping[str, str], reference: str) -> dict[str, str]:
    """The labels of an image that is made as ``reference``, with the proof. Every signed one is written, so
    that none comes from the base."""
    told = {name: labels.get(name, "") for name in SIGNED} | dict(labels)
    told |= {REPOSITORY_LABEL: _repository(reference), INSTALLATION_LABEL: installation.id}
    return {**told, MAC_LABEL: installation.mac(told, SIGNED)}


def sort_names(installation: Installation | None, facts: ImageFacts) -> ImageFacts:
    """The image with those of its names that belong to another installation put aside, in ``others``."""
    others = tuple(tag for tag in facts.tags if claimed(tag) and not _ours(installation, facts, tag))
    return replace(facts, tags=tuple(t for t in facts.tags if t not in others), others=others)


def made_here(installation: Installation | None, facts: ImageFacts) -> bool:
    """Whether a build of this installation made this very image, and so tried it.

    Labels are inherited by whatever is built on the image, and anybody can copy them: they count only under
    a name in the repository that they were signed for, where no other image of theirs gets.
    """
    if installation is None:
        return False
    if facts.id in installation.adopted:
        return True
    return _signed(installation, facts.labels) and any(
        _named(tag) == facts.labels.get(REPOSITORY_LABEL) for tag in facts.tags
    )


def claimed(tag: str) -> bool:
    """Whether a name says whose the image is: a person's, a former one of theirs, a course's candidate."""
    if tag.startswith(f"{COURSE_NAMESPACE}/"):
        # A release's other tags only keep it from being pruned: it is started by its id.
        return tag.endswith(f":{CANDIDATE}")
    return tag.startswith(KEPT) or parse_user_image(tag) is not None


def _ours(installation: Installation | None, facts: ImageFacts, tag: str) -> bool:
    if installation is None:
        return False
    if facts.id in installation.adopted:
        return True
    return _signed(installation, facts.labels) and facts.labels.get(REPOSITORY_LABEL) == _named(tag)


def _signed(installation: Installation, labels: Mapping[str, str]) -> bool:
    return labels.get(INSTALLATION_LABEL) == installation.id and installation.matches(
        labels, SIGNED, labels.get(MAC_LABEL, "")
    )


def _named(tag: str) -> str:
    """The repository that a name stands for; a kept one for that which it was made as."""
    name = _repository(tag)
    return f"ds01-{name.removeprefix(KEPT)}" if name.startswith(KEPT) else name


def _repository(reference: str) -> str:
    return reference.rpartition(":")[0]

"""The environments a person may start: lab, course, mine and shared. Pure.

An environment names an image; *which* image that is today is decided at the start, by
`images.engine.resolve`, and labelled, so a session always says what it runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .. import messages
from ..core import freetext, yaml_reader
from ..core.errors import Refused
from ..messages.own_environments import NONE_OFFERED
from ..policy.image_use import allows
from . import reference
from .facts import ImageFacts
from .naming import owns, parse_user_image
from .ownership import DESCRIPTION_LABEL, OWNER_LABEL, REPRODUCIBLE_LABEL, TITLE_LABEL

Kind = Literal["lab", "course", "mine", "shared"]
_ORDER: dict[str, int] = {"course": 0, "lab": 1, "mine": 2, "shared": 3}

FRAMEWORK_LABEL = "ds01.framework"
RECIPE_LABEL = "ds01.image.recipe"


@dataclass(frozen=True)
class Environment:
    """Something a person may start. ``id`` is what options, links and the store carry.

    Lab environments are named by their key in the catalogue, courses ``course/<course>``, people's
    own images by their reference, which is unique on the machine.
    """

    id: str
    kind: Kind
    image: str
    """Image reference or id as configured."""
    title: str = ""
    description: str = ""
    framework: str = ""
    cuda: str = ""
    """CUDA version the image needs, such as ``12.4``; empty for none or unknown."""
    owner: str = ""
    groups: frozenset[str] = frozenset()
    """Groups that see it. Empty: everybody for a lab environment, its owner alone for an own one."""
    people: frozenset[str] = frozenset()
    """People who see it whatever their groups (course staff)."""
    course: str = ""
    default: bool = False
    pinned: str = ""
    """Immutable image id it is fixed to (a published course), or empty to follow ``image``."""
    created: str = ""
    size: int | None = None
    """Bytes, None when unknown."""
    reproducible: bool = True
    note: str = ""

    @property
    def name(self) -> str:
        """What people read: the title, or the id where there is none."""
        return self.title or self.id


@dataclass(frozen=True)
class Listed:
    """An environment as one person sees it: startable, or greyed out with the reason."""

    environment: Environment
    allowed: bool
    reason: str = ""


class CatalogueEntry(BaseModel):
    """One lab environment in the site's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: str = Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@+-]*$")
    title: str = Field(default="", max_length=80)
    description: str = Field(default="", max_length=400)
    framework: str = Field(default="", max_length=40)
    cuda: str = Field(default="", pattern=r"^([0-9]{1,2}(\.[0-9]{1,2})?)?$")
    groups: tuple[str, ...] = ()
    default: bool = False

    @field_validator("title", "description", "framework")
    @classmethod
    def _text(cls, value: str) -> str:
        return freetext.checked(value)

    @field_validator("image")
    @classmethod
    def _image(cls, value: str) -> str:
        reference.parse(value)
        return value

    @field_validator("cuda", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise ValueError(f'write the version in quotes: "{value}"')
        return value


class CatalogueFile(BaseModel):
    """The site's file of lab environments, by id."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    environments: dict[str, CatalogueEntry]


def load_catalogue(path: Path) -> tuple[Environment, ...]:
    """Read the site's lab environments; `yaml_reader.FileProblems` names file, line and key."""
    document = yaml_reader.read(path)
    parsed = yaml_reader.validate(document, CatalogueFile)
    problems = [
        document.problem(("environments", key), "an id has lower-case letters, digits, dots and dashes")
        for key in parsed.environments
        if not _is_key(key)
    ]
    defaults = [key for key, entry in parsed.environments.items() if entry.default]
    problems += [
        document.problem(("environments", key, "default"), f"{defaults[0]!r} is the default already")
        for key in defaults[1:]
    ]
    if problems:
        raise yaml_reader.FileProblems(problems)
    return tuple(_lab(key, entry) for key, entry in parsed.environments.items())


def _is_key(key: str) -> bool:
    allowed = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.-_")
    return 0 < len(key) <= 63 and set(key) <= allowed and key[0].isalnum() and key[-1].isalnum()


def _lab(key: str, entry: CatalogueEntry) -> Environment:
    data = entry.model_dump()
    return Environment(id=key, kind="lab", **{**data, "groups": frozenset(data["groups"])})


@dataclass(frozen=True)
class Share:
    """An environment that its owner shares with some groups."""

    environment: str
    owner: str
    groups: frozenset[str]


def discover(
    images: Iterable[ImageFacts],
    person: str,
    groups: Iterable[str] = (),
    uid: int | None = None,
    shares: Iterable[Share] = (),
) -> tuple[Environment, ...]:
    """The images on the machine that are ``person``'s own, or shared with one of ``groups``.

    Whose an image is says its name, which our builder alone gives; with whom it is shared, ``shares``.
    """
    found, theirs = [], frozenset(groups)
    shared = {share.environment: share for share in shares}
    for facts in images:
        for tag in facts.tags:
            parsed = parse_user_image(tag)
            if parsed is None:
                continue
            share = shared.get(tag)
            with_groups = share.groups if share else frozenset()
            if owns(person, parsed, uid):
                found.append(from_image(facts, tag, "mine", person, with_groups))
            elif share and share.groups & theirs:
                found.append(from_image(facts, tag, "shared", share.owner, with_groups))
    return tuple(sorted(found, key=lambda e: e.id))


def from_image(
    facts: ImageFacts, reference: str, kind: Kind, owner: str, groups: frozenset[str] = frozenset()
) -> Environment:
    """An environment out of an image on the machine and its labels."""
    labels = facts.labels
    reproducible = labels.get(REPRODUCIBLE_LABEL, "true") != "false"
    return Environment(
        id=reference,
        kind=kind,
        image=reference,
        title=freetext.plain(labels.get(TITLE_LABEL, "")),
        description=freetext.plain(labels.get(DESCRIPTION_LABEL, "")),
        framework=freetext.plain(labels.get(FRAMEWORK_LABEL, "")),
        cuda=facts.cuda,
        owner=owner or labels.get(OWNER_LABEL, ""),
        groups=groups,
        created=facts.created,
        size=facts.size,
        reproducible=reproducible,
        note="" if reproducible else "saved from a running session: it cannot be built again from a recipe",
    )


def course_environment(
    course: str,
    image: str,
    *,
    title: str,
    roster: Iterable[str],
    staff: Iterable[str] = (),
    pinned: str = "",
    description: str = "",
    cuda: str = "",
) -> Environment:
    """The card of a course: seen by its roster groups and its staff."""
    return Environment(
        id=f"course/{course}",
        kind="course",
        image=image,
        title=title,
        description=description,
        cuda=cuda,
        groups=frozenset(roster),
        people=frozenset(staff),
        course=course,
        pinned=pinned,
    )


def visible(
    environments: Iterable[Environment],
    person: str,
    groups: Iterable[str] = (),
    allowed: Sequence[str] = ("*",),
) -> list[Listed]:
    """What ``person`` sees, courses first; what the policy does not let them start carries the reason.

    ``allowed`` are the policy's patterns over ids and kinds (``lab``, ``mine``, ``course/*``, ``*``). A
    course whose roster lists the person is allowed by that roster: the policy need not repeat it.
    Environments that are not theirs to know of are left out.
    """
    mine = frozenset(groups)
    seen = [e for e in environments if _sees(e, person, mine)]
    seen.sort(key=lambda e: (_ORDER[e.kind], not e.default, e.name.lower(), e.id))
    return [_listed(e, allowed) for e in seen]


def _sees(environment: Environment, person: str, groups: frozenset[str]) -> bool:
    if environment.kind == "mine":
        return environment.owner == person
    if environment.kind == "lab" and not environment.groups:
        return True
    return person in environment.people or bool(environment.groups & groups)


def _listed(environment: Environment, allowed: Sequence[str]) -> Listed:
    if allows(allowed, environment.id, (environment.kind,)):
        return Listed(environment, True)
    listed = ", ".join(allowed) or "none"
    return Listed(environment, False, f"your limits allow these environments: {listed}")


def choose(
    environments: Iterable[Environment],
    environment_id: str,
    person: str,
    groups: Iterable[str] = (),
    allowed: Sequence[str] = ("*",),
) -> Environment:
    """The environment a start asks for; an empty id means the default. `Refused` says why not.

    One that exists but is not the person's to see is refused in the same words as one that does not
    exist, so that nobody learns another's project names.
    """
    listed = visible(environments, person, groups, allowed)
    if not environment_id:
        return _default(listed)
    for item in listed:
        if item.environment.id == environment_id:
            if item.allowed:
                return item.environment
            raise Refused(messages.environment_not_allowed(item.environment.name, why=item.reason))
    raise Refused(messages.environment_unknown(environment_id))


def _default(listed: Sequence[Listed]) -> Environment:
    startable = [i.environment for i in listed if i.allowed]
    marked = [e for e in startable if e.default] + [e for e in startable if e.kind == "lab"] + startable
    if marked:
        return marked[0]
    raise Refused(messages.environment_unknown("", NONE_OFFERED))


def update_available(running_image: str, environment_image: str) -> bool:
    """Whether a session runs another image than its environment would start now."""
    return bool(running_image and environment_image) and running_image != environment_image


def with_facts(environment: Environment, facts: ImageFacts) -> Environment:
    """The environment with size, date and CUDA as the image itself tells them."""
    return replace(environment, created=facts.created, size=facts.size, cuda=environment.cuda or facts.cuda)

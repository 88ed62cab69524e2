"""Names of images: one injective mapping from people, projects and courses to repositories. Pure.

``ds01-<user>/<project>:<tag>`` is what the DS01 command line uses too. A repository name allows less
than a user name does, so a name that does not fit is written as ``<readable part>--<hash>``; names
that fit stay as they are, and may not contain ``--``, so the two never meet.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

# Docker's grammar of one path component, without the runs of dashes that mark our own hashes.
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-)[a-z0-9]+)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE = re.compile(
    r"ds01-(?P<owner>[a-z0-9._-]+)/(?P<name>[a-z0-9._-]+):(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})"
)
_MAX = 63
COURSE_NAMESPACE = "ds01-course"
PIN_NAMESPACE = "ds01-pin"
HALF_BUILT_NAMESPACE = "ds01-building"
"""Where an image is kept while it is checked. Nothing there is ever offered."""
KEPT_NAMESPACE = "ds01-kept"
"""Former images of an environment: ``ds01-kept/<owner>/<project>:<short id>``."""
_RESERVED = frozenset({"course", "pin", "building", "lab", "shared", "base"})


def component(name: str, reserved: frozenset[str] = frozenset()) -> str:
    """``name`` as one component of a repository name; different names give different components."""
    if _COMPONENT.fullmatch(name) and len(name) <= _MAX and name not in reserved:
        return name
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:32].strip("-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{readable or 'x'}--{digest}"


def owner_component(user: str) -> str:
    """The part of a repository name that belongs to ``user``.

    Names made of digits only are hashed: ``ds01-1001/…`` belongs to the *uid* 1001 (the command line
    names images so), and a person who is called 1001 must not own those.
    """
    if user.isdecimal():
        return component(user, frozenset({user}))
    return component(user, _RESERVED)


def user_repository(user: str, project: str) -> str:
    """``ds01-<user>/<project>`` with both parts mapped."""
    return f"ds01-{owner_component(user)}/{component(project)}"


def user_image(user: str, project: str, tag: str = "latest") -> str:
    """The image of a person's project; ``ValueError`` when ``tag`` cannot be one."""
    return f"{user_repository(user, project)}:{checked_tag(tag)}"


def course_repository(course: str) -> str:
    """``ds01-course/<course>``."""
    return f"{COURSE_NAMESPACE}/{component(course)}"


def checked_tag(tag: str) -> str:
    """``tag`` if it may name an image, else ``ValueError`` with a sentence."""
    if not _TAG.fullmatch(tag):
        raise ValueError(
            "a tag has 1 to 128 letters, digits, dots, dashes or underscores and starts with no dot or dash"
        )
    return tag


@dataclass(frozen=True)
class UserImage:
    """A reference of the form ``ds01-<owner>/<name>:<tag>``, taken apart."""

    owner: str
    name: str
    tag: str

    @property
    def reference(self) -> str:
        """The reference, whole."""
        return f"ds01-{self.owner}/{self.name}:{self.tag}"


def parse_user_image(reference: str) -> UserImage | None:
    """Take a person's image reference apart, or None when it is not one (a course's included)."""
    match = _IMAGE.fullmatch(reference)
    if match is None or match["owner"] in _RESERVED:
        return None
    return UserImage(match["owner"], match["name"], match["tag"])


def owns(user: str, image: UserImage, uid: int | None = None) -> bool:
    """Whether the image is ``user``'s: by name, or by the uid the command line names images with."""
    return image.owner == owner_component(user) or (uid is not None and image.owner == str(uid))

"""Who may read an image: decided on the image's id and all that is known of it, never on a name. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .naming import COURSE_NAMESPACE, HALF_BUILT_NAMESPACE, KEPT_NAMESPACE, PIN_NAMESPACE, owner_component
from .reference import parsed

HIDDEN = frozenset({PIN_NAMESPACE, HALF_BUILT_NAMESPACE})
"""Names there are our own book-keeping: no right follows from them, and nothing is read by them."""


@dataclass(frozen=True)
class Reader:
    """Whoever wants to read an image."""

    name: str
    groups: frozenset[str] = frozenset()
    uid: int | None = None
    admin: bool = False

    @property
    def marks(self) -> frozenset[str]:
        """What images of theirs are called by in names: ``ds01-<mark>/…``."""
        return frozenset({owner_component(self.name)} | ({str(self.uid)} if self.uid is not None else set()))


@dataclass(frozen=True)
class CourseUse:
    """What a course does with an image: given to its roster once published, else to its staff alone."""

    course: str
    staff: frozenset[str] = frozenset()
    roster: frozenset[str] = frozenset()
    published: bool = False


@dataclass(frozen=True)
class Known:
    """Everything known of one image id: its names, and what the store's records say."""

    id: str
    names: tuple[str, ...] = ()
    """All its tags and digests, as the engine writes them."""
    owners: frozenset[str] = frozenset()
    """Whose builds made it, by name."""
    labelled: str = ""
    """The owner in its label. Labels are inherited: it can only take rights away."""
    elsewhere: bool = False
    """Whether it has a name that belongs to another installation; that can only take rights away."""
    courses: tuple[CourseUse, ...] = ()
    shared_with: frozenset[str] = frozenset()
    """Groups that its owner shares it with, as it is now."""
    listed_for: frozenset[str] | None = None
    """Groups that the site's own list offers it to, empty for everybody; None where it is not in the list."""


def may_read(known: Known, reader: Reader) -> bool:
    """Whether ``reader`` may build from the image, start it, or hand it out."""
    spaces = [_space(r.path) for r in parsed(known.names)]
    marks = {owner for kind, owner in spaces if kind == "person"}
    public = any(kind == "public" for kind, _ in spaces)
    owners = marks | {owner_component(o) for o in known.owners}
    if known.labelled:
        owners.add(owner_component(known.labelled))
    if known.elsewhere:
        owners.add("")  # the mark of no reader of ours
    if reader.admin:
        return bool(known.owners or known.courses or known.listed_for is not None or marks or public)
    if known.listed_for is not None and (not known.listed_for or known.listed_for & reader.groups):
        return True
    if reader.name in known.owners or known.shared_with & reader.groups:
        return True
    if any(_given(use, reader) for use in known.courses):
        return True
    if known.listed_for is not None:
        return False
    if owners:
        # Somebody's: a second name that leads to another person, however it came about, opens nothing.
        return bool(marks & reader.marks) and owners <= reader.marks
    return public


def _given(use: CourseUse, reader: Reader) -> bool:
    return reader.name in use.staff or (use.published and bool(use.roster & reader.groups))


def _space(path: str) -> tuple[str, str]:
    """What a name says of whose the image is: ``public``, ``hidden``, ``course`` or ``person`` and who."""
    first, _, rest = path.partition("/")
    if first in HIDDEN:
        return "hidden", ""
    if first == KEPT_NAMESPACE:
        owner = rest.partition("/")[0]
        return ("course", "") if owner == "course" else ("person", owner)
    if first == COURSE_NAMESPACE:
        return "course", ""
    if first.startswith("ds01-") and rest:
        return "person", first.removeprefix("ds01-")
    return "public", ""


def hidden_name(path: str) -> bool:
    """Whether a name is one of our own book-keeping, by which nothing is read."""
    return path.partition("/")[0] in HIDDEN


def reserved_name(path: str) -> bool:
    """Whether a name lies in a name space of ours, so that no registry is asked for it."""
    return path.startswith("ds01-") and "/" in path


def names_of(tags: Iterable[str], digests: Iterable[str]) -> tuple[str, ...]:
    """Names as `Known` takes them."""
    return (*tags, *digests)

"""The one place that says which image a name means, and whether somebody may read it.

name → one image id on the engine → everything known of that id → `rights.may_read`. Whoever is refused
hears the same as for a name that does not exist. Blocking: call from a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..core.errors import DS01Error, EngineError, StoreError
from ..engines.docker.image_store import ImageMissing, Images
from ..store.rows import CourseRow
from . import reference
from .catalogue import Environment
from .facts import ImageFacts
from .naming import course_repository
from .ownership import OWNER_LABEL
from .pulling import Pulled
from .registries import Registries
from .rights import CourseUse, Known, Reader, hidden_name, may_read, reserved_name

if TYPE_CHECKING:
    from ..store.store import Store


class NotReadable(DS01Error, ValueError):
    """A name means no image that this person may read. The clause says the same whatever the reason."""


class Resolver:
    """See the module. ``store`` gives the open store, ``listed`` the site's own environments, ``registries``
    those that the engine may be sent to."""

    def __init__(
        self,
        images: Images,
        store: Callable[[], Store],
        listed: Callable[[], Iterable[Environment]] = tuple,
        registries: Registries | None = None,
    ) -> None:
        self.images = images
        self._registries = registries or Registries()
        self._store = store
        self._listed = listed

    def resolve(self, text: str, reader: Reader) -> ImageFacts:
        """The image that ``text`` names for ``reader``; `NotReadable` where there is none."""
        try:
            wanted = reference.parse(text)
        except ValueError as error:
            raise NotReadable(f"{text[:80]!r}: {error}") from None
        try:
            facts = self.images.inspect(text)
        except ImageMissing:
            raise NotReadable(not_here(text)) from None
        if hidden_name(wanted.path) or not self.readable(facts, reader):
            raise NotReadable(not_here(text))
        return facts

    def fetch(
        self, text: str, reader: Reader, progress: Callable[[Pulled], None] = lambda _: None
    ) -> ImageFacts:
        """`resolve`, asking the registry for a public name that is not here yet."""
        try:
            self.images.inspect(text)
        except ImageMissing:
            if _public(text):
                self._refuse_registry(text)
                try:
                    self.images.pull(text, progress)
                except (EngineError, ImageMissing):
                    raise NotReadable(not_here(text)) from None
        return self.resolve(text, reader)

    def check(self, text: str, reader: Reader) -> None:
        """`NotReadable` at once for what `fetch` could only refuse; a public name is left to it."""
        try:
            self.resolve(text, reader)
        except NotReadable:
            if not _public(text):
                raise
            self._refuse_registry(text)

    def _refuse_registry(self, text: str) -> None:
        wanted = _parsed(text)
        if wanted is not None and (why := self._registries.refusal(wanted.domain)):
            raise NotReadable(f"{text[:80]!r} is not on this machine, and {why}")

    def readable(self, facts: ImageFacts, reader: Reader) -> bool:
        """Whether somebody may read an image, whatever they call it."""
        return may_read(self.known(facts), reader)

    def known(self, facts: ImageFacts) -> Known:
        """Everything known of an image. Without the store's records nobody gets a right out of them."""
        try:
            store = self._store()
            rows, courses, shares = (
                store.environments.find(kind="mine"),
                store.courses.find(),
                store.shares.find(),
            )
        except StoreError:
            rows, courses, shares = [], [], []
        return Known(
            id=facts.id,
            names=(*facts.tags, *facts.digests),
            owners=frozenset(row.owner for row in rows if _made(row.data, facts.id)),
            labelled=facts.labels.get(OWNER_LABEL, ""),
            elsewhere=bool(facts.others),
            courses=tuple(use for row in courses for use in _uses(row, facts)),
            shared_with=frozenset(s.group for s in shares if s.environment in facts.tags),
            listed_for=_listed_for(self._listed(), facts),
        )


def not_here(text: str) -> str:
    """What is said of every name that opens nothing: no word of whether it exists."""
    hint = "; images are taken by their names, and what looks like an image's id is no name"
    why = f"there is no image {text[:80]!r} that you may use: it does not exist, or belongs to others"
    return why + (hint if reference.looks_like_id(text) else "")


def _public(text: str) -> bool:
    """Whether a registry may be asked for a name: it is one, and none of ours."""
    wanted = _parsed(text)
    return wanted is not None and not wanted.id and not reserved_name(wanted.path)


def _parsed(text: str) -> reference.Reference | None:
    try:
        return reference.parse(text)
    except ValueError:
        return None


def _made(data: Mapping[str, Any], image_id: str) -> bool:
    return image_id == data.get("current") or image_id in data.get("previous", ())


def _uses(row: CourseRow, facts: ImageFacts) -> Iterable[CourseUse]:
    data = row.data
    pinned = data.get("pinned", "")
    # An image that its file names gives no right by that: the name may lead elsewhere tomorrow.
    candidate = named(facts, f"{course_repository(row.id)}:candidate")
    published = bool(pinned) and pinned == facts.id and row.state != "closed"
    if published or candidate or facts.id in (pinned, data.get("former")):
        staff = frozenset((row.owner, *data.get("staff", ()))) - {""}
        yield CourseUse(row.id, staff, frozenset(data.get("roster", ())), published)


def named(facts: ImageFacts, *names: str) -> bool:
    """Whether an image has one of these names, or is one of these ids."""
    wanted = [r for r in map(_parsed, names) if r is not None]
    return any(reference.carries(w, facts.id, facts.tags, facts.digests) for w in wanted)


def _listed_for(listed: Iterable[Environment], facts: ImageFacts) -> frozenset[str] | None:
    offers = [e for e in listed if named(facts, e.pinned or e.image)]
    if not offers:
        return None
    if any(not e.groups for e in offers):
        return frozenset()
    return frozenset().union(*(e.groups for e in offers))

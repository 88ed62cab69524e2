"""The environments one site offers: the catalogue, people's own images, and courses.

Blocking; call from a thread. The list may be some seconds old; a start resolves its image anew, and is
refused by the very check whose result stands on the environment's card.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import messages
from ..core.errors import DS01Error, Refused, StoreError
from ..core.lastgood import LastGood
from ..core.settings import Settings
from ..engines.docker.image_probe import ProbeCache
from ..engines.docker.image_store import ImageMissing, Images, Resolved, split_reference
from ..policy.resolve import Limits, Person
from ..store import Store
from .builder.sitebuild import hub_version
from .catalogue import Environment, Listed, Share, choose, discover, load_catalogue, visible, with_facts
from .course_cards import candidate_environment, course_environments
from .facts import ImageFacts
from .naming import course_repository
from .preflight import Host, Preflight, check
from .registries import Registries
from .resolver import Resolver
from .rights import Reader

TTL_S = 5.0
OLDEST_S = 60.0
"""Seconds for which the last list of images serves where the engine takes its time over the next."""
FACTS_KEPT = 1000
EVERYTHING = ("*",)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """An environment as its card shows it. ``image`` None: not on this machine; ``preflight`` None: not
    known yet, the first start tells."""

    listed: Listed
    image: ImageFacts | None
    preflight: Preflight | None

    @property
    def environment(self) -> Environment:
        """The environment, with size, date and CUDA where its image is here."""
        return self.listed.environment

    @property
    def reason(self) -> str:
        """Why it cannot be started, or nothing."""
        if self.listed.reason:
            return self.listed.reason
        return self.preflight.reason if self.preflight and not self.preflight.ok else ""


class Environments:
    """See the module's text. ``store`` gives the open store or raises `StoreError`, ``cuda`` the newest
    CUDA version the driver takes, or nothing."""

    def __init__(
        self,
        settings: Settings,
        images: Images,
        store: Callable[[], Store],
        cuda: Callable[[], str] = lambda: "",
    ) -> None:
        self._settings = settings
        self.images = images
        self._store = store
        self._cuda = cuda
        self.resolver = Resolver(images, store, self.lab, Registries(settings.image_registries))
        self._probing = threading.Lock()
        self._probes = ProbeCache(images, settings.state_dir / "probes.json")
        self._machine = LastGood(images.list, "ds01-image-list")
        images.on_change = self._changed
        self._facts: dict[str, ImageFacts] = {}
        self._architecture = ""

    # ------------------------------------------------------------ what there is

    def listed(self, person: Person, limits: Limits, fallback: str = "") -> list[Listed]:
        """What a person sees, each startable or with the reason why not."""
        return visible(self.all(person, fallback), person.name, person.groups, _allowed(limits))

    def shown(self, person: Person, limits: Limits, fallback: str = "", *, judge: bool = True) -> list[Shown]:
        """What a person sees, with what is known of each image. ``judge`` False leaves the check out."""
        found = []
        for item in self.listed(person, limits, fallback):
            facts = self.facts(item.environment.pinned or item.environment.image)
            if facts is not None:
                item = replace(item, environment=with_facts(item.environment, facts))
            found.append(Shown(item, facts, self.known_preflight(facts) if judge and facts else None))
        return found

    def choose(self, person: Person, limits: Limits, wanted: str, fallback: str = "") -> Environment:
        """The environment a start asks for (empty: the default); `Refused` when it may not be had."""

        def look() -> Environment:
            everything = self.all(person, fallback)
            return choose(everything, wanted, person.name, person.groups, _allowed(limits))

        try:
            return look()
        except Refused as refused:
            if refused.refusal.code != "no-environment":
                raise
        self.renew()  # it may have been built a moment ago
        return look()

    def all(self, person: Person, fallback: str = "") -> tuple[Environment, ...]:
        """Every environment that could concern a person; ``fallback`` is the image without a catalogue,
        the site's where not given."""
        own = discover(self._images(), person.name, person.groups, shares=self.shares())
        return (*self.lab(fallback), *self.courses(), *own)

    def lab(self, fallback: str = "") -> tuple[Environment, ...]:
        """The site's own environments."""
        if self._settings.environments is not None:
            return load_catalogue(self._settings.environments)
        image = fallback or self._settings.image
        if not image:
            return ()
        return (Environment("lab", "lab", image, title="JupyterLab", default=True),)

    def courses(self) -> tuple[Environment, ...]:
        """Courses as their roster and staff see them; none while the store is down, since nobody could
        say who may start them."""
        try:
            rows = self._store().courses.find()
        except StoreError:
            return ()
        found = list(course_environments(rows))
        built = {tag: facts.id for facts in self._images() for tag in facts.tags}
        for row in rows:
            candidate = built.get(f"{course_repository(row.id)}:candidate")
            if row.state == "published" and candidate and candidate != row.data.get("pinned"):
                found.append(candidate_environment(row))
        return tuple(found)

    def shares(self) -> tuple[Share, ...]:
        """What people share; nothing while the store is down, since nobody could say with whom."""
        try:
            rows = self._store().shares.find()
        except StoreError:
            return ()
        groups: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            groups.setdefault((row.environment, row.owner), set()).add(row.group)
        return tuple(Share(e, owner, frozenset(g)) for (e, owner), g in groups.items())

    def course(self, environment: Environment) -> Mapping[str, Any]:
        """The document of an environment's course; empty where it is no course's."""
        if not environment.course:
            return {}
        row = self._store().courses.get(environment.course)
        return row.data if row else {}

    # ------------------------------------------------------------ what an image is

    def facts(self, reference: str) -> ImageFacts | None:
        """What the engine says of an image; None when it is not on this machine."""
        name, tag = split_reference(reference)
        tagged = {t: f.id for f in self._images() for t in f.tags}
        known = reference if reference.startswith("sha256:") else tagged.get(f"{name}:{tag}", "")
        if known in self._facts:
            return self._facts[known]
        try:
            facts = self.images.inspect(known or reference)
        except ImageMissing:
            return None
        if len(self._facts) >= FACTS_KEPT:
            self._facts.clear()
        self._facts[facts.id] = facts
        return facts

    def known_preflight(self, facts: ImageFacts) -> Preflight | None:
        """The check of an image as far as it can be told without running it."""
        probe = None
        if self.images.needs_probe(facts):
            probe = self._probes.known(facts.id)
            if probe is None:
                return None
        return check(facts, self._host(), probe)

    def preflight(self, facts: ImageFacts) -> Preflight:
        """The check of an image; one we did not build is run once, locked in, and remembered."""
        if not self.images.needs_probe(facts):
            return check(facts, self._host())
        with self._probing:
            return check(facts, self._host(), self._probes.get(facts.id))

    def resolve(self, environment: Environment, person: Person) -> Resolved:
        """The immutable image an environment stands for; `Refused` where it is not here, or not theirs.

        What the site lists was decided by its administrators. All else is asked of the image itself: a name
        may have come to lead to another person's.
        """
        resolved = self.images.resolve(environment)
        reader = Reader(person.name, frozenset(person.groups))
        if environment.kind != "lab" and not self.resolver.readable(resolved.facts, reader):
            raise Refused(messages.environment_unknown(environment.id))
        return resolved

    def refuse_unfit(self, resolved: Resolved, wants_gpu: bool) -> None:
        """`Refused`, with reason and mend, when a session could not run from this image."""
        found = self.preflight(resolved.facts)
        if found.ok and (found.gpu_ok or not wants_gpu):
            return
        raise Refused(
            messages.environment_unfit(
                f"the environment {resolved.environment.name!r} cannot be started", found.reason
            )
        )

    def renew(self) -> None:
        """Read the machine's images anew; blocking, for those who must not go by what was there before."""
        self._machine.renew()

    def _changed(self) -> None:
        # Whoever changed something reads anew here, in the own thread, so that no one else waits for that.
        try:
            self._machine.renew()
        except DS01Error as error:
            log.info("The list of images cannot be read anew now: %s", error)
            self._machine.forget()

    def _host(self) -> Host:
        if not self._architecture:
            self._architecture = self.images.engine().architecture
        return Host(self._architecture, hub_version(), self._cuda())

    def _images(self) -> tuple[ImageFacts, ...]:
        return self._machine.get(TTL_S, oldest=OLDEST_S)


def _allowed(limits: Limits) -> tuple[str, ...]:
    return EVERYTHING if limits.images.use is None else tuple(limits.images.use)

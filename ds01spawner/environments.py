"""The environments one site offers: the catalogue, people's own images, and published courses.

Blocking; call from a thread. The list may be some seconds old; a start resolves its image anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from .errors import StoreError
from .images.catalogue import (
    Environment,
    Listed,
    choose,
    course_environment,
    discover,
    load_catalogue,
    visible,
)
from .images.engine import Images
from .images.facts import ImageFacts
from .policy.resolve import Limits, Person
from .settings import Settings
from .store import Store

TTL_S = 5.0
EVERYTHING = ("*",)


class Environments:
    """See the module's text. ``store`` gives the open store or raises `StoreError`."""

    def __init__(self, settings: Settings, images: Images, store: Callable[[], Store]) -> None:
        self._settings = settings
        self.images = images
        self._store = store
        self._lock = threading.Lock()
        self._machine: tuple[float, tuple[ImageFacts, ...]] = (-TTL_S, ())

    def listed(self, person: Person, limits: Limits, fallback: str = "") -> list[Listed]:
        """What a person sees, each startable or with the reason why not."""
        return visible(self.all(person, fallback), person.name, person.groups, _allowed(limits))

    def choose(self, person: Person, limits: Limits, wanted: str, fallback: str = "") -> Environment:
        """The environment a start asks for (empty: the default); `Refused` when it may not be had."""
        return choose(self.all(person, fallback), wanted, person.name, person.groups, _allowed(limits))

    def all(self, person: Person, fallback: str = "") -> tuple[Environment, ...]:
        """Every environment that could concern a person; ``fallback`` is the image without a catalogue."""
        own = discover(self._images(), person.name, person.groups)
        return (*self.lab(fallback), *self.courses(), *own)

    def lab(self, fallback: str = "") -> tuple[Environment, ...]:
        """The site's own environments."""
        if self._settings.environments is not None:
            return load_catalogue(self._settings.environments)
        if not fallback:
            return ()
        return (Environment("lab", "lab", fallback, title="JupyterLab", default=True),)

    def courses(self) -> tuple[Environment, ...]:
        """Published courses; none while the store is down, since nobody could say who may start them."""
        try:
            rows = self._store().courses(states=("published",))
        except StoreError:
            return ()
        return tuple(_course(row) for row in rows)

    def _images(self) -> tuple[ImageFacts, ...]:
        with self._lock:
            read_at, known = self._machine
            if time.monotonic() - read_at > TTL_S:
                known = self.images.list()
                self._machine = (time.monotonic(), known)
            return known


def _allowed(limits: Limits) -> tuple[str, ...]:
    return EVERYTHING if limits.images.use is None else tuple(limits.images.use)


def _course(row: dict[str, Any]) -> Environment:
    data = row["data"]
    return course_environment(
        row["id"],
        data.get("image", ""),
        title=data.get("title", row["id"]),
        roster=(data["roster"],) if isinstance(data.get("roster"), str) else data.get("roster", ()),
        staff=data.get("staff", ()),
        pinned=data.get("pinned", ""),
        description=data.get("description", ""),
        cuda=data.get("cuda", ""),
    )

"""Dockerfiles of bob, held against the resolver and the pinning that every build goes through.

``does`` has ``build``, the Dockerfile. In it ``{id}`` stands for the 64 digits of alice's private image's id,
``{id2}``, ``{id3}``, ``{id12}`` for its first digits, ``{long}`` for 60,000 letters. ``base`` has what the
metadata of ``site/base`` says (``onbuild``, ``labels``), which bob may use. Returns ``refused``, ``text`` and
``reads``: what the builder is given to read, as ``base``, ``lab``, ``own``, ``private`` or ``other``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from support.service_world import LAB
from table import PEOPLE

from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.engines.docker.image_store import ImageMissing
from ds01spawner.environments.builder.pinning import pin
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.rights import Reader

PRIVATE, BASE, OWN = ("sha256:" + sign * 64 for sign in "abc")
WORDS = {PRIVATE: "private", BASE: "base", OWN: "own", LAB: "lab"}


def run(row: Any, stage: Any) -> dict[str, Any]:
    """Pin it."""
    world, who = stage.world, PEOPLE[row.role]
    given = row.does.get("base", {})
    facts = {"onbuild": tuple(given.get("onbuild", ())), "labels": given.get("labels", {})}
    world.images.held[BASE] = ImageFacts(BASE, tags=("site/base:latest",), **facts)
    world.images.held[OWN] = ImageFacts(OWN, tags=(f"ds01-{who}/own:latest",))
    image = world.images.held[PRIVATE]
    more = (f"ds01-{who}/innocent:latest", f"ds01-pin/{'a' * 12}:latest")
    world.images.held[PRIVATE] = replace(image, tags=(*image.tags, *more))
    world.images.inspect = partial(_as_an_engine, world.images.held)
    text, digits = row.does["build"], PRIVATE.removeprefix("sha256:")
    for word, much in (("{id2}", 2), ("{id3}", 3), ("{id12}", 12), ("{id}", 64)):
        text = text.replace(word, digits[:much])
    resolver, reader = world.site.environments.resolver, Reader(who)
    try:
        made = pin(text.replace("{long}", "x" * 60_000), lambda name: resolver.resolve(name, reader))
    except FileProblems as problems:
        return {"refused": True, "text": str(problems), "reads": []}
    reads = sorted({WORDS.get(i.facts.id, "other") for i in made.images})
    return {"refused": False, "text": made.text, "reads": reads}


def _as_an_engine(held: Mapping[str, ImageFacts], name: str) -> ImageFacts:
    """An engine finds an image by any way to say its name, and by the first digits of its id."""
    plain = name.removeprefix("index.").removeprefix("docker.io/").partition("@")
    tagged = plain[0] if ":" in plain[0] else f"{plain[0]}:latest"
    for facts in held.values():
        digits = facts.id.removeprefix("sha256:")
        if tagged in facts.tags or plain[2] == facts.id or digits.startswith(name.removeprefix("sha256:")):
            return facts
    raise ImageMissing(f"image {name}: not on this machine")

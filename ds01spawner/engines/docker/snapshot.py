"""Tag an environment for an experiment, keep a session's packages, prune images. Decisions are pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from docker import errors as docker_errors

from ...core.errors import EngineError
from ...environments.builder.recipe import Recipe, pip_package
from ...environments.facts import ImageFacts
from ...environments.naming import HALF_BUILT_NAMESPACE, PIN_NAMESPACE, checked_tag, parse_user_image
from ...environments.ownership import sign
from . import bounded
from .image_store import ImageMissing, Images, asking

# Asked of the user's Python itself, so that packages in the session's own home count too.
_LIST = """
import json
from importlib import metadata
found = {(d.metadata["Name"], d.version) for d in metadata.distributions() if d.metadata["Name"]}
print(json.dumps(sorted(found)))
"""
_COMMAND = (
    "python=$(cat /opt/ds01/layer/user_python 2>/dev/null || command -v python3 || command -v python);"
    ' cd / && exec "$python" -c "$DS01_CODE"'
)
MAX_OUTPUT = 4 * 2**20
MAX_PACKAGES = 10_000


@dataclass(frozen=True)
class PackageDiff:
    """What a session has that its image has not. Names are as pip prints them."""

    added: tuple[str, ...] = ()
    """``name==version`` of packages that are new."""
    changed: tuple[str, ...] = ()
    """``name==version`` of packages in another version than the image's."""
    removed: tuple[str, ...] = ()
    """Names that are gone; they come back with the image."""
    unsafe: tuple[str, ...] = ()
    """What cannot be written into a recipe: no name or version that an index would know."""

    @property
    def keep(self) -> list[str]:
        """What a recipe must have for the next session to be like this one."""
        return [*self.added, *self.changed]

    @property
    def empty(self) -> bool:
        """Whether the session is as its image is."""
        return not (self.added or self.changed or self.removed)

    def as_dict(self) -> dict[str, list[str]]:
        """The JSON form."""
        return {n: list(getattr(self, n)) for n in ("added", "changed", "removed", "unsafe")}


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def package_diff(session: Mapping[str, str], image: Mapping[str, str]) -> PackageDiff:
    """Compare packages by name and version; what the session says is not trusted to be well-formed. Pure."""
    now = {normal(name): (name, version) for name, version in session.items()}
    before = {normal(name): version for name, version in image.items()}
    added: list[str] = []
    changed: list[str] = []
    unsafe: list[str] = []
    for key, (name, version) in sorted(now.items()):
        if before.get(key) == version:
            continue
        # A local version such as 2.5.1+cu124 is of another index: the public part is what can be asked for.
        wanted = f"{name}=={version.split('+')[0]}"
        try:
            pip_package(wanted)
        except ValueError:
            unsafe.append(f"{name}=={version}"[:120])
            continue
        (changed if key in before else added).append(wanted)
    removed = sorted(key for key in before if key not in now)
    return PackageDiff(tuple(added), tuple(changed), tuple(removed), tuple(unsafe))


def packages_of_lock(lock: Mapping[str, Any]) -> dict[str, str]:
    """``{name: version}`` of a build's lock."""
    pairs = (str(item).partition("==") for item in lock.get("pip", ()))
    return {name: version for name, _, version in pairs if name and version}


def kept(recipe: Recipe, diff: PackageDiff) -> Recipe:
    """The recipe with the session's new packages in it."""
    return recipe.with_pip(diff.keep) if diff.keep else recipe


def session_packages(images: Images, container: str, timeout_s: int = 30) -> dict[str, str]:
    """The packages of a running session's Python, asked inside it as its own user.

    `EngineError` when the session does not answer in time: then nothing is known, not "nothing new".
    """
    client = images.client(timeout_s)
    try:
        with asking(f"asking {container} for its packages"):
            started = client.exec_create(
                container, ["sh", "-c", _COMMAND], environment={"DS01_CODE": _LIST}, stderr=False
            )
            output = bounded.exec_output(client, started["Id"], MAX_OUTPUT, timeout_s)
            code = client.exec_inspect(started["Id"])["ExitCode"]
    finally:
        client.close()
    return parse_packages(output, code)


def parse_packages(output: bytes, code: int | None) -> dict[str, str]:
    """Read the answer of the listing; it comes from inside a session, so its shape is checked."""
    if code != 0 or len(output) > MAX_OUTPUT:
        raise EngineError("the session's Python did not list its packages")
    try:
        pairs = json.loads(output.decode().strip().splitlines()[-1])[:MAX_PACKAGES]
        return {str(name)[:100]: str(version)[:60] for name, version in pairs}
    except (ValueError, IndexError, TypeError, KeyError, RecursionError) as error:
        raise EngineError("the session's Python answered something else than its packages") from error


def tagged(environment_image: str, tag_name: str) -> str:
    """The reference of an own environment under a further tag; ``ValueError`` says why not. Pure."""
    parsed = parse_user_image(environment_image)
    if parsed is None:
        raise ValueError(f"{environment_image!r} is not an own environment (ds01-<user>/<project>:<tag>)")
    return f"ds01-{parsed.owner}/{parsed.name}:{checked_tag(tag_name)}"


def tag(images: Images, environment_image: str, tag_name: str) -> str:
    """Give an own environment a second name, ``experiment-42``; returns the new reference.

    A tag that is taken by another image is not moved: an experiment's name means one image.
    """
    reference = tagged(environment_image, tag_name)
    source = images.inspect(environment_image).id
    try:
        there = images.inspect(reference).id
    except ImageMissing:
        images.tag(source, reference)
        return reference
    if there != source:
        raise ValueError(f"{reference} is taken by another image; choose another tag")
    return reference


def commit(images: Images, container: str, reference: str, labels: Mapping[str, str]) -> str:
    """Save a session's file system as an image, marked as not reproducible; returns the id.

    Only where the policy allows it. The engine would carry the session's labels and variables (its
    token among them) into the image, so each that is not the image's own is emptied.
    """
    repository, _, name = reference.rpartition(":")
    images.refuse_taken(reference)
    client = images.client(600)
    try:
        with asking(f"saving {container}"):
            made_with = client.inspect_container(container)
            image = images.inspect(made_with["Image"])
            proven = sign(images.installation(), labels, reference)
            conf = committed_config(made_with.get("Config") or {}, image, proven)
            made = str(client.commit(container, repository, name, conf=conf)["Id"])
            images.changed(reference)
            return made
    except docker_errors.DockerException as error:
        raise EngineError(f"saving {container}: {error}") from error
    finally:
        client.close()


def committed_config(
    container: Mapping[str, Any], image: ImageFacts, labels: Mapping[str, str]
) -> dict[str, Any]:
    """The configuration of an image saved from a container: the image's own, the rest emptied. Pure."""
    env = dict.fromkeys((item.partition("=")[0] for item in container.get("Env") or ()), "")
    env |= image.env
    named = dict.fromkeys(container.get("Labels") or {}, "") | dict(image.labels) | dict(labels)
    return {
        "Env": [f"{key}={value}" for key, value in env.items()],
        "Labels": named,
        "Cmd": list(image.cmd) or None,
        "Entrypoint": list(image.entrypoint) or None,
        "WorkingDir": "/workspace",
        "User": image.user,
    }


@dataclass(frozen=True)
class PruneItem:
    """One tag and what becomes of it, with the reason."""

    reference: str
    image_id: str
    size: int | None
    remove: bool
    reason: str


@dataclass(frozen=True)
class PruneRule:
    """What may go: own images unused for ``unused_for``; ``max_images`` newest of each person stay."""

    unused_for: timedelta = timedelta(days=90)
    max_images: int | None = None


def prune_plan(
    images: Iterable[ImageFacts],
    in_use: Mapping[str, tuple[str, ...]],
    referenced: Mapping[str, str],
    last_used: Mapping[str, datetime],
    rule: PruneRule,
    now: datetime,
) -> list[PruneItem]:
    """Decide about every tag of ours. Pure: nothing is removed here.

    ``in_use`` are containers by image id, ``referenced`` reasons to keep by image id or reference (a
    course, an environment's former image, a snapshot), ``last_used`` the last start by image id. An image
    whose age is not known is kept.
    """
    plan = []
    owned: dict[str, list[tuple[str, ImageFacts]]] = {}
    for facts in images:
        for reference in facts.tags:
            parsed = parse_user_image(reference)
            if parsed is not None:
                owned.setdefault(parsed.owner, []).append((reference, facts))
            elif reference.startswith((f"{PIN_NAMESPACE}/", f"{HALF_BUILT_NAMESPACE}/")):
                plan.append(_left_over(reference, facts, in_use, referenced))
    for items in owned.values():
        items.sort(key=lambda item: item[1].created, reverse=True)
        for rank, (reference, facts) in enumerate(items):
            plan.append(_own(reference, facts, rank, in_use, referenced, last_used, rule, now))
    return sorted(plan, key=lambda i: i.reference)


def _left_over(
    reference: str, facts: ImageFacts, in_use: Mapping[str, tuple[str, ...]], referenced: Mapping[str, str]
) -> PruneItem:
    keep = _needed(reference, facts, in_use, referenced)
    reason = keep or "only a build needed it; the next build makes it again"
    return PruneItem(reference, facts.id, facts.size, not keep, reason)


def _needed(
    reference: str, facts: ImageFacts, in_use: Mapping[str, tuple[str, ...]], referenced: Mapping[str, str]
) -> str:
    if holders := in_use.get(facts.id):
        return f"in use by {', '.join(holders[:3])}"
    return referenced.get(reference) or referenced.get(facts.id) or ""


def _own(
    reference: str,
    facts: ImageFacts,
    rank: int,
    in_use: Mapping[str, tuple[str, ...]],
    referenced: Mapping[str, str],
    last_used: Mapping[str, datetime],
    rule: PruneRule,
    now: datetime,
) -> PruneItem:
    def item(remove: bool, reason: str) -> PruneItem:
        return PruneItem(reference, facts.id, facts.size, remove, reason)

    if keep := _needed(reference, facts, in_use, referenced):
        return item(False, keep)
    times = [t for t in (last_used.get(facts.id), _created(facts)) if t is not None]
    if not times:
        return item(False, "its age is not known")
    if rule.max_images is not None and rank >= rule.max_images:
        return item(True, f"beyond the {rule.max_images} newest of its owner")
    idle = now - max(times)
    if idle > rule.unused_for:
        return item(True, f"not used for {idle.days} days (limit {rule.unused_for.days})")
    return item(False, f"used or built {idle.days} days ago")


def _created(facts: ImageFacts) -> datetime | None:
    text = re.sub(r"\.[0-9]+", "", facts.created).replace("Z", "+00:00")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None

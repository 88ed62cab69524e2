"""Environments as the store keeps them: the current image, the former ones, recipe and lock.

An environment's document is ``{reference, title, recipe, lock, current, previous, size, built, build,
course, groups}``; ``current`` and ``previous`` are immutable image ids. Former images keep a tag in a
namespace of their own, so that the engine's own prune cannot take the way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .. import messages
from ..core.errors import EngineError, Refused
from ..engines.docker.image_store import ImageMissing, Images, split_reference
from ..messages.own_environments import BUILT_HERE
from ..store.store import Store
from .builder.builds import BuildRequest, drop
from .facts import ImageFacts
from .inventory import LockJson
from .naming import KEPT_NAMESPACE


def kept_reference(reference: str, image_id: str) -> str:
    """The tag that holds a former image of ``reference``."""
    repository, _ = split_reference(reference)
    return f"{KEPT_NAMESPACE}/{repository.removeprefix('ds01-')}:{image_id.removeprefix('sha256:')[:12]}"


def forward(previous: list[str], current: str, new: str, keep: int) -> tuple[list[str], list[str]]:
    """The former images after ``new`` took over, newest first, and those that are dropped. Pure."""
    if not current or current == new:
        return [p for p in previous if p != new][:keep], []
    former = [current, *(p for p in previous if p not in (current, new))]
    return former[:keep], former[keep:]


def record(
    store: Store,
    images: Images,
    request: BuildRequest,
    facts: ImageFacts,
    lock: LockJson,
    build: str,
    now: datetime,
) -> None:
    """Make ``facts`` the environment's current image; the one before stays for going back."""
    known = store.environments.get(request.environment)
    before = known.data if known else {}
    previous, dropped = forward(
        before.get("previous", []), before.get("current", ""), facts.id, request.limits.keep
    )
    for image in previous:
        _keep(images, request.reference, image)
    data = {
        **before,
        "reference": request.reference,
        "title": request.recipe.title,
        "recipe": request.recipe.model_dump(mode="json", exclude_defaults=True),
        "lock": lock,
        "current": facts.id,
        "previous": previous,
        "size": facts.size,
        "built": now.isoformat(timespec="seconds"),
        "build": build,
        "course": request.course,
        "groups": list(request.groups),
    }
    store.environments.put(request.environment, request.owner, request.kind, "ready", data, now)
    for image in dropped:
        drop(images, kept_reference(request.reference, image))


def rollback(store: Store, images: Images, environment: str, now: datetime, to: str = "") -> str:
    """Go back to the image before (or to the former one named ``to``); returns its id.

    The image that was current becomes the newest former one, so going back can itself be undone.
    """
    data = _document(store, environment)
    previous: list[str] = data.get("previous", [])
    target = to or (previous[0] if previous else "")
    if target not in previous:
        raise Refused(messages.nothing_before(environment))
    try:
        images.inspect(target)
    except ImageMissing:
        raise Refused(messages.nothing_before(environment)) from None
    current = data["current"]
    _keep(images, data["reference"], current)
    images.tag(target, data["reference"])
    drop(images, kept_reference(data["reference"], target))
    changed = {**data, "current": target, "previous": [current, *(p for p in previous if p != target)]}
    store.environments.update(environment, now, lambda row: {"data": {**row.data, **changed}})
    return target


def delete(store: Store, images: Images, environment: str, known: Mapping[str, Any] | None = None) -> None:
    """Remove an environment with its images; `Refused` while a container uses one of them.

    ``known`` is the document of one that no build wrote down, such as a further tag.
    """
    data = known or _document(store, environment)
    used = images.in_use()
    for image in (data["current"], *data.get("previous", [])):
        if holders := used.get(image):
            raise Refused(messages.environment_in_use(environment, holders))
    images.remove(data["reference"])
    for image in (data["current"], *data.get("previous", [])):
        drop(images, kept_reference(data["reference"], image))
    store.environments.delete(environment)


def _keep(images: Images, reference: str, image: str) -> None:
    try:
        images.tag(image, kept_reference(reference, image))
    except (ImageMissing, EngineError):
        return  # an administrator removed it: there is nothing left to go back to


def _document(store: Store, environment: str) -> dict[str, Any]:
    known = store.environments.get(environment)
    if known is None:
        raise Refused(messages.environment_unknown(environment, BUILT_HERE))
    return dict(known.data)

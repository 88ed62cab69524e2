"""What builds left without a name: the images of their steps, found by what they say of themselves.

A step that ended well stays as its owner's cache, also where the build failed later. No Dockerfile can write
what such an image says (its comment), and the seal in it is the installation's. Blocking: call from a thread.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from docker import errors as docker_errors

from ...core.installation import Installation

KEEP_S = 24 * 3600
"""Seconds for which a step without a named image above it is kept for the next build."""
AT_ONCE = 500
CHAIN = 200
"""Steps that are followed downwards to find one of ours."""
_SIGNED = ("ds01.step",)


def seal(installation: Installation, note: str) -> str:
    """A step's note with the proof of whose it is."""
    return f"{note} {installation.id} {installation.mac({'ds01.step': note}, _SIGNED)}"


def sealed(installation: Installation, comment: str) -> bool:
    """Whether a build of this installation wrote an image's comment."""
    note, _, rest = comment.partition(f" {installation.id} ")
    return bool(rest) and installation.matches({"ds01.step": note}, _SIGNED, rest)


def sweep(client: Any, installation: Installation, older_s: float = KEEP_S, most: int = AT_ONCE) -> int:
    """Remove old images without a name that builds of this installation left; returns how many.

    The engine removes with each the nameless ones below it that nothing else needs, and none that a container
    or another image is made from.
    """
    before, removed = time.time() - older_s, 0
    rows = client.images(filters={"dangling": True})
    for row in sorted(rows, key=lambda r: r.get("Created", 0)):
        if removed >= most or row.get("Created", 0) > before:
            break
        if _ours(client, installation, row["Id"]):
            with suppress(docker_errors.APIError):
                client.remove_image(row["Id"], force=False, noprune=False)
                removed += 1
    return removed


def _ours(client: Any, installation: Installation, image: str) -> bool:
    """Whether an image is a step of ours, or was made out of one, without a name between."""
    for _ in range(CHAIN):
        try:
            found = client.inspect_image(image)
        except docker_errors.NotFound:
            return False
        if found.get("RepoTags"):
            return False
        if sealed(installation, found.get("Comment") or ""):
            return True
        image = found.get("Parent") or ""
        if not image:
            return False
    return False

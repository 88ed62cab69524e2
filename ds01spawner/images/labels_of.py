"""The labels our builds put on images, and those an image may not have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from .catalogue import (
    DESCRIPTION_LABEL,
    FRAMEWORK_LABEL,
    GROUPS_LABEL,
    OWNER_LABEL,
    REPRODUCIBLE_LABEL,
    TITLE_LABEL,
)
from .facts import CUDA_LABEL, LAYER_LABEL, SINGLEUSER_LABEL, ImageFacts
from .layer import revision

if TYPE_CHECKING:
    from .builds import BuildRequest

BASE_LABEL = "ds01.image.base"
BUILT_LABEL = "ds01.image.built"
COURSE_LABEL = "ds01.image.course"
_OPEN = (SINGLEUSER_LABEL, LAYER_LABEL, CUDA_LABEL, FRAMEWORK_LABEL, "ds01.content")


def reserved(labels: Mapping[str, str]) -> list[str]:
    """Labels that are about sessions. A container inherits its image's labels, so these would lie."""
    return sorted(
        k for k in labels if k.startswith("ds01.") and not k.startswith("ds01.image.") and k not in _OPEN
    )


def image_labels(
    request: BuildRequest, hub_version: str, base: ImageFacts, now: datetime, reproducible: bool = True
) -> dict[str, str]:
    """What a build writes on its image. They win over what the base or a Dockerfile says."""
    return {
        OWNER_LABEL: request.owner,
        TITLE_LABEL: request.recipe.title,
        DESCRIPTION_LABEL: request.recipe.description,
        GROUPS_LABEL: ",".join(request.groups),
        COURSE_LABEL: request.course,
        REPRODUCIBLE_LABEL: "true" if reproducible else "false",
        BASE_LABEL: base.id,
        BUILT_LABEL: now.isoformat(timespec="seconds"),
        SINGLEUSER_LABEL: hub_version,
        LAYER_LABEL: revision(hub_version),
    }

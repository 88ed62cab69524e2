"""The labels our builds put on images, and those an image may not have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from ..core import labels as session_labels
from ..core.installation import Installation
from .catalogue import FRAMEWORK_LABEL
from .facts import CUDA_LABEL, LAYER_LABEL, SINGLEUSER_LABEL, ImageFacts
from .layer import revision
from .ownership import (
    BASE_LABEL,
    BUILT_LABEL,
    COURSE_LABEL,
    DESCRIPTION_LABEL,
    OWNER_LABEL,
    REPRODUCIBLE_LABEL,
    TITLE_LABEL,
    sign,
)

if TYPE_CHECKING:
    from .builder.builds import BuildRequest

# What a session's container says of itself; the last ones are the DS01 command line's.
_SESSION = frozenset(
    v for k, v in vars(session_labels).items() if k.isupper() and isinstance(v, str) and "=" not in v
) | {"ds01.protected", "ds01.slice", "ds01.monitoring", "ds01.custom_image"}


_OPEN = frozenset({FRAMEWORK_LABEL, CUDA_LABEL})
"""Labels of ours that anybody may give: they describe the image and nothing follows from them."""
_SPACES = ("ds01.", "com.docker.", "io.docker.", "org.dockerproject.")
"""Whoever makes an image may not speak for the site, nor for the engine and its tools."""


def is_reserved(label: str) -> bool:
    """Whether a Dockerfile may not give a label."""
    return label.lower().startswith(_SPACES) and label not in _OPEN


def reserved(labels: Mapping[str, str]) -> list[str]:
    """Labels that are about sessions. A container inherits its image's labels, so these would lie."""
    return sorted(k for k, v in labels.items() if v and (k in _SESSION or k.startswith("ds01.gpu.")))


def image_labels(
    request: BuildRequest,
    hub_version: str,
    base: ImageFacts,
    now: datetime,
    installation: Installation,
    reproducible: bool = True,
) -> dict[str, str]:
    """What a build writes on its image. They win over what the base or a Dockerfile says."""
    told = {
        OWNER_LABEL: request.owner,
        TITLE_LABEL: request.recipe.title,
        DESCRIPTION_LABEL: request.recipe.description,
        COURSE_LABEL: request.course,
        REPRODUCIBLE_LABEL: "true" if reproducible else "false",
        BASE_LABEL: base.id,
        BUILT_LABEL: now.isoformat(timespec="seconds"),
        SINGLEUSER_LABEL: hub_version,
        LAYER_LABEL: revision(hub_version),
    }
    return sign(installation, told, request.reference)

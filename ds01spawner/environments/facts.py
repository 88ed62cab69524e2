"""What an engine says about an image, as plain values. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

SINGLEUSER_LABEL = "ds01.singleuser.version"
"""JupyterHub version of the single-user layer our builds add."""
LAYER_LABEL = "ds01.singleuser.layer"
"""Revision of that layer, to know when a rebuild would change it."""
LOCK_LABEL = "ds01.image.lock"
CUDA_LABEL = "ds01.cuda"

_CUDA = re.compile(r"([0-9]{1,2}\.[0-9]{1,2})(?:\.[0-9]+)*")


@dataclass(frozen=True)
class ImageFacts:
    """An image on the machine. ``id`` is immutable; tags move."""

    id: str
    tags: tuple[str, ...] = ()
    created: str = ""
    """ISO 8601 time with zone."""
    size: int | None = None
    """Bytes on disk, shared layers included; None when the engine did not say."""
    labels: Mapping[str, str] = field(default_factory=dict)
    os: str = "linux"
    architecture: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    """Names by digest, ``name@sha256:…``: what it is called in registries."""
    onbuild: tuple[str, ...] = ()
    """Instructions that run when another image is built on it."""
    others: tuple[str, ...] = ()
    """Names it has that belong to another installation; they are not among ``tags``."""

    @property
    def cuda(self) -> str:
        """CUDA version the image was made for (``12.4``), or empty."""
        for text in (self.labels.get(CUDA_LABEL, ""), self.env.get("CUDA_VERSION", "")):
            if match := _CUDA.match(text):
                return match[1]
        return ""


def from_inspect(data: Mapping[str, Any]) -> ImageFacts:
    """Facts from ``docker image inspect``."""
    config = data.get("Config") or {}
    pairs = (item.partition("=") for item in config.get("Env") or [])
    return ImageFacts(
        id=data["Id"],
        tags=tuple(data.get("RepoTags") or ()),
        created=_time(data.get("Created")),
        size=data.get("Size"),
        labels=dict(config.get("Labels") or {}),
        os=data.get("Os") or "linux",
        architecture=data.get("Architecture") or "",
        user=config.get("User") or "",
        entrypoint=_words(config.get("Entrypoint")),
        cmd=_words(config.get("Cmd")),
        env={name: value for name, _, value in pairs},
        volumes=tuple(config.get("Volumes") or ()),
        digests=tuple(data.get("RepoDigests") or ()),
        onbuild=tuple(config.get("OnBuild") or ()),
    )


def from_summary(data: Mapping[str, Any]) -> ImageFacts:
    """Facts from one row of ``docker images``: no command, no environment variables."""
    return ImageFacts(
        id=data["Id"],
        tags=tuple(t for t in data.get("RepoTags") or () if t != "<none>:<none>"),
        created=_time(data.get("Created")),
        size=data.get("Size"),
        labels=dict(data.get("Labels") or {}),
    )


def _words(value: Any) -> tuple[str, ...]:
    """A command of an image: a list, a shell string (old images), or nothing."""
    if isinstance(value, str):
        return ("/bin/sh", "-c", value)
    return tuple(value or ())


def _time(value: Any) -> str:
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, timezone.utc).isoformat()
    return str(value or "")

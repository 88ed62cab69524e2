"""The catalogue's images."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.settings import Settings
from ..engines.base import Finding, Level
from ..engines.docker.image_store import ImageMissing
from ..environments.builder.sitebuild import site_images
from ..environments.catalogue import load_catalogue
from ..environments.preflight import Host, check
from ..site import Site

IMAGE_LEVELS: dict[str, tuple[Level, str]] = {
    "refuse": ("error", "it cannot run as a session"),
    "gpu": ("warning", "sessions with a GPU cannot use it"),
    "note": ("warning", ""),
}


def check_images(settings: Settings) -> Iterator[Finding]:
    if settings.environments is None:
        yield Finding("ok", "there is no catalogue: the spawner's one image is offered")
        return
    images = site_images(settings)
    engine = images.engine()
    reading = Site(settings).engine.inventory(0).inventory
    host = Host(architecture=engine.architecture, hub_version=_hub_version(), cuda=reading.cuda)
    for environment in load_catalogue(settings.environments):
        try:
            facts = images.inspect(environment.pinned or environment.image)
        except ImageMissing:
            what = f"{environment.id}: {environment.image} is not on this machine"
            mend = f"docker pull {environment.image}, or build it"
            yield Finding("warning", what, "its first start fetches it, or fails", mend)
            continue
        faults = [f for f in check(facts, host).findings if f.level in IMAGE_LEVELS]
        for fault in faults:
            level, why = IMAGE_LEVELS[fault.level]
            yield Finding(level, f"{environment.id}: {fault.message}", why, fault.mend)
        if not faults:
            hint = " (its command was not tried)" if images.needs_probe(facts) else ""
            yield Finding("ok", f"{environment.id}: {environment.image}{hint}")


def _hub_version() -> str:
    import jupyterhub

    return str(jupyterhub.__version__)

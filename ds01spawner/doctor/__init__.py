"""What is wrong with a site, why it matters and what mends it. Changes nothing.

Each area is a function from the settings to findings; an area that cannot be looked at is itself a
finding, so one broken part never hides the others. To try what sessions reach, two containers run for
some seconds. Blocking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypedDict

from ..core.errors import DS01Error
from ..core.settings import Settings
from ..engines.base import Finding
from ..engines.docker.network_checks import check_isolation, check_network, check_outside
from .basic_checks import check_policy, check_settings, check_store
from .bound_checks import check_bounds
from .build_checks import check_builds
from .engine_checks import check_devices, check_engine
from .exposure_checks import check_exposure
from .image_checks import check_images
from .installation_checks import check_installation
from .mode_checks import check_modes
from .retirement_checks import check_retirements
from .session_checks import check_sessions
from .storage_checks import check_disk


class FindingJson(TypedDict):
    """One finding of an area."""

    area: str
    level: str
    what: str
    why: str
    mend: str


def diagnose(settings: Settings, areas: Iterable[str]) -> list[FindingJson]:
    """Findings of the chosen areas, as JSON-able rows in the order of `AREAS`."""
    rows: list[FindingJson] = []
    chosen = set(areas)
    for area, look in AREAS.items():
        if area not in chosen:
            continue
        try:
            found = list(look(settings))
        except DS01Error as error:
            found = [Finding("error", f"it cannot be checked: {error}")]
        rows += [
            {"area": area, "level": f.level, "what": f.what, "why": f.why, "mend": f.mend} for f in found
        ]
    return rows


AREAS: dict[str, Callable[[Settings], Iterable[Finding]]] = {
    "settings": check_settings,
    "installation": check_installation,
    "policy": check_policy,
    "engine": check_engine,
    "network": check_network,
    "isolation": check_isolation,
    "exposure": check_exposure,
    "bounds": check_bounds,
    "modes": check_modes,
    "gpus": check_devices,
    "store": check_store,
    "disk": check_disk,
    "images": check_images,
    "builds": check_builds,
    "sessions": check_sessions,
    "retirements": check_retirements,
    "outside": check_outside,
}
"""What can be looked at, in the order it is shown."""

ON_REQUEST = frozenset({"outside"})
"""Areas that are looked at only when they are named, because they send something out of the machine."""

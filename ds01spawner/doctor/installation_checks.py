"""Which installation this is, and whether any other on the engine uses its id or its sessions' labels."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from ..core import text
from ..core.installation import FILE, Standing
from ..core.settings import Settings
from ..engines.base import Finding
from ..engines.docker import neighbours
from ..engines.docker.engine import docker_of
from ..site import Site

FORGED_SHOWN = 10


def check_installation(settings: Settings) -> Iterator[Finding]:
    site, path = Site(settings), settings.state_dir / FILE
    mine = site.installation
    if mine is None:
        yield Finding(
            "error",
            f"{settings.state_dir} holds no installation",
            "no session can start, because none could be known again as this hub's",
            "start the hub, whose configure(c) makes it; is this the state folder of the hub?",
        )
        return
    yield Finding("ok", f"installation {mine.id} of the hub {settings.hub_id!r}")
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        why = "whoever reads its key can forge sessions"
        yield Finding("error", f"other accounts can read {path}", why, f"chmod 600 {path}")
    if not mine.migrated:
        why = "sessions and images of the version before are not this hub's until then"
        mend = "restart the hub while the engine and the store answer"
        yield Finding("error", "what the version before made is not taken over yet", why, mend)
    found = neighbours.others(docker_of(site.engine).client, settings.hub_id, mine)
    if found:
        yield Finding(
            "error",
            f"another installation uses the id {settings.hub_id!r} on this engine: {', '.join(found[:5])}",
            "no session can start, because both hubs want the same names",
            f"give one of them another hub_id; where that hub is gone: {neighbours.remedy(found[:5])}",
        )
    others = site.engine.look().others
    foreign = [r for r in others if r.standing is Standing.FOREIGN and r.labels.hub != settings.hub_id]
    if foreign:
        hubs = ", ".join(sorted({r.labels.hub for r in foreign}))
        yield Finding("ok", f"{text.plural(len(foreign), 'session')} of other hubs on this engine: {hubs}")
    forged = [r for r in others if r.standing is Standing.FORGED]
    for record in forged[:FORGED_SHOWN]:
        yield Finding(
            "warning",
            f"the container {record.name} has forged labels of a session of {record.labels.user!r}",
            "it counts as no session and holds only what is attached to it; a build step can do this",
            f"look at it (docker inspect {record.name}), and remove it if it is not wanted",
        )
    if len(forged) > FORGED_SHOWN:
        yield Finding("warning", f"{len(forged) - FORGED_SHOWN} more containers have forged labels")

"""Take over, once, what an older version made, and refuse an id that another installation uses.

Before installations had an id, labels alone said what was ours, and labels can be copied. What the former
version left is taken over when the hub first starts after the upgrade: containers that the store knows as
sessions of the very same person and that mount a folder of that person's workspace, and images that the store
knows as built here. They are remembered by their ids; text alone is never believed again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from docker.errors import DockerException, NotFound

from ...core import installation
from ...core.errors import EngineError
from ...core.installation import FILE, Installation
from ...core.labels import HUB, INSTALLATION, MANAGED_FILTER, SessionLabels
from ...core.names import folder_name
from ...core.settings import Settings
from ...store import Store
from . import neighbours

log = logging.getLogger(__name__)
MOUNT = "/workspace"


def make(settings: Settings) -> Installation:
    """This state folder's installation, made where there is none. Call it before the folder is written to."""
    state = settings.state_dir
    older = not (state / FILE).exists() and (state / "settings.json").exists()
    return installation.make(state, migrated=not older)


def settle(client: Any, settings: Settings) -> None:
    """Take over what an older version made; `EngineError` where another installation uses this hub's id."""
    known = installation.load(settings.state_dir)
    if known is None:
        return
    if not known.migrated:
        known = take_over(client, settings, known)
    neighbours.refuse(settings.hub_id, neighbours.others(client, settings.hub_id, known))


def take_over(client: Any, settings: Settings, known: Installation) -> Installation:
    """Adopt the former version's sessions and images; says what, and what is left alone."""
    store = Store.open(settings.store)
    try:
        sessions = dict(_sessions(client, settings, store))
        images = _images(store)
    except DockerException as error:
        raise EngineError(f"what an older version made cannot be listed: {error}") from error
    finally:
        store.close()
    adopted = installation.adopt(settings.state_dir, known, {*sessions, *images})
    names = ", ".join(sorted(sessions.values())) or "none"
    log.warning(
        "Taken over from the version before: sessions %s; %d images that were built here", names, len(images)
    )
    return adopted


def _sessions(client: Any, settings: Settings, store: Store) -> Iterator[tuple[str, str]]:
    """Id and name of each session that an older version of this hub left."""
    filters = {"label": [MANAGED_FILTER, f"{HUB}={settings.hub_id}"]}
    for row in client.containers(all=True, filters=filters):
        labels, name = row.get("Labels") or {}, neighbours.name_of(row)
        told = SessionLabels.from_labels(labels)
        if told is None or INSTALLATION in labels:
            continue
        record = store.sessions.get(told.session)
        same = record is not None and (record.user, record.server) == (told.user, told.server)
        if same and _mounts_workspace(client, row["Id"], settings, told.user):
            yield row["Id"], name
        else:
            log.warning("The container %s says that it is a session of this hub; it is left alone", name)


def _mounts_workspace(client: Any, container: str, settings: Settings, user: str) -> bool:
    try:
        mounts = client.inspect_container(container).get("Mounts") or ()
    except NotFound:
        return False
    own = PurePosixPath(str(settings.workspace_host_root or settings.workspace_root)) / folder_name(user)
    sources = [PurePosixPath(str(m.get("Source"))) for m in mounts if m.get("Destination") == MOUNT]
    return any(own in source.parents for source in sources)


def _images(store: Store) -> set[str]:
    """Ids of the images that this hub built."""
    found: set[str] = set()
    for row in store.environments.find():
        data = row.data
        found |= {i for i in (data.get("current"), *data.get("previous", ())) if i}
    return found

"""Other installations on the same engine that use this hub's id, as their containers and networks tell.

A hub's id goes into the names of containers and cgroups and into a label, so two hubs with one id would want
the same names. Blocking where a client is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from docker.errors import DockerException

from ...core.errors import EngineError
from ...core.installation import Installation, Standing, standing
from ...core.labels import HUB, INSTALLATION, MANAGED_FILTER
from ..base import EngineState


def sessions_of_others(snapshot: EngineState, hub_id: str) -> list[str]:
    """Sessions of another installation with this hub's id. Pure.

    Forged labels are not among them: with those, a build step could keep everybody from starting.
    """
    return [
        f"container {record.name}"
        for record in snapshot.others
        if record.standing is Standing.FOREIGN and record.labels.hub == hub_id
    ]


def networks_of_others(client: Any, hub_id: str, installation: Installation) -> list[str]:
    """Networks that another installation with this hub's id made."""
    found = client.networks(filters={"label": f"{HUB}={hub_id}"})
    made_by = {n["Name"]: (n.get("Labels") or {}).get(INSTALLATION, "") for n in found}
    return [f"network {name}" for name, by in made_by.items() if by not in ("", installation.id)]


def others(client: Any, hub_id: str, installation: Installation) -> list[str]:
    """Everything of another installation with this hub's id."""
    try:
        rows = client.containers(all=True, filters={"label": [MANAGED_FILTER, f"{HUB}={hub_id}"]})
        networks = networks_of_others(client, hub_id, installation)
    except DockerException as error:
        raise EngineError(f"the containers of other hubs cannot be listed: {error}") from error
    names = ((row, name_of(row)) for row in rows)
    theirs = [
        f"container {name}"
        for row, name in names
        if standing(installation, row.get("Labels") or {}, name, row["Id"]) is Standing.FOREIGN
    ]
    return theirs + networks


def refuse(hub_id: str, found: Sequence[str]) -> None:
    """`EngineError` with the way out, where anything was found."""
    if found:
        raise EngineError(
            f"another installation uses this hub's id {hub_id!r} on the same engine: {', '.join(found[:5])}. "
            "Give this hub another one (c.DS01Spawner.hub_id), or the state folder it had before, or, where "
            f"the other hub is gone, remove what it left: {remedy(found[:5])}"
        )


def remedy(found: Iterable[str]) -> str:
    """The commands that remove what a hub left behind."""
    commands = {"container": "docker rm -f", "network": "docker network rm"}
    return "; ".join(f"{commands[kind]} {name}" for kind, _, name in (f.partition(" ") for f in found))


def name_of(row: Any) -> str:
    """A listed container's own name; links of other containers to it have a second slash."""
    own = [n.lstrip("/") for n in row.get("Names") or () if n.count("/") <= 1]
    return own[0] if own else ""

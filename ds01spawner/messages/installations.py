"""Refusals about whose hub this is. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import Refusal
from .examples import RETRY_SOON, example, short


@example(state_dir="/var/lib/ds01")
def no_installation(state_dir: str) -> Refusal:
    """The state folder holds no installation, so nothing that is made could be known again as ours."""
    return Refusal(
        code="no-installation",
        asked="a session was asked for",
        limit=f"the hub's state folder {state_dir} holds no installation, which its set-up makes",
        do="tell an admin to call configure(c) in jupyterhub_config.py and to restart the hub",
        status=503,
    )


@example(hub="lab", others=("container ds01-lab--zed", "network ds01-lab"))
def hub_id_taken(hub: str, others: Sequence[str]) -> Refusal:
    """Another installation uses this hub's id on the same engine."""
    return Refusal(
        code="hub-id-taken",
        asked="a session was asked for",
        limit=f"another installation uses this hub's id, {short(hub)!r}, on the same engine: {_some(others)}",
        do="tell an admin to give one of the hubs another hub_id, or to remove what is left of a hub that is "
        "gone",
        status=503,
    )


@example()
def taken_meanwhile() -> Refusal:
    """Another hub, or a user of the engine, took this very device at the same moment."""
    return Refusal(
        code="gpus-taken",
        asked="a GPU was asked for",
        limit="a container of another hub on this machine took the same one at this moment",
        do="try again; nothing was created",
        status=503,
        retry_after=RETRY_SOON,
    )


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(short(n) for n in names[:most]) + more

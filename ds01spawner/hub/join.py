"""Coming back to a session that still runs though the hub had lost it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .. import messages
from ..core.errors import DS01Error, Refused
from ..core.labels import SessionLabels
from ..engines.base import Found
from ..intents.carry import carry
from ..placement.devices import Inventory
from ..policy.options import LaunchOptions, parse_options

if TYPE_CHECKING:
    from .retire import Retirement
    from .server import Address, Server


async def join_running(server: Server, retirement: Retirement) -> Address | None:
    """The address of this very session where it still runs, else None.

    Takes a leftover of ours out of the way, and refuses where another has the name.
    """
    await server.on_engine.ready()
    found = await server.on_engine.find()
    if found is None:
        return None
    labels = retirement.mine(found)
    if labels is None:
        raise Refused(messages.name_taken(server.object_name))
    if await asyncio.to_thread(_retired_instead, server, labels):
        return None
    if not found.running:
        await retirement.bury(found)
        return None
    # The hub had lost it (its database went back in time, say). Work goes on where it was:
    # removing it would destroy work, and a second one cannot have the name.
    return await _join(server, found, labels)


def _retired_instead(server: Server, labels: SessionLabels) -> bool:
    """Finish a retirement that is under way; whether there was one. `Refused` while it lasts. Blocking."""
    site, now = server.site, server.clock()
    if site.intents.withdraw(labels.session, now):  # its owner has come back to it
        return False
    intent = site.intents.get(labels.session)
    if intent is None:
        return False
    if not carry(site, intent, now).gone:
        raise Refused(messages.being_retired(labels.project))
    return True


async def _join(server: Server, found: Found, labels: SessionLabels) -> Address:
    server.object_id, server.session_id, server.session_labels = found.container, labels.session, labels
    if token := found.env.get("JUPYTERHUB_API_TOKEN"):
        server.api_token = token
    # Described as what it is, not as what this start would have been.
    inventory = (await asyncio.to_thread(server.site.engine.inventory)).inventory
    server.kept.now = options_of(labels, inventory)
    server.kept.keep(server.kept.now)
    server.progress_log.step(
        "started", f"Your session on {labels.project} was still running: you are back in it"
    )
    return await server.get_ip_and_port()


def options_of(labels: SessionLabels, inventory: Inventory) -> LaunchOptions:
    """What a running session is, as options; a device that is not known any more counts as "auto". Pure."""
    devices = inventory.by_uuid()
    profiles = {d.profile for u in labels.gpu_uuids if (d := devices.get(u)) is not None}
    gpu = "none" if not labels.gpu_uuids else next(iter(profiles)) if len(profiles) == 1 else "auto"
    raw: dict[str, object] = {"project": labels.project, "environment": labels.environment, "gpu": gpu}
    if labels.gpu_uuids:
        raw |= {"gpu_count": len(labels.gpu_uuids), "preemptible": labels.preemptible}
    try:
        return parse_options(raw)
    except DS01Error:  # labels of an older release
        return parse_options({"gpu": "auto" if labels.gpu_uuids else "none"})

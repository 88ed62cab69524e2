"""Tell a session's owner what became of their device: drained, unhealthy, or lost to the container.

The decision is pure (`device_notices`); the pass around it reads and writes. One notice for each
session, device and state: the store's key keeps a repeating pass from repeating itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from ..engines.base import EngineSession
from ..placement.devices import Block, Inventory
from ..site import Site

KEPT = "Your files are safe. Save your work, retire this session and start another one."


@dataclass(frozen=True)
class DeviceNotice:
    """A message about one session's device; ``key`` makes it appear once."""

    record: EngineSession
    key: str
    text: str
    level: str = "warning"


def device_notices(
    sessions: Iterable[EngineSession], inventory: Inventory, blocks: Mapping[str, Block]
) -> list[DeviceNotice]:
    """What owners should know about their devices. Pure.

    ``blocks`` are drains and the like; what the driver says is in the inventory's own blocks. A reading
    that failed says nothing about any device.
    """
    if inventory.state != "ok":
        return []
    known = inventory.by_uuid()
    found = []
    for record in sessions:
        for uuid in record.labels.gpu_uuids:
            device = known.get(uuid)
            places = [uuid] + ([device.card] if device else [])
            if device is None:
                text = f"the GPU slice of {record.labels.project} was re-made by an admin and is gone. {KEPT}"
                found.append(
                    DeviceNotice(record, f"device-gone:{record.labels.session}:{uuid}", text, "danger")
                )
                continue
            for place in places:
                found += _about(record, place, inventory.blocks.get(place), blocks.get(place))
    return found


def _about(
    record: EngineSession, place: str, health: Block | None, block: Block | None
) -> list[DeviceNotice]:
    project, session = record.labels.project, record.labels.session
    found = []
    if health is not None and health.state in ("lost", "unready"):
        text = f"the GPU of {project} has a fault: {health.reason}. {KEPT}"
        found.append(DeviceNotice(record, f"device-{health.state}:{session}:{place}", text, "danger"))
    if block is not None and block.state == "drained":
        until = f" until {block.until}" if block.until else ""
        text = (
            f"the GPU of {project} is being taken out of use{until}: {block.reason}. Your session goes on; "
            "it cannot be started on this GPU again, so finish when you can"
        )
        found.append(DeviceNotice(record, f"device-drained:{session}:{place}", text))
    return found


def watch_devices(site: Site, now: datetime) -> int:
    """One pass over this hub's running sessions; returns how many notices there are. Blocking."""
    reading = site.engine.inventory()
    mine = [r for r in site.engine.look().sessions if r.state == "running" and r.labels.gpu_uuids]
    notices = device_notices(mine, reading.inventory, site.blocks(now))
    notices += [n for r in mine if (n := _unreachable(site, r)) is not None]
    store = site.store()
    for notice in notices:
        labels = notice.record.labels
        store.notices.add(
            labels.user,
            notice.text,
            now,
            kind="device",
            level=notice.level,
            server=labels.server,
            session=labels.session,
            key=notice.key,
        )
    return len(notices)


def _unreachable(site: Site, record: EngineSession) -> DeviceNotice | None:
    if not site.engine.devices_lost(record):
        return None
    text = (
        f"the session of {record.labels.project} has lost access to its GPU (the host's service manager was "
        f"reloaded). Programs that use it go on; new ones find no GPU. {KEPT}"
    )
    return DeviceNotice(record, f"gpu-unreachable:{record.labels.session}", text, "danger")

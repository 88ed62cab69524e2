"""Requests to the real service: pages, REST and live parts.

``does`` has one method with its path (``get: api/builds``), perhaps ``body`` (JSON), ``raw`` (text as it is),
``form``, ``headers``, ``by`` (``token``, ``cookie`` or ``key``), ``domains`` (the site has a domain for each
person and for the service), ``before`` (requests that come first, of
the same person) and ``times`` (sent side by side; ``good`` counts answers below 300, ``{i}`` is the number of
each). What the store has afterwards: ``tickets``, ``builds``, ``environments``, ``projects``, ``notices``,
``roster``, ``course``; ``stopped`` are the hub's servers that were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from support.service_world import NOW, SECRET, cookie, serving
from table import PEOPLE

from ds01spawner.pages import keys

METHODS = ("get", "post", "delete", "put", "patch", "head", "options")


async def run(row: Any, stage: Any) -> dict[str, Any]:
    """Send it."""
    world, who, does = stage.world, PEOPLE[row.role], row.does
    if does.get("domains"):
        origin = "https://hub.example.org"
        address = f"https://ds01--service.hub.example.org{world.context.urls.service}"
        world.context.urls = replace(world.context.urls, hub=f"{origin}/x/hub/", address=address)
    async with serving(world) as client:
        for step in does.get("before", ()):
            await _send(client, step, who)
        answers = await asyncio.gather(*(_send(client, does, who, i) for i in range(does.get("times", 1))))
    answer = answers[-1]
    found = {
        "status": answer.code,
        "text": "\n".join([*(f"{k}: {v}" for k, v in answer.headers.get_all()), answer.text]),
        "good": sum(a.code < 300 for a in answers),
        "location": answer.headers.get("Location", ""),
        "allow": answer.headers.get("Allow", ""),
    }
    return {**found, **_left(stage)}


async def _send(client: Any, does: Mapping[str, Any], who: str, index: int = 0) -> Any:
    method = next(m for m in METHODS if m in does)
    headers, by = dict(does.get("headers", {})), does.get("by", "token")
    if by == "cookie":
        headers |= cookie(who)
    elif by == "key":
        headers[keys.HEADER] = keys.sign(SECRET, who, NOW)
    raw, body = does.get("raw"), does.get("body")
    text = str(does[method]).replace("{i}", str(index))
    return await client(
        text,
        who if by == "token" else "",
        method.upper(),
        body=_filled(body, index),
        headers=headers,
        form=_filled(does.get("form"), index),
        raw=raw.encode("utf-8", "surrogatepass") if raw is not None else None,
    )


def _filled(value: Any, index: int) -> Any:
    if isinstance(value, str):
        return value.replace("{i}", str(index))
    return {k: _filled(v, index) for k, v in value.items()} if isinstance(value, dict) else value


def _left(stage: Any) -> dict[str, Any]:
    store, world = stage.world.store, stage.world
    return {
        "tickets": len(store.tickets.find()),
        "builds": len(store.builds.find(states=("queued", "building", "checking"))),
        "stopped": len(world.hub.stopped),
        "environments": len(store.environments.find(kind="mine")),
        "projects": len(world.site.workspaces.projects("alice")),
        "notices": len(store.notices.of("alice", NOW)),
        "roster": store.courses.get("nlp").data["roster"],
        "course": store.courses.get("nlp").state,
    }

"""The service on a domain of its own: what it sends to pages of the hub, and to nobody else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.service_world import NOW, SECRET, make_world, serving

from ds01spawner.pages import keys

ORIGIN = "https://hub.example.org"


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = make_world(tmp_path, monkeypatch)
    address = "https://ds01--service.hub.example.org/x/services/ds01/"
    world.context.urls = replace(world.context.urls, hub=f"{ORIGIN}/x/hub/", address=address)
    return world


@pytest.fixture
async def call(world):
    async with serving(world) as client:
        yield client


async def test_the_hubs_pages_may_read_live_parts_by_their_key(call, world):
    world.ledger.add("alice", "s1")
    asked = await call("fragments/sessions", method="OPTIONS")
    assert (asked.code, asked.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)
    assert "X-DS01-Key" in asked.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in asked.headers
    answer = await call("fragments/sessions", headers={keys.HEADER: keys.sign(SECRET, "alice", NOW)})
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "https://ds01--service.hub.example.org/x/services/ds01/" in answer.text
    assert (await call("fragments/sessions")).code == 403


@pytest.mark.parametrize("path", ["", "api/sessions", "queue", "admin"])
async def test_nothing_else_may_be_read_from_another_domain(call, path):
    for method in ("GET", "OPTIONS"):
        answer = await call(path, "root", method, headers={"Origin": ORIGIN})
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.code == 405


async def test_links_lead_to_the_hubs_domain(call):
    answer = await call("start?gpu=none", "bob")
    assert answer.headers["Location"] == f"{ORIGIN}/x/hub/spawn/bob"
    assert f'href="{ORIGIN}/x/hub/home"' in (await call("nothing", "bob")).text

"""A student whose whole class clicks at the same moment: the page says how many are before, and moves on."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import expect

CLASS = [f"pupil{n:02d}" for n in range(14)]


@pytest.fixture(scope="module")
def hub_options():
    return {"users": set(CLASS)}


def test_the_page_says_how_many_are_before_and_moves_on_to_the_lab(hub, visit):
    alice = visit("alice")
    with ThreadPoolExecutor(len(CLASS)) as pool:
        posts = [pool.submit(hub.launch, name, {"project": "p", "gpu": "none"}) for name in CLASS]
        for name in CLASS:
            hub.wait_for(lambda name=name: hub.server(name).get("pending"), 90, f"{name} to be pending")
        alice.click(alice.start_button)
        said = re.compile(r"\d+ starts? (is|are) before yours")
        expect(alice.page.get_by_role("main")).to_contain_text(said, timeout=20_000)
        alice.in_lab()
        assert {p.result().status_code for p in posts} <= {201, 202}
    for name in CLASS:
        hub.wait_ready(name)
        hub.retire(name)

"""A class that clicks at once: everybody comes up in good order, and the hub answers others meanwhile."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor

CLASS = [f"pupil{n:02d}" for n in range(16)]


def follow(hub, name):
    """Every progress event of a start, from before the hub has called the spawner."""
    hub.wait_for(lambda: hub.server(name).get("pending") == "spawn", 120, f"{name} to be pending")
    return hub.progress(name)


def test_everybody_comes_up_and_is_told_what_goes_on(own_hub, sessions_of):
    hub = own_hub(users=set(CLASS))
    with ThreadPoolExecutor(len(CLASS) + 1) as pool:
        watched = pool.submit(follow, hub, CLASS[-1])
        posts = list(pool.map(lambda name: hub.launch(name, {"project": "p", "gpu": "none"}), CLASS))
        assert {p.status_code for p in posts} <= {201, 202}
        for name in CLASS:
            hub.wait_ready(name, patience=120)
        events = watched.result()
    assert len(sessions_of(hub)) == len(CLASS)
    steps = [event["step"] for event in events if "step" in event]
    assert {"checks", "turn", "started"} <= set(steps)
    assert events[-1]["ready"]
    for name in CLASS:
        hub.retire(name)
    assert sessions_of(hub) == []


def test_the_hubs_database_writes_ahead(own_hub):
    hub = own_hub()
    mode = sqlite3.connect(hub.state / "hub.sqlite").execute("PRAGMA journal_mode").fetchone()
    assert mode == ("wal",)

"""Pages and calls answer from the last good reading while the engine is busy with what another does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from support.service_world import World, make_world, serving

from ds01spawner.engines.base import EngineState
from ds01spawner.environments.catalogue import Environment
from ds01spawner.service import site_reading as snapshots

PATIENCE = 30.0


class Held:
    """The engine's answers, held back until the test lets them go."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.asked = threading.Event(), threading.Semaphore(0)
        self.free.set()
        read, listed = world.ledger.read, world.images.list

        def slow_read(*args) -> EngineState:
            found = read(*args)
            self.wait()
            return found

        def slow_list(labels=()):
            found = listed(labels)
            self.wait()
            return found

        monkeypatch.setattr(world.ledger, "read", slow_read)
        monkeypatch.setattr(world.images, "list", slow_list)
        world.site.environments._machine._read = slow_list

    def wait(self) -> None:
        self.asked.release()
        assert self.free.wait(PATIENCE)


@pytest.fixture
def held(world, monkeypatch) -> Iterator[Held]:
    made = Held(world, monkeypatch)
    yield made
    made.free.set()


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    return make_world(tmp_path, monkeypatch)


@pytest.fixture
async def call(world):
    async with serving(world) as client:
        yield client


PATHS = ("", "environments", "api/availability", "api/sessions", "api/environments", "gpus", "api/devices")


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_is_answered_while_the_engine_does_not(call, world, held, path):
    world.ledger.add("alice", "s-1")
    for before in PATHS:
        assert (await call(before, who="bob")).code == 200
    world.context.snapshots.forget()
    world.site.environments._machine.forget()
    held.free.clear()
    assert (await call(path, who="bob")).code == 200
    assert not held.free.is_set(), "nothing was let go: the answer came without the engine"


async def test_what_is_shown_meanwhile_says_of_when_it_is(call, world, held):
    before = json.loads((await call("api/availability", who="bob")).text)
    world.context.snapshots.forget()
    held.free.clear()
    meanwhile = json.loads((await call("api/availability", who="bob")).text)
    assert meanwhile == before, "with the time of the reading that it is"


async def test_a_reading_that_is_too_old_is_not_shown_and_nothing_counts_as_free(
    call, world, held, monkeypatch
):
    assert json.loads((await call("api/availability", who="bob")).text)["free"] > 0
    monkeypatch.setattr(snapshots, "OLDEST_S", 0.0)
    world.context.snapshots.forget()
    held.free.clear()
    told = json.loads((await call("api/availability", who="bob")).text)
    assert told["free"] == 0
    assert told["problem"] == "The container engine cannot be asked: it has not answered lately"


async def test_who_has_ended_a_session_sees_it_gone_at_once(call, world):
    """The change is waited for by whoever made it; a reading from before it would still show the session."""
    world.ledger.add("alice", "s-1")
    assert len(json.loads((await call("api/sessions", who="alice")).text)["sessions"]) == 1
    world.ledger.sessions.clear()
    await world.context.snapshots.changed()
    assert json.loads((await call("api/sessions", who="alice")).text)["sessions"] == []


async def test_an_image_that_gets_a_name_is_listed_at_once_to_who_named_it(call, world):
    async def own() -> list[str]:
        rows = json.loads((await call("api/environments", who="alice")).text)["environments"]
        return [r["id"] for r in rows if r["kind"] == "mine"]

    assert await own() == []
    world.images.add("ds01-alice/thesis:latest", "sha256:" + "a" * 64)
    assert await own() == ["ds01-alice/thesis:latest"]


def test_a_choice_reads_anew_what_the_list_does_not_have(world, held):
    """A start of what was made a moment ago, by another process."""
    environments, alice = world.site.environments, world.hub.people["alice"]
    environments.all(alice)
    world.images.on_change = lambda: None
    world.images.add("ds01-alice/new:latest", "sha256:" + "b" * 64)
    chosen = environments.choose(
        alice, world.site.limits(alice, world.context.clock()), "ds01-alice/new:latest"
    )
    assert isinstance(chosen, Environment)

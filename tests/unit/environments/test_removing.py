"""Removing an image from an engine that takes its time, over HTTP as the real one."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import ClassVar

import docker
import pytest
from support.ours import INSTALLATION
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from ds01spawner.core.errors import EngineError
from ds01spawner.engines.docker import image_store

QUICK_S = 0.2


class Engine(RequestHandler):
    """Says its version, and removes images in its own time."""

    takes_s = 0.0
    removed: ClassVar[list[str]] = []

    async def get(self) -> None:
        self.set_header("Content-Type", "application/json")
        image = {"Id": f"sha256:{'0' * 64}", "RepoTags": ["ds01-alice/big:latest"]}
        self.finish(json.dumps({"ApiVersion": "1.41", "Version": "20.10", "Arch": "x86_64", **image}))

    async def delete(self) -> None:
        await asyncio.sleep(self.takes_s)
        self.removed.append(self.request.path)
        self.finish("[]")


@pytest.fixture
async def images():
    """Images on such an engine, with a client that waits `QUICK_S` for an answer."""
    socket, port = bind_unused_port()
    server = HTTPServer(Application([(r".*", Engine)]))
    server.add_sockets([socket])
    host = f"tcp://127.0.0.1:{port}"
    Engine.takes_s, Engine.removed = 0.0, []
    ours = replace(INSTALLATION, adopted=frozenset({f"sha256:{'0' * 64}"}))
    made = image_store.Images(host, docker.APIClient(host, version="1.41", timeout=QUICK_S), lambda: ours)
    yield made
    made.close()
    server.stop()


async def test_a_large_image_may_take_longer_than_a_question(images):
    Engine.takes_s, told = 3 * QUICK_S, []
    images.on_change = lambda: told.append(True)
    await images.run(images.remove, "ds01-alice/big:latest")
    assert Engine.removed == ["/v1.41/images/ds01-alice/big:latest"]
    assert told == [True]


async def test_what_the_engine_takes_for_the_beginning_of_an_id_is_not_removed(images):
    await images.run(images.remove, "000")
    assert Engine.removed == []


async def test_an_engine_that_never_answers_is_given_up_and_lists_are_read_anew(images, monkeypatch):
    monkeypatch.setattr(image_store, "REMOVES_S", QUICK_S)
    Engine.takes_s, told = 3 * QUICK_S, []
    images.on_change = lambda: told.append(True)
    with pytest.raises(EngineError, match="did not answer"):
        await images.run(images.remove, "ds01-alice/big:latest")
    assert told == [True]

"""Where a session answers, as the hub asks for it after a restart."""

from __future__ import annotations

from types import SimpleNamespace

import docker.errors
import pytest

from ds01spawner.hub.spawner import DS01Spawner

KNOWN = "http://0.0.0.0:0/user/alice/"


class Lost(DS01Spawner):
    """A session whose start a dead hub did not see to the end."""

    server = SimpleNamespace(url=KNOWN, base_url="/user/alice/")
    answer = None

    async def get_ip_and_port(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        (("172.18.0.5", 8888), "http://172.18.0.5:8888/user/alice/"),
        (("fd00::5", 8888), "http://[fd00::5]:8888/user/alice/"),
        (docker.errors.DockerException("the engine is away"), KNOWN),
        (RuntimeError("no such network"), KNOWN),
        (("", 8888), KNOWN),
    ],
    ids=["ipv4", "ipv6", "engine", "network", "none"],
)
async def test_the_engine_knows_where_and_else_the_hub_keeps_what_it_had(answer, url):
    spawner = Lost()
    spawner.user = SimpleNamespace(name="alice")
    spawner.answer = answer
    assert await spawner.get_url() == url

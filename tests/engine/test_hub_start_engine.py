"""A hub that comes up while its engine does, or whose engine drops a connection, comes up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.engine_door import EngineDoor
from traitlets.config import Config

from ds01spawner import configure
from ds01spawner.core.errors import EngineError
from ds01spawner.engines.docker import settling
from ds01spawner.engines.docker.network import ensure_network


@pytest.fixture
def door(tmp_path):
    made = EngineDoor(tmp_path)
    yield made
    made.close()


@pytest.fixture
def c(tmp_path, engine, hub_id, door):
    config = Config()
    config.DS01Spawner.state_dir = str(tmp_path / "state")
    config.DS01Spawner.workspace_root = str(tmp_path)
    config.DS01Spawner.hub_id = hub_id
    config.DS01Spawner.network_name = "ds01-test"
    config.DS01Spawner.extra_settings = {"docker_host": door.address}
    return config


@pytest.fixture
def pauses(monkeypatch):
    """What happens in the pauses between attempts: nothing takes time, and ``then`` is called."""
    made = SimpleNamespace(count=0, then=lambda: None)

    def pause(_seconds: float) -> None:
        made.count += 1
        made.then()

    monkeypatch.setattr("ds01spawner.engines.docker.prepare.time", SimpleNamespace(sleep=pause))
    return made


@pytest.fixture
def gateway(engine):
    return ensure_network(engine.api, "ds01-test", "test-network").gateway


def test_an_engine_that_is_not_up_yet_is_asked_again(c, door, pauses, gateway):
    door.turn("refuse")
    pauses.then = lambda: door.turn("pass")
    configure(c)
    assert pauses.count == 1
    assert c.JupyterHub.hub_ip == gateway


def test_an_engine_that_drops_the_connection_on_the_way_is_asked_again(c, door, pauses, gateway, monkeypatch):
    settle = settling.settle

    def cut_off(*given):
        if not pauses.count:
            door.turn("refuse")
        return settle(*given)

    monkeypatch.setattr(settling, "settle", cut_off)
    pauses.then = lambda: door.turn("pass")
    configure(c)
    assert pauses.count == 1
    assert c.JupyterHub.hub_ip == gateway


def test_an_engine_that_stays_away_is_said(c, door, pauses):
    door.turn("refuse")
    with pytest.raises(EngineError, match="does not answer"):
        configure(c)
    assert pauses.count == 3


def test_a_network_that_is_not_fit_is_said_at_once(c, pauses, engine, hub_id):
    open_to_all = engine.networks.create(f"ds01-open-{hub_id}", driver="bridge", labels={"ds01.hub": hub_id})
    c.DS01Spawner.network_name = open_to_all.name
    try:
        with pytest.raises(EngineError, match="reach each other's ports"):
            configure(c)
    finally:
        open_to_all.remove()
    assert pauses.count == 0


def test_what_the_engine_refuses_is_said_at_once(c, pauses, engine, monkeypatch):
    monkeypatch.setattr(settling, "settle", lambda client, _: client.inspect_container("ds01-test-none-such"))
    with pytest.raises(EngineError, match="No such container"):
        configure(c)
    assert pauses.count == 0

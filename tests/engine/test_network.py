"""Sessions of different people cannot reach each other's ports; the host, and so the proxy, can."""

from __future__ import annotations

import time
import urllib.request

import pytest

from ds01spawner.core.errors import EngineError
from ds01spawner.engines.docker.network import ensure_network

SERVE = "mkdir -p /tmp/w && echo hello > /tmp/w/index.html && httpd -f -p 8888 -h /tmp/w"


@pytest.fixture
def network(engine, hub_id):
    made = ensure_network(engine.api, f"ds01-{hub_id}", hub_id)
    yield made
    for container in engine.containers.list(all=True, filters={"label": f"ds01.hub={hub_id}"}):
        container.remove(force=True)
    engine.networks.get(made.name).remove()


@pytest.fixture
def server_address(engine, network, busybox_image, hub_id) -> str:
    container = engine.containers.run(
        busybox_image, ["sh", "-c", SERVE], detach=True, network=network.name, labels={"ds01.hub": hub_id}
    )
    container.reload()
    return container.attrs["NetworkSettings"]["Networks"][network.name]["IPAddress"]


def fetch(url: str) -> str:
    for _ in range(50):
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} never answered")


def test_host_reaches_a_session_and_another_session_does_not(
    engine, network, server_address, busybox_image, hub_id
):
    url = f"http://{server_address}:8888/index.html"
    assert fetch(url) == "hello\n"
    command = f"wget -q -T 3 -O - {url} || echo unreachable"
    answer = engine.containers.run(
        busybox_image, ["sh", "-c", command], remove=True, network=network.name, labels={"ds01.hub": hub_id}
    )
    assert b"unreachable" in answer
    assert b"hello" not in answer


def test_a_container_of_another_network_does_not_reach_a_session(
    engine, server_address, busybox_image, hub_id
):
    command = f"wget -q -T 3 -O - http://{server_address}:8888/index.html || echo unreachable"
    answer = engine.containers.run(
        busybox_image, ["sh", "-c", command], remove=True, labels={"ds01.hub": hub_id}
    )
    assert b"unreachable" in answer


def test_the_network_is_made_once_and_found_again(engine, network, hub_id):
    assert ensure_network(engine.api, network.name, hub_id) == network
    assert len([n for n in engine.networks.list() if n.name == network.name]) == 1


def test_a_network_that_lets_sessions_meet_is_refused_with_the_way_out(engine, hub_id):
    name = f"ds01-open-{hub_id}"
    made = engine.networks.create(name, driver="bridge", labels={"ds01.hub": hub_id})
    try:
        with pytest.raises(EngineError, match=r"reach each other's ports.*docker network rm"):
            ensure_network(engine.api, name, hub_id)
    finally:
        made.remove()

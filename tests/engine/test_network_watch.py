"""A network that is removed under a running hub comes back as it was, and the hub's socket works again."""

from __future__ import annotations

import socket
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ds01spawner.core.settings import Settings
from ds01spawner.engines.docker import network as net
from ds01spawner.engines.docker.network_checks import check_network
from ds01spawner.engines.docker.network_watch import ASK_S, GIVE_UP_S, NetworkWatch, has_address


@pytest.fixture
def made(engine, hub_id):
    network = net.ensure_network(engine.api, f"ds01-{hub_id}", hub_id)
    yield network
    for left in engine.networks.list(names=[network.name]):
        left.reload()
        for container in left.attrs.get("Containers") or {}:
            engine.containers.get(container).remove(force=True)
        left.remove()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hub")

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(made):
    """Something that listens at the gateway, as the hub does."""
    server = HTTPServer((made.gateway, 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://{made.gateway}:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def ask(url: str) -> bytes:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as answer:
        return answer.read()


def test_a_removed_network_comes_back_with_its_addresses_and_the_same_socket_answers(
    engine, made, hub, hub_id
):
    watch = NetworkWatch(lambda: engine.api, made, hub_id, Clock())
    assert ask(hub) == b"hub"
    engine.api.remove_network(made.name)
    assert not has_address(made.gateway)
    assert watch.look() == "remade"
    assert net.addresses_of(net.find_network(engine.api, made.name)) == made
    assert net.unfit(net.find_network(engine.api, made.name)) == ""
    assert ask(hub) == b"hub"


def test_a_bridge_that_was_deleted_behind_the_engines_back_is_made_anew(engine, made, hub, hub_id):
    watch = NetworkWatch(lambda: engine.api, made, hub_id, Clock())
    number = net.find_network(engine.api, made.name)["Id"]
    subprocess.run(["ip", "link", "delete", f"br-{number[:12]}"], check=True)
    assert watch.look() == "remade"
    assert ask(hub) == b"hub"


def test_a_network_that_is_there_is_left_alone(engine, made, hub_id):
    clock = Clock()
    watch = NetworkWatch(lambda: engine.api, made, hub_id, clock)
    number = net.find_network(engine.api, made.name)["Id"]
    for clock.now in (0.0, ASK_S + 1):
        assert watch.look() == "there"
    assert net.find_network(engine.api, made.name)["Id"] == number
    assert not watch.hopeless


def test_where_the_addresses_are_taken_meanwhile_the_hub_must_start_anew(engine, made, hub_id):
    clock = Clock()
    watch = NetworkWatch(lambda: engine.api, made, hub_id, clock)
    engine.api.remove_network(made.name)
    other = engine.api.create_network(f"{made.name}-other", ipam=net._same(made), labels={"ds01.hub": hub_id})
    try:
        # The address is there again, of another network: the engine is asked as often as always.
        assert has_address(made.gateway)
        clock.now = 2 * ASK_S
        assert watch.look() == "broken"
        assert "was not free" in watch.why
        clock.now += GIVE_UP_S + 1
        watch.look()
        assert watch.hopeless
    finally:
        engine.api.remove_network(other["Id"])


def test_a_hub_that_listens_elsewhere_takes_other_addresses(engine, made, hub_id):
    watch = NetworkWatch(lambda: engine.api, made, hub_id, Clock(), vital=False)
    engine.api.remove_network(made.name)
    watch._asked = -ASK_S
    other = engine.api.create_network(f"{made.name}-other", ipam=net._same(made), labels={"ds01.hub": hub_id})
    try:
        assert watch.look() == "remade"
        assert watch.network.gateway != made.gateway
        assert not watch.hopeless
    finally:
        engine.api.remove_network(other["Id"])


def test_a_strangers_network_in_its_place_is_not_removed(engine, made, hub_id):
    watch = NetworkWatch(lambda: engine.api, made, hub_id, Clock())
    engine.api.remove_network(made.name)
    engine.api.create_network(
        made.name, labels={"ds01.hub": f"{hub_id}-other"}, ipam=net.IPAMConfig(pool_configs=[])
    )
    before = net.find_network(engine.api, made.name)
    if net.addresses_of(before) == made:
        pytest.skip("the engine gave the stranger the very same addresses")
    assert watch.look() == "broken"
    assert net.find_network(engine.api, made.name)["Id"] == before["Id"]


def test_one_with_containers_is_not_removed(engine, made, hub_id, busybox_image):
    watch = NetworkWatch(lambda: engine.api, made, hub_id, Clock())
    container = engine.containers.run(
        busybox_image, ["sleep", "300"], detach=True, network=made.name, labels={"ds01.hub": hub_id}
    )
    number = net.find_network(engine.api, made.name)["Id"]
    subprocess.run(["ip", "link", "set", f"br-{number[:12]}", "down"], check=True)
    subprocess.run(["ip", "address", "flush", "dev", f"br-{number[:12]}"], check=True)
    assert watch.look() == "broken"
    assert container.id in net.find_network(engine.api, made.name)["Containers"]


def test_a_hub_that_starts_again_finds_its_former_addresses(engine, made, hub_id, tmp_path):
    net.remember(tmp_path, made)
    engine.api.remove_network(made.name)
    blocker = engine.api.create_network(f"{made.name}-first", labels={"ds01.hub": hub_id})
    try:
        known = net.remembered(tmp_path, made.name)
        if net.addresses_of(engine.api.inspect_network(blocker["Id"])).subnet == made.subnet:
            # The engine gave them away: then a new start takes what it gets, rather than failing.
            assert net.ensure_network(engine.api, made.name, hub_id, known).gateway != made.gateway
        else:
            assert net.ensure_network(engine.api, made.name, hub_id, known) == made
    finally:
        engine.api.remove_network(blocker["Id"])


def test_check_names_the_missing_network_and_the_cure(engine, made, hub_id, tmp_path, monkeypatch):
    monkeypatch.setattr("ds01spawner.engines.docker.network_checks.RETURNS_S", 0.2)
    settings = Settings(state_dir=tmp_path, hub_id=hub_id, network=made.name, devices="none")
    net.remember(tmp_path, made)
    assert not [f for f in check_network(settings) if f.level == "error" and made.name in f.what]
    engine.api.remove_network(made.name)
    found = [f for f in check_network(settings) if f.level == "error" and made.name in f.what]
    assert [f.what for f in found] == [f"the sessions' network {made.name} is gone"]
    assert made.gateway in found[0].why
    assert "prune" in found[0].mend


def test_addresses_are_asked_of_the_kernel():
    assert has_address("127.0.0.1")
    assert not has_address("192.0.2.1")  # for documentation: no machine has it
    assert has_address("::1") == socket.has_ipv6

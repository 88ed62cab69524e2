"""What a hub stands on may vanish or move under it: its network, its inner address, the firewall's rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import httpx
import pytest
from docker.types import IPAMConfig, IPAMPool

from ds01spawner.engines.docker.network import addresses_of, find_network
from ds01spawner.store import Store


def check(hub, *areas):
    env = {k: v for k, v in os.environ.items() if not k.startswith("DS01_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("ds01"), "check", *areas, "--json"],
        capture_output=True, text=True, check=False, env={**env, "DS01_STATE_DIR": str(hub.state)},
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)["findings"]


@pytest.fixture
def network(engine, hub_id):
    name = f"ds01-{hub_id}"
    yield name
    for left in engine.containers.list(all=True, filters={"label": f"ds01.hub={hub_id}"}):
        left.remove(force=True)
    if find_network(engine.api, name):
        engine.api.remove_network(name)


@pytest.mark.timeout(900)
def test_a_pruned_network_comes_back_under_a_running_hub(own_hub, network, engine):
    hub = own_hub(network=network)
    before = addresses_of(find_network(engine.api, network))
    hub.wait_for((hub.state / "network.json").exists, 120, "the hub to know its network")
    engine.api.remove_network(network)

    def answers() -> bool:
        try:
            return httpx.get(f"{hub.url}hub/login", timeout=10).status_code == 200
        except httpx.TransportError:
            return False

    # The bridge has its address, so the hub answers, before the engine lists the network.
    hub.wait_for(lambda: find_network(engine.api, network), 180, "the network to be there again")
    hub.wait_for(answers, 180, "the hub to answer again")
    assert addresses_of(find_network(engine.api, network)) == before
    hub.wait_for(lambda: "made anew" in hub.log.read_text(), 60, "the log to say so")
    hub.start_session("alice", {"project": "p"})
    _, found = check(hub, "network")
    assert [f for f in found if f["level"] == "error" and network in f["what"]] == []
    hub.retire("alice")


HURRY = """
import ds01spawner.engines.docker.network_watch as watch
watch.ASK_S, watch.GIVE_UP_S = 1, 3
"""


def test_a_hub_whose_address_was_given_away_ends_for_its_supervisor(own_hub, network, engine):
    hub = own_hub(network=network, after=HURRY)
    hub.wait_for((hub.state / "network.json").exists, 120, "the hub to know its network")
    hub.start_session("alice", {"project": "p"})
    hub.retire("alice")
    before = find_network(engine.api, network)
    engine.api.remove_network(network)
    config = before["IPAM"]["Config"][0]
    pool = IPAMPool(subnet=config["Subnet"], gateway=config["Gateway"])
    taken = engine.api.create_network(
        f"{network}-other", labels=before["Labels"], ipam=IPAMConfig(pool_configs=[pool])
    )
    try:
        hub.wait_for(lambda: hub.process.poll() is not None, 120, "the hub to end")
        assert hub.process.returncode == 1
        assert "its own address is gone" in hub.log.read_text()
    finally:
        engine.api.remove_network(taken["Id"])


def test_a_session_that_does_not_find_its_moved_hub_is_told(own_hub, engine):
    hub = own_hub()
    hub.start_session("alice", {"project": "thesis"})
    _, found = check(hub, "network")
    assert not [f for f in found if "does not find" in f["what"]]
    hub.stop()
    hub.move()
    hub.start()
    store = Store.open(f"sqlite:///{hub.state}/ds01.sqlite")

    def told():
        return [n.text for n in store.notices.of("alice", datetime.now(timezone.utc))]

    hub.wait_for(lambda: any("start it again" in text for text in told()), 120, "the owner to be told")
    code, found = check(hub, "network")
    rows = [f for f in found if "does not find the hub" in f["what"]]
    assert code == 1
    assert [f["level"] for f in rows] == ["error"]
    assert "alice" in rows[0]["what"]
    assert "ds01 retire alice" in rows[0]["mend"]
    hub.wait_ready("alice")
    hub.retire("alice")
    hub.start_session("alice", {"project": "thesis"})
    assert not [f for f in check(hub, "network")[1] if "does not find" in f["what"]]
    hub.retire("alice")


def test_no_session_starts_while_the_network_is_open(own_hub, network, engine):
    hub = own_hub(network=network, extra="c.DS01Spawner.isolation_probe = True")
    made = find_network(engine.api, network)
    result = hub.state / "isolation.json"
    hub.wait_for(result.exists, 90, "the hub's own probe")
    assert json.loads(result.read_text())["verdict"] == "apart"
    rule = ["DOCKER-USER", "-i", f"br-{made['Id'][:12]}", "-o", f"br-{made['Id'][:12]}", "-j", "ACCEPT"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        code, found = check(hub, "isolation")
        assert code == 1
        assert any("reach each other: TCP over IPv4" in f["what"] for f in found)
        answer = hub.launch("alice", {"project": "p"})
        assert answer.status_code == 503
        assert "does not keep sessions apart" in answer.text
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
    code, found = check(hub, "isolation")
    assert code == 0
    hub.start_session("alice", {"project": "p"})
    hub.retire("alice")

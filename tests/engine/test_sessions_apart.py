"""Whether sessions are apart is tried between two containers, whatever the network's options say."""

from __future__ import annotations

import socket
import subprocess

import pytest

from ds01spawner import messages
from ds01spawner.core.labels import CREATED_AT, HUB, PROBE
from ds01spawner.core.settings import Settings
from ds01spawner.engines.docker import isolation_record
from ds01spawner.engines.docker.isolation import probe, sweep, utc_now
from ds01spawner.engines.docker.listening import Listening, listening
from ds01spawner.engines.docker.network import ICC, ensure_network, find_network
from ds01spawner.engines.docker.network_checks import isolation_findings

OUTSIDE = "198.51.100.7"
"""An address for documentation: no machine has it, but ours for a moment, on a bridge of the test's."""


@pytest.fixture
def network(engine, hub_id):
    """Makes networks of this test: ``network("open", icc=True)``."""
    made = []

    def make(name: str, *, icc: bool = False, ipv6: str = ""):
        full = f"ds01-{hub_id}-{name}"
        if icc or ipv6:
            options = {} if icc else {ICC: "false"}
            ipam = None
            if ipv6:
                from docker.types import IPAMConfig, IPAMPool

                ipam = IPAMConfig(pool_configs=[IPAMPool(subnet=ipv6)])
            engine.api.create_network(
                full,
                driver="bridge",
                options=options,
                labels={HUB: hub_id},
                enable_ipv6=bool(ipv6),
                ipam=ipam,
            )
        else:
            ensure_network(engine.api, full, hub_id)
        made.append(full)
        return find_network(engine.api, full)

    yield make
    for left in engine.containers.list(all=True, filters={"label": f"{HUB}={hub_id}"}):
        left.remove(force=True)
    for name in made:
        engine.api.remove_network(name)


@pytest.fixture
def tried(engine, lab_image, hub_id):
    def run(network, **more):
        return probe(engine.api, network, lab_image, hub_id, utc_now(), **more)

    return run


def test_the_hubs_own_network_keeps_sessions_apart_and_nothing_is_left(engine, network, tried, hub_id):
    found = tried(network("own"))
    assert (found.verdict, found.ways, found.why) == ("apart", (), "")
    assert engine.containers.list(all=True, filters={"label": f"{HUB}={hub_id}"}) == []


def test_a_network_with_open_doors_is_seen(network, tried):
    found = tried(network("open", icc=True))
    assert found.verdict == "open"
    assert found.ways == ("TCP over IPv4", "UDP over IPv4")


def test_firewall_rules_count_and_not_the_networks_option(engine, network, tried):
    made = network("lied")
    bridge = f"br-{made['Id'][:12]}"
    rule = ["DOCKER-USER", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        assert str(made["Options"][ICC]) == "false"
        found = tried(made)
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
    assert found.verdict == "open"
    assert "TCP over IPv4" in found.ways


def test_ipv6_that_the_engine_forgets_is_seen(engine, network, tried):
    # Engines before 27 make no rules for IPv6 unless they are told to.
    found = tried(network("six", ipv6="fd00:d501:9::/64"))
    assert found.ipv6
    kept = "TCP over IPv6" not in found.ways
    assert found.verdict == ("apart" if kept else "open")
    if int(engine.version()["Version"].split(".")[0]) < 27:
        assert found.verdict == "open"
        assert "TCP over IPv4" not in found.ways


def test_services_of_the_host_and_addresses_outside_are_called(network, tried):
    made = network("own")
    bridge = f"br-{made['Id'][:12]}"
    gateway = made["IPAM"]["Config"][0]["Gateway"]
    subprocess.run(["ip", "address", "add", f"{OUTSIDE}/32", "dev", bridge], check=True)
    try:
        with (
            socket.create_server(("0.0.0.0", 0)) as everywhere,
            socket.create_server(("127.0.0.1", 0)) as loopback,
            socket.create_server((OUTSIDE, 80)),
        ):
            port = everywhere.getsockname()[1]
            ports = {port, loopback.getsockname()[1]}
            own = [s for s in listening() if s.port in ports]
            assert {(s.address, s.port) for s in own} == {
                ("0.0.0.0", port),
                ("127.0.0.1", loopback.getsockname()[1]),
            }
            found = tried(made, listening=own, outside=[OUTSIDE])
    finally:
        subprocess.run(["ip", "address", "delete", f"{OUTSIDE}/32", "dev", bridge], check=True)
    assert found.verdict == "apart"
    assert found.services == (f"{gateway}:{port}",)
    assert found.outside == (OUTSIDE,)


def test_an_image_without_python_tells_nothing(engine, network, busybox_image, hub_id):
    found = probe(engine.api, network("own"), busybox_image, hub_id, utc_now())
    assert found.verdict == "unknown"
    assert "did not answer" in found.why


def test_what_a_dead_probe_left_is_removed_by_a_later_one(engine, network, busybox_image, hub_id):
    made = network("own")
    labels = {PROBE: "listen", HUB: hub_id, CREATED_AT: "2020-01-01T00:00:00+00:00"}
    old = engine.containers.run(busybox_image, ["sleep", "300"], detach=True, labels=labels)
    other = engine.containers.run(
        busybox_image, ["sleep", "300"], detach=True, labels={**labels, CREATED_AT: utc_now().isoformat()}
    )
    sweep(engine.api, hub_id, utc_now())
    left = {c.id for c in engine.containers.list(all=True, filters={"label": f"{HUB}={hub_id}"})}
    assert old.id not in left
    assert other.id in left
    assert made


def test_an_open_network_stops_starts_until_a_probe_says_otherwise(
    engine, network, lab_image, hub_id, tmp_path
):
    made = network("lied")
    bridge = f"br-{made['Id'][:12]}"
    settings = Settings(state_dir=tmp_path, hub_id=hub_id, network=made["Name"], image=lab_image)
    assert isolation_record.ways_now(settings, engine.api) == ()  # nothing is known yet
    rule = ["DOCKER-USER", "-i", bridge, "-o", bridge, "-j", "ACCEPT"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        found = isolation_record.probe_site(settings, engine.api, utc_now())
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)
    ways = isolation_record.ways_now(settings, engine.api)
    assert ways == found.ways
    assert ways
    assert "reaches another by" in messages.sessions_not_apart(ways).sentence
    levels = {f.level for f in isolation_findings(settings, found, [])}
    assert "error" in levels
    allowed = settings.model_copy(update={"allow_open_network": True})
    assert "error" not in {f.level for f in isolation_findings(allowed, found, [])}
    isolation_record.probe_site(settings, engine.api, utc_now())
    assert isolation_record.ways_now(settings, engine.api) == ()


def test_a_listening_socket_is_where_a_container_would_find_it():
    made = {"IPAM": {"Config": [{"Gateway": "172.30.0.1"}, {"Gateway": "fd00::1"}]}}
    for address, expected in {
        "127.0.0.1": [],
        "::1": [],
        "0.0.0.0": [("172.30.0.1", 80)],
        "::": [("172.30.0.1", 80), ("fd00::1", 80)],
        "10.1.2.3": [("10.1.2.3", 80)],
    }.items():
        assert Listening(address, 80).seen_from(made) == expected

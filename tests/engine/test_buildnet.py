"""The network of builds, on a real engine and firewall: the machine is out of reach, and seen to be."""

import os
import shutil
import socket
import threading
import uuid

import pytest

from ds01spawner.engines.docker import buildnet
from ds01spawner.engines.docker.network import ensure_network, find_network

BASE = "ds01/base:latest"
pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("iptables"), reason="sets the firewall"),
]


@pytest.fixture
def network(engine, hub_id):
    """A builds' network of this test's own, with its rules; both gone afterwards."""
    name = f"ds01-test-{uuid.uuid4().hex[:8]}-build"
    made = []

    def make(**options):
        made.append(buildnet.ensure(engine.api, name, hub_id, **options))
        return made[-1]

    yield make
    for each in made:
        buildnet.withdraw(each.bridge)
    if found := find_network(engine.api, name):
        engine.api.remove_network(found["Id"])


def test_a_build_does_not_reach_the_machine(engine, network):
    sessions = ensure_network(engine.api, "ds01-test", "test-network")
    open_ = network(run=lambda command, given: (0, ""))  # no rules: it is open, and that is seen
    assert sorted(buildnet.reached(engine.api, open_, BASE, [sessions])) == sorted(
        {open_.gateway, sessions.gateway}
    )
    closed = network()
    assert closed.trouble == ""
    assert buildnet.reached(engine.api, closed, BASE, [sessions]) == []
    again = network()
    assert again == closed
    buildnet.withdraw(closed.bridge)
    assert open_.gateway in buildnet.reached(engine.api, closed, BASE, [sessions])


def test_ports_that_the_site_allows(engine, network):
    with socket.create_server(("0.0.0.0", 0)) as listener:
        port = listener.getsockname()[1]
        allowed = network(ports=[port])
        heard = threading.Event()

        def accept():
            listener.accept()[0].close()
            heard.set()

        threading.Thread(target=accept, daemon=True).start()
        buildnet._call(engine.api, allowed.name, BASE, [f"{allowed.gateway}:{port}"])
        assert heard.wait(20)
        assert buildnet.reached(engine.api, allowed, BASE) == []


def test_names_are_resolved_and_other_builds_are_not_reached(engine, network, hub_id):
    made = network()
    other = engine.containers.run(
        BASE, ["python3", "-m", "http.server", "8000"], detach=True, network=made.name,
        labels={"ds01.hub": hub_id}, mem_limit="128m",
    )  # fmt: skip
    try:
        other.reload()
        address = other.attrs["NetworkSettings"]["Networks"][made.name]["IPAddress"]
        said = engine.containers.run(
            BASE, ["python3", "-c", (
                "import socket\n"
                f"try: socket.create_connection(('{address}', 8000), 3); print('reached')\n"
                "except OSError as error: print('apart')\n"
                "print(open('/etc/resolv.conf').read())"
            )], network=made.name, remove=True, labels={"ds01.hub": hub_id},
        ).decode()  # fmt: skip
    finally:
        other.remove(force=True)
    assert said.startswith("apart")
    assert "127.0.0.11" in said

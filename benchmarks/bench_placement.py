"""How long a decision and a reading of the ledger take, and whether they keep their goals.

    python benchmarks/bench_placement.py          # decision, simulator, and the ledger over 500 containers
    python benchmarks/bench_placement.py --pure   # without an engine

The engine part makes containers from ``ds01/test-busybox:latest`` that are never started, and removes
exactly those again. Exit 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import docker

from ds01spawner.cli.simulate import compare
from ds01spawner.core.installation import Installation
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.client import DockerEngine
from ds01spawner.engines.docker.ledger import Ledger
from ds01spawner.placement import place, status
from ds01spawner.placement.devices import Block, Card, Device, GpuRequest, Holding, Inventory
from ds01spawner.placement.load_simulator import reference_layout

IMAGE = "ds01/test-busybox:latest"
CONTAINERS = 500
INSTALLATION = Installation("0123456789abcdef", b"k" * 32)
GOALS_MS = {"place": 5, "status": 5, "ledger cold": 1000, "ledger warm": 50, "simulate": 60_000}


def big_machine() -> Inventory:
    """64 devices: eight cards of seven small slices, and eight whole ones."""
    cards = [Card(f"GPU-{n:02}", "H100", 81920, n < 8, index=n, minor=n) for n in range(16)]
    small = [
        Device(f"MIG-{n:02}-{s}", "H100", "1g.10gb", 9984, 1, f"GPU-{n:02}", n * 100 + 1 + s)
        for n in range(8)
        for s in range(7)
    ]
    whole = [Device(c.uuid, "H100", "full", 81920, index=c.index * 100) for c in cards[8:]]
    return Inventory("nvml", (*small, *whole), tuple(cards))


def measure(work: Callable[[], object], times: int) -> dict[str, float]:
    """Median and worst time of ``work`` in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append((time.perf_counter() - started) * 1000)
    return {
        "best_ms": round(min(taken), 3),
        "median_ms": round(statistics.median(taken), 3),
        "worst_ms": round(max(taken), 3),
    }


def decisions() -> dict[str, dict[str, float]]:
    """One placement and one status of 64 devices with 100 containers, all but one device held."""
    machine = big_machine()
    uuids = [d.uuid for d in machine.devices][:-1]
    holdings = [Holding(uuids[n % len(uuids)], f"user{n}", "session", container=str(n)) for n in range(100)]
    blocks = {"GPU-00": Block("drained", "fan"), "GPU-09": Block("reserved", "course")}
    request = GpuRequest("auto", max_equivalents=2.0)
    return {
        "place": measure(lambda: place(request, machine, holdings, blocks), 200),
        "status": measure(lambda: status(machine, holdings, blocks), 200),
        "simulate": measure(lambda: compare(reference_layout(), 0.45, 5), 1),
    }


def ledger_times() -> dict[str, dict[str, float]]:
    """A cold and a warm reading of an engine with 500 containers."""
    engine = DockerEngine()
    client = engine.client
    hub = f"test-bench-{uuid.uuid4().hex[:8]}"
    machine = big_machine()
    try:
        make_containers(client, hub, machine)
        cold = measure(
            lambda: Ledger(lambda: engine.client, installation=lambda: INSTALLATION).read(machine), 3
        )
        ledger = Ledger(lambda: engine.client, installation=lambda: INSTALLATION)
        ledger.read(machine)
        return {"ledger cold": cold, "ledger warm": measure(lambda: ledger.read(machine), 20)}
    finally:
        for container in client.containers(all=True, filters={"label": f"ds01.hub={hub}"}):
            client.remove_container(container["Id"], force=True)


def make_containers(client: docker.APIClient, hub: str, machine: Inventory) -> None:
    """500 sessions' containers, created and never started; 63 of them name a device."""

    def make(number: int) -> None:
        uuids = (machine.devices[number].uuid,) if number < 63 else ()
        name = f"{hub}-{number}"
        told = SessionLabels(f"user{number}", "", "p", hub, f"s{number}", gpu_uuids=uuids, container=name)
        request = [{"DeviceIDs": list(uuids), "Capabilities": [["gpu"]]}] if uuids else None
        host = client.create_host_config(device_requests=request)
        client.create_container(
            IMAGE, ["true"], name=name, labels=INSTALLATION.sign(told.to_labels()), host_config=host
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(make, range(CONTAINERS)))


def main() -> int:
    """Measure, print one JSON document, and say by the exit code whether every goal is kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pure", action="store_true", help="leave out the ledger, which needs an engine")
    pure = parser.parse_args().pure
    found = decisions() if pure else {**decisions(), **ledger_times()}
    for name, numbers in found.items():
        numbers["goal_ms"] = GOALS_MS[name]
        numbers["kept"] = numbers["median_ms"] < GOALS_MS[name]
    print(json.dumps(found, indent=2))
    return 0 if all(numbers["kept"] for numbers in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

"""``ds01 gpus`` and ``ds01 simulate``: the documents that others read, and what people see."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent / "placement"))
from machines import machine
from support.ours import INSTALLATION
from world import Host

from ds01spawner import site as site_module
from ds01spawner.cli import gpus, simulate
from ds01spawner.core.errors import EngineError
from ds01spawner.engines.base import Attach
from ds01spawner.engines.docker.ledger import Ledger
from ds01spawner.gpu.reading import GpuReading
from ds01spawner.placement.devices import Block, Inventory

KEYS = ["uuid", "parent", "name", "profile", "memory_mib", "equivalents", "state", "holder", "reason"]


class FakeSite:
    """A site with two cards on an engine that is a plain object."""

    def __init__(self, reading: GpuReading, host: Host | None = None) -> None:
        self.reading, self.host = reading, host or Host()
        self.ledger = Ledger(lambda: self.host, installation=lambda: INSTALLATION)
        self.engine = self
        self.looks = 0

    def inventory(self, max_age: float) -> GpuReading:
        assert max_age == 0, "people who ask want to know how it is now"
        return self.reading

    def look(self):
        return self.ledger.read(self.reading.inventory, self.reading.processes, self.reading.former)

    def attach(self, inventory):
        return Attach("cdi", "", {"MIG-1-1": Block("unready", "the CDI list is old")})

    def blocks(self, now):
        return {"GPU-0": Block("drained", "fan", until="2026-03-01")}


@pytest.fixture
def run(monkeypatch):
    """Run a command over a fake site; returns the result of the typer runner."""

    def run(site, *args: str, command=gpus):
        monkeypatch.setattr(site_module, "Site", lambda settings: site)
        app = typer.Typer()
        command.register(app)
        return CliRunner().invoke(app, list(args))

    return run


def two_cards() -> FakeSite:
    site = FakeSite(GpuReading(machine((), ("3g.40gb", "4g.40gb"), mode="nvml")))
    site.host.add_session(("MIG-1-0",), real=False)
    return site


def test_json_is_the_contract(run):
    result = run(two_cards(), "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(data) == ["mode", "attach", "devices"]
    assert (data["mode"], data["attach"]) == ("nvml", "cdi")
    assert all(list(d) == KEYS for d in data["devices"])
    assert [(d["uuid"], d["state"], d["reason"]) for d in data["devices"]] == [
        ("GPU-0", "drained", "fan"),
        ("MIG-1-0", "held", "in use by a session"),
        ("MIG-1-1", "unready", "the CDI list is old"),
    ]
    assert data["devices"][1]["holder"].startswith("ann/")
    assert data["devices"][1] | {"holder": ""} == {
        "uuid": "MIG-1-0",
        "parent": "GPU-1",
        "name": "NVIDIA A100-SXM4-80GB",
        "profile": "3g.40gb",
        "memory_mib": 40448,
        "equivalents": 0.4286,
        "state": "held",
        "holder": "",
        "reason": "in use by a session",
    }


def test_text_shows_each_device_in_one_line(run):
    result = run(two_cards())
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.split()[0] for line in lines[1:4]] == ["GPU-0", "MIG-1-0", "MIG-1-1"]
    assert lines[4] == "0 of 3 devices are free; attach: cdi"


def test_a_machine_without_gpus_needs_no_engine(run):
    site = FakeSite(GpuReading(Inventory("none", reason="no NVIDIA driver")))
    site.host.engine_down = True
    result = run(site, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (
        0,
        {"mode": "none", "attach": "none", "devices": [], "note": "no NVIDIA driver"},
    )
    assert "no NVIDIA driver" in run(site).stdout


def test_a_driver_that_does_not_answer_is_unhealthy(run):
    site = FakeSite(GpuReading(Inventory("nvml", state="version-mismatch", reason="reboot the machine")))
    result = run(site, "--json")
    assert (result.exit_code, json.loads(result.stdout)["devices"]) == (1, [])
    assert "reboot the machine" in run(site).stdout


def test_an_engine_that_does_not_answer_shows_nothing_as_free(run):
    site = two_cards()
    site.host.engine_down = True
    result = run(site, "--json")
    assert isinstance(result.exception, EngineError)
    assert result.stdout == ""


def test_watch_shows_a_reading_only_when_it_changed(run, monkeypatch):
    site = two_cards()

    def pass_time(seconds):
        site.looks += 1
        if site.looks == 2:
            site.host.boxes.clear()
        if site.looks == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(gpus.time, "sleep", pass_time)
    result = run(site, "--watch", "--json")
    states = [json.loads(line)["devices"][1]["state"] for line in result.stdout.splitlines()]
    assert (result.exit_code, states, site.looks) == (0, ["held", "free"], 4)


def test_simulate_json(run):
    result = run(None, "--json", "--arrivals", "1500", "--seeds", "2", command=simulate)
    data = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (data["load"], data["seeds"], data["arrivals"], data["devices"]) == (0.45, 2, 1500, 14)
    assert set(data["rules"]) == {"best-fit", "first-fit", "spread"}
    for rule in data["rules"].values():
        assert set(rule) == {"refused", "avoidable", "big_refused", "wasted_gib", "idle_cards"}
        assert 0 <= rule["avoidable"] <= rule["refused"] < 1
        assert data["offline_bound"]["refused"] <= rule["refused"]


def test_simulate_text_and_own_inventory(run, tmp_path):
    path = tmp_path / "inventory.yaml"
    path.write_text("cards: [{name: A30, memory: 24g}, {name: A30, memory: 24g}]")
    args = ("--arrivals", "300", "--seeds", "1", "--inventory", str(path))
    result = run(None, *args, command=simulate)
    assert result.exit_code == 0
    assert "offline bound" in result.stdout
    assert "2 devices, load 0.45, 300 sessions × 1 histories" in result.stdout
    path.write_text("cards: []")
    assert run(None, *args, command=simulate).exit_code == 1


def test_a_driver_without_a_card_says_so(run):
    site = FakeSite(GpuReading(Inventory(mode="nvml")))
    said = json.loads(run(site, "--json").stdout)
    assert (said["devices"], said["note"]) == ([], gpus.NO_CARD)
    assert gpus.NO_CARD in " ".join(run(site).output.split())


def test_the_note_is_there_only_where_there_is_no_device(run):
    site = FakeSite(GpuReading(machine((), ("3g.40gb", "4g.40gb"), mode="nvml")))
    assert "note" not in json.loads(run(site, "--json").stdout)

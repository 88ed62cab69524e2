"""``ds01 gpus --json`` on machines of every kind, and while slices are made anew under it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.nvml import A30, A100, H100, RTX, Machine, card_uuid, four_a100, slice_uuid
from fakes.probe import Rig
from typer.testing import CliRunner

from ds01spawner.cli import build_app

Row = tuple[str, str, str]
"""UUID, profile, state."""

pytestmark = pytest.mark.parametrize("rig", ["cdi-runc"], indirect=True)


class Command:
    """The command on a machine of its own, with the rig's engine."""

    def __init__(self, machine: Machine, rig: Rig) -> None:
        self.machine, self.rig = machine, rig

    def document(self) -> dict[str, Any]:
        """What it prints, whether healthy or not."""
        result = CliRunner().invoke(build_app(), ["gpus", "--json"])
        assert result.exit_code in (0, 1), result.output
        return json.loads(result.stdout)

    def rows(self) -> list[Row]:
        """Its devices in short."""
        found = self.document()
        assert (found["mode"], found["attach"]) == ("nvml", "nvidia")
        return [(d["uuid"], d["profile"], d["state"]) for d in found["devices"]]


@pytest.fixture
def command(rig: Rig, nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    machine = Machine(tmp_path / "inventory").write()
    for key, value in machine.env(nvml_library).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DS01_DOCKER_HOST", f"unix://{rig.engine.folder / 'sock'}")
    monkeypatch.setenv("DS01_ATTACH", "nvidia")
    return Command(machine, rig)


def free(*devices: tuple[str, str]) -> list[Row]:
    return [(uuid, profile, "free") for uuid, profile in devices]


MACHINES: dict[str, tuple[Callable[[Machine], Any], list[Row]]] = {
    "four A100, three split differently": (
        four_a100,
        free(
            (card_uuid(0), "full"),
            *[(slice_uuid(1, i), p) for i, p in enumerate(["3g.40gb", "2g.20gb", "1g.10gb", "1g.10gb"])],
            *[(slice_uuid(2, i), p) for i, p in enumerate(["2g.20gb", "2g.20gb", "2g.20gb", "1g.10gb"])],
            *[
                (slice_uuid(3, i), p)
                for i, p in enumerate(["4g.40gb", "1g.10gb", "1g.10gb", "1g.10gb", "1g.20gb"])
            ],
        ),
    ),
    "H100 with seven slices": (
        lambda m: m.split(0, H100, *["1g.10gb"] * 7),
        free(*[(slice_uuid(0, i), "1g.10gb") for i in range(7)]),
    ),
    "A30, and a card without MIG": (
        lambda m: m.split(0, A30, "2g.12gb", "1g.6gb", "1g.6gb").gpu(1, RTX),
        free(
            (slice_uuid(0, 0), "2g.12gb"),
            (slice_uuid(0, 1), "1g.6gb"),
            (slice_uuid(0, 2), "1g.6gb"),
            (card_uuid(1), "full"),
        ),
    ),
    "MIG on and no instances": (
        lambda m: m.gpu(0, A100, mig=1).gpu(1),
        [(card_uuid(0), "full", "unready"), (card_uuid(1), "full", "free")],
    ),
    "a lost card that was never seen": (
        lambda m: m.gpu(0).gpu(1, A100, lost=1),
        [(card_uuid(0), "full", "free"), ("GPU-unknown-1", "full", "lost")],
    ),
    "a process that nobody explains": (
        lambda m: m.gpu(0).gpu(1).line(f"proc {card_uuid(1)} 4194304 100"),
        [(card_uuid(0), "full", "free"), (card_uuid(1), "full", "foreign")],
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine(command: Command, name: str) -> None:
    build, expected = MACHINES[name]
    build(command.machine)
    command.machine.write()
    assert command.rows() == expected


def test_one_device_in_full(command: Command) -> None:
    command.machine.split(0, H100, "2g.20gb").write()
    assert command.document()["devices"] == [
        {
            "uuid": slice_uuid(0, 0),
            "parent": card_uuid(0),
            "name": "NVIDIA H100 80GB HBM3 MIG 2g.20gb",
            "profile": "2g.20gb",
            "memory_mib": 19968,
            "equivalents": 0.2857,
            "state": "free",
            "holder": "",
            "reason": "",
        }
    ]


def test_a_card_that_is_lost_and_comes_back(command: Command) -> None:
    command.machine.gpu(0).split(1, A100, "3g.40gb").write()
    before = command.rows()
    command.machine.clear().gpu(0).gpu(1, A100, lost=1).write()
    assert command.rows() == [before[0], (slice_uuid(1, 0), "3g.40gb", "lost")]
    command.machine.clear().gpu(0).split(1, A100, "3g.40gb").write()
    # It answers again, and is watched for two polls before it is offered.
    assert command.rows() == [before[0], (slice_uuid(1, 0), "3g.40gb", "unready")]


def test_slices_remade_under_it(command: Command) -> None:
    layouts = [("1g.10gb", "2g.20gb"), ("3g.40gb", "3g.40gb"), ("2g.20gb", "1g.10gb", "1g.10gb")]

    def lay_out(turn: int) -> None:
        generation = turn % len(layouts)
        command.machine.clear().gpu(0, A100, mig=1)
        command.machine.slices(0, *layouts[generation], generation=generation).write()

    allowed = [free(*[(slice_uuid(0, i, g), p) for i, p in enumerate(ps)]) for g, ps in enumerate(layouts)]
    lay_out(0)
    assert command.rows() == allowed[0]
    stop = threading.Event()

    def remake() -> None:
        turn = 0
        while not stop.wait(0.05):
            turn += 1
            lay_out(turn)

    thread = threading.Thread(target=remake)
    thread.start()
    try:
        seen = [command.rows() for _ in range(6)]
    finally:
        stop.set()
        thread.join()
    assert all(rows in [*allowed, []] for rows in seen), seen
    assert any(seen)
    lay_out(1)
    assert command.rows() == allowed[1]


def test_the_cdi_list_is_compared(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine knows the rig's devices, not all of this machine's: those are not ready, and it says why."""
    monkeypatch.setenv("DS01_ATTACH", "auto")
    command.machine.gpu(0).gpu(1).write()
    found = command.document()
    assert found["attach"] == "cdi"
    assert [(d["uuid"], d["state"]) for d in found["devices"]] == [
        (card_uuid(0), "free"),
        (card_uuid(1), "unready"),
    ]
    assert "nvidia-ctk cdi generate" in found["devices"][1]["reason"]


def test_how_long_it_takes(command: Command) -> None:
    """A reading, the ledger of an engine without containers and the print: well under a second."""
    four_a100(command.machine).write()
    command.rows()
    took = []
    for _ in range(5):
        started = time.monotonic()
        command.rows()
        took.append(time.monotonic() - started)
    assert min(took) < 1

"""`ds01 queue`, `ds01 reserve` and `ds01 simulate --queue`, as they are typed."""

import json
from datetime import datetime, timezone

import pytest
import typer
from typer.testing import CliRunner

from ds01spawner.cli import queue_commands, simulate, simulate_queue
from ds01spawner.store import Store


@pytest.fixture
def ds01(tmp_path, monkeypatch):
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))
    inventory = tmp_path / "gpus.yaml"
    inventory.write_text("version: 1\ncards: [{name: NVIDIA A100, memory: 80g, mig: [1g.10gb, 1g.10gb]}]\n")
    monkeypatch.setenv("DS01_DEVICES", "simulated")
    monkeypatch.setenv("DS01_INVENTORY", str(inventory))
    app = typer.Typer()
    queue_commands.register(app)
    simulate.register(app)

    def call(*args):
        result = CliRunner().invoke(app, list(args))
        return result.exit_code, result.output

    call.store = Store.open(f"sqlite:///{tmp_path / 'ds01.sqlite'}")
    return call


def test_the_line_is_shown_and_a_place_taken_out(ds01):
    row = {"id": "abc", "user": "ann", "profile": "1g.10gb", "options": {}}
    ds01.store.tickets.add(row, datetime.now(timezone.utc))
    code, out = ds01("queue", "--json")
    (line,) = json.loads(out)
    assert (code, line["id"], line["user"], line["class"]) == (0, "abc", "ann", "1g.10gb")
    assert "ann" in ds01("queue")[1]
    assert ds01("queue", "--cancel", "abc")[0] == 0
    assert ds01("queue", "--cancel", "abc")[0] == 1
    assert ds01("queue", "--cancel", "nope")[0] == 1
    assert json.loads(ds01("queue", "--json")[1]) == []


def test_reserving_listing_and_calling_off(ds01):
    year = datetime.now(timezone.utc).year
    weekly = ("--repeat", "FREQ=WEEKLY", "--zone", "Europe/Berlin", "--title", "NLP")
    times = ("--from", f"{year}-01-05T14:00", "--to", f"{year}-01-05T16:00")
    code, out = ds01(
        "reserve", "course:nlp", *times, "--profile", "1g.10gb", "--count", "2", *weekly, "--json"
    )
    made = json.loads(out)
    assert (code, made["what"], made["warnings"], len(made["times"])) == (0, "2 × 1g.10gb", [], 2)
    (listed,) = json.loads(ds01("reserve", "--json")[1])
    assert listed["id"] == made["id"]
    assert "NLP" in ds01("reserve")[1]
    assert ds01("reserve", "--cancel", made["id"])[0] == 0
    assert ds01("reserve", "--cancel", made["id"])[0] == 1
    assert json.loads(ds01("reserve", "--json")[1]) == []


@pytest.mark.parametrize(
    "args",
    [
        ("everybody", "--from", "2030-01-01T10:00", "--to", "2030-01-01T11:00", "--profile", "full"),
        ("user:ann", "--from", "soon", "--to", "2030-01-01T11:00", "--profile", "full"),
        ("user:ann", "--from", "2030-01-01T10:00", "--to", "2030-01-01T11:00"),
        ("user:ann", "--from", "2020-01-01T10:00", "--to", "2020-01-01T11:00", "--profile", "full"),
    ],
)
def test_what_cannot_be_reserved(ds01, args):
    code, out = ds01("reserve", *args)
    assert (code, "cannot be made" in out) == (1, True)


def test_simulate_queue(ds01, tmp_path, monkeypatch):
    small = simulate_queue.compare(rules=("ds01", "fifo"), seeds=(1,), count=500, processes=1)
    monkeypatch.setattr(simulate_queue, "compare", lambda loads: small)
    code, out = ds01("simulate", "--queue", "--json", "--chart", str(tmp_path / "q.svg"))
    found = json.loads(out)
    assert code == 0
    assert {"p95_wait_largest", "jain", "starved", "estimate_kept", "rules"} <= set(found)
    assert set(found["rules"]) == {"ds01", "fifo"}
    assert (tmp_path / "q.svg").read_text().startswith("<svg")
    text = ds01("simulate", "--queue")[1]
    assert "load 0.55" in text
    assert "goals" in text

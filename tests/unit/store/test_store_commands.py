"""`ds01 events`, `usage`, `drain`, `undrain` and `maintenance`, as they are typed."""

import json
from datetime import datetime, timedelta, timezone

import pytest
import typer
from typer.testing import CliRunner

from ds01spawner.cli import drain, history_commands
from ds01spawner.cli.times import parse_span, parse_time
from ds01spawner.core.ending import Ended
from ds01spawner.store import SessionRecord, Store

H = timedelta(hours=1)


@pytest.fixture
def ds01(tmp_path, monkeypatch):
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DS01_DEVICES", "none")
    app = typer.Typer()
    history_commands.register(app)
    drain.register(app)

    def call(*args):
        result = CliRunner().invoke(app, list(args))
        return result.exit_code, result.output

    call.store = Store.open(f"sqlite:///{tmp_path / 'ds01.sqlite'}")
    return call


def test_usage_as_table_csv_and_json(ds01):
    at = datetime.now(timezone.utc) - 2 * H
    ds01.store.sessions.started(SessionRecord("s", "=alice", at, groups=("g",), equivalents=0.5))
    ds01.store.ends.record(Ended("s", at + H, "stopped"))
    assert "=alice" in ds01("usage")[1]
    header, line = ds01("usage", "--format", "csv")[1].splitlines()
    assert header == "user,sessions,running,session_hours,cpu_hours,gpu_hours"
    assert line == "'=alice,1,0,1.0,0.0,0.5"
    code, out = ds01("usage", "--by", "group", "--since", "3h", "--json")
    assert (code, json.loads(out)["rows"][0]["key"], json.loads(out)["rows"][0]["gpu_hours"]) == (0, "g", 0.5)
    assert ds01("usage", "--since", "tomorrow")[0] == 2
    assert ds01("usage", "--since", "1h", "--until", "2h")[0] == 2


def test_events_in_text_and_json(ds01):
    now = datetime.now(timezone.utc)
    ds01.store.blocks.drain("GPU-1", "fan\x1b[31m", "root", now)
    code, out = ds01("events")
    assert code == 0
    assert "device drained" in out
    assert "\x1b" not in out
    line = json.loads(ds01("events", "--json", "--topic", "device")[1])
    assert (line["topic"], line["action"], line["device"]) == ("device", "drained", "GPU-1")
    assert ds01("events", "--topic", "weather")[0] == 1
    assert ds01("events", "-n", "0")[1] == ""


def test_drain_and_undrain(ds01):
    code, out = ds01("drain", "GPU-1", "--reason", "fan", "--until", "2h", "--json")
    assert (code, json.loads(out)["uuid"]) == (0, "GPU-1")
    assert ds01.store.blocks.at(datetime.now(timezone.utc))["GPU-1"].state == "drained"
    assert ds01("drain", "GPU-1", "--reason", " ")[0] == 1
    assert ds01("drain", "GPU-1", "--reason", "x", "--until", "2001-01-01")[0] == 1
    assert ds01("undrain", "GPU")[0] == 0
    code, out = ds01("undrain", "GPU-1")
    assert (code, "not drained" in out) == (1, True)


def test_maintenance_is_announced_listed_and_ended(ds01):
    assert ds01("maintenance", "2h", "--reason", "driver", "--until", "5h")[0] == 0
    (listed,) = json.loads(ds01("maintenance", "--json")[1])
    assert (listed["device"], listed["reason"]) == ("*", "driver")
    now = datetime.now(timezone.utc)
    assert "All sessions end" in ds01.store.notices.of("anybody", now)[0].text
    assert ds01("maintenance", "--end", str(listed["id"]))[0] == 0
    assert ds01("maintenance", "--end", "99")[0] == 1
    assert ds01.store.notices.of("anybody", datetime.now(timezone.utc)) == []
    assert ds01("maintenance", "2h")[0] == 1


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("1.5h", 5400), ("7d", 604800), (" 2W ", 1209600), ("10s", 10)]
)
def test_spans(text, seconds):
    assert parse_span(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1 year", "9" * 20 + "w"])
def test_what_is_no_span(text):
    with pytest.raises(typer.BadParameter):
        parse_span(text)


def test_times(now):
    assert parse_time("2h", now) == now + 2 * H
    assert parse_time("2h", now, past=True) == now - 2 * H
    assert parse_time("2026-03-02T14:00+01:00", now) == now + H
    with pytest.raises(typer.BadParameter):
        parse_time("soon", now)

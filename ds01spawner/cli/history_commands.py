"""``ds01 events`` and ``ds01 usage``: what happened, and who used how much."""

from __future__ import annotations

import csv
import json
import sys
import time
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer

from ..core.settings import load_settings
from ..core.text import stamp
from ..store import Store
from ..store.events import TOPICS, as_json
from ..store.rows import EventRow
from ..store.usage import UsageRow
from .common import Json, console, emit, refuse, table
from .times import parse_time, utcnow

POLL_SECONDS = 1.0


class By(str, Enum):
    """What usage is added up by."""

    user = "user"
    group = "group"
    course = "course"
    project = "project"


class Format(str, Enum):
    """How usage is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as events happen.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last ones.")] = 50,
    topic: Annotated[str | None, typer.Option(help=f"One of: {', '.join(TOPICS)}.")] = None,
    user: Annotated[str | None, typer.Option(help="Only what is about this person.")] = None,
    since: Annotated[str | None, typer.Option(help="Only after this time or span, such as 2h.")] = None,
    as_json_: Json = False,
) -> None:
    """Show the event log, oldest first. With --json one line of JSON an event."""
    if topic is not None and topic not in TOPICS:
        refuse(f"There is no topic {topic!r}; there are {', '.join(TOPICS)}.", as_json_)
    start = parse_time(since, utcnow(), past=True) if since else None
    store = Store.open(load_settings().store)
    found = store.events.find(topic=topic, user=user, since=start, limit=lines, latest=True)
    last = found[-1].id if found else _newest(store)
    for event in found:
        _print_event(event, as_json_)
    while follow:
        time.sleep(POLL_SECONDS)
        for event in store.events.find(last, topic=topic, user=user):
            _print_event(event, as_json_)
            last = event.id


def usage(
    by: Annotated[By, typer.Option(help="What to add up by.")] = By.user,
    since: Annotated[str, typer.Option(help="From this time or span ago.")] = "30d",
    until: Annotated[str | None, typer.Option(help="To this time; default now.")] = None,
    form: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.table,
    as_json: Json = False,
) -> None:
    """Show sessions, CPU-hours and GPU-hours (GPU-equivalents × hours), running sessions included."""
    now = utcnow()
    start = parse_time(since, now, past=True)
    end = min(now, parse_time(until, now, past=True)) if until else now
    if start >= end:
        raise typer.BadParameter("the time in --since is not before the one in --until")
    found = Store.open(load_settings().store).usage.by(by.value, start, end)
    if as_json or form is Format.json:
        emit(
            {
                "by": by.value,
                "since": start.isoformat(),
                "until": end.isoformat(),
                "rows": [asdict(r) for r in found],
            },
            True,
        )
    elif form is Format.csv:
        _write_csv(by.value, found)
    else:
        columns = (by.value, "sessions", "running", "session hours", "CPU-hours", "GPU-hours")
        cells = [(r.key, r.sessions, r.running, *_hours(r)) for r in found]
        table(columns, cells, f"{stamp(start)} to {stamp(end)}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(events)
    app.command()(usage)


def _hours(r: UsageRow) -> list[str]:
    return [f"{hours:.2f}" for hours in (r.session_hours, r.cpu_hours, r.gpu_hours)]


def _write_csv(by: str, found: list[UsageRow]) -> None:
    columns = ("sessions", "running", "session_hours", "cpu_hours", "gpu_hours")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow((by, *columns))
    out.writerows([_plain_cell(r.key), *(getattr(r, c) for c in columns)] for r in found)


def _plain_cell(text: str) -> str:
    # A spreadsheet runs a cell that begins like a formula; names come from people.
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _newest(store: Store) -> int:
    found = store.events.find(limit=1, latest=True)
    return int(found[-1].id) if found else 0


def _print_event(event: EventRow, as_json_: bool) -> None:
    if as_json_:
        flat = {**as_json(event), "topic": event.topic}
        print(json.dumps(flat, ensure_ascii=False), flush=True)
        return
    details = " ".join(f"{k}={_short(v)}" for k, v in event.data.items())
    who = f" {event.user}" if event.user else ""
    line = f"{stamp(event.at, seconds=True)} {event.topic} {event.action}{who} {details}"
    console.print("".join(c if c.isprintable() else "�" for c in line.rstrip()), markup=False)


def _short(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)

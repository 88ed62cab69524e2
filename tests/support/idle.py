"""What tests of the idle service ask a running hub, as an admin at a terminal and as a person at a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from .browse import log_in
from .running_hub import RunningHub

DS01 = str(Path(sys.executable).with_name("ds01"))


def ds01(hub: RunningHub, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a ``ds01`` command for this hub's site."""
    env = {**os.environ, "DS01_STATE_DIR": str(hub.state)}
    return subprocess.run([DS01, *arguments], env=env, capture_output=True, text=True, timeout=60)


def command(hub: RunningHub, *arguments: str) -> Any:
    """What a ``ds01`` command answers as JSON; it must succeed."""
    done = ds01(hub, *arguments, "--json")
    assert done.returncode == 0, done.stderr + done.stdout
    if arguments[0] == "events":
        return [json.loads(line) for line in done.stdout.splitlines()]
    return json.loads(done.stdout)


def events_of(hub: RunningHub, user: str) -> list[dict[str, Any]]:
    """What happened to a person's sessions, oldest first."""
    return list(command(hub, "events", "--topic", "session", "--user", user))


def decisions(hub: RunningHub) -> dict[str, dict[str, Any]]:
    """The idle service's last decisions by user."""
    try:
        found = json.loads((hub.state / "idle.json").read_text())["sessions"]
    except (OSError, ValueError):
        return {}
    return {d["user"]: d for d in found}


def page_of(hub: RunningHub, user: str, path: str) -> httpx.Response:
    """A page as the person's browser without JavaScript gets it."""
    with httpx.Client(base_url=hub.url, follow_redirects=True, timeout=30) as visitor:
        log_in(visitor, user)
        return visitor.get(path)

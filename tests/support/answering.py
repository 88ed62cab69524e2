"""Whether a hub's service goes on answering other people: each answer's time, and the service's memory."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from .running_hub import RunningHub
from .service_api import ServiceApi

PATHS = ("api/environments", "environments", "api/sessions", "gpus")
"""What another person opens meanwhile."""
WITHOUT_ENGINE = ("api/requests", "requests", "api/notices", "notices")
"""The like of it that asks the container engine nothing: how slow the machine itself is just now."""
PAUSE_S = 0.05
MIB = 2**20


@dataclass
class Heard:
    """What one service answered during a stretch of time: seconds each, and what was no good answer."""

    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each was asked, and the seconds it took."""
    bad: list[str] = field(default_factory=list)
    highest: int = 0
    """Bytes of memory the service had at most."""
    began: float = 0.0
    ended: float = float("inf")
    slow: str = ""
    """What took longest."""

    @property
    def seconds(self) -> list[float]:
        """Of those that were asked or awaited during the stretch."""
        return [took for at, took in self.answers if at <= self.ended and at + took >= self.began]

    @property
    def slowest(self) -> float:
        """The longest answer."""
        return max(self.seconds, default=0.0)


def service_of(hub: RunningHub) -> int:
    """The process of a hub's service."""
    assert hub.process is not None
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int(re.search(r"^PPid:\s+([0-9]+)", (path / "status").read_text(), re.M)[1])  # type: ignore[index]
            words = (path / "cmdline").read_bytes().split(b"\0")
            if parent == hub.process.pid and b"ds01spawner.service" in words:
                return int(path.name)
    raise AssertionError(f"the hub has no service:\n{hub.tail()}")


def memory(process: int, most: bool = False) -> int:
    """Bytes a process has in memory, or the most it ever had."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(rf"^{'VmHWM' if most else 'VmRSS'}:\s+([0-9]+)", status, re.M)[1]) * 1024  # type: ignore[index]


@contextmanager
def listening(hub: RunningHub, person: ServiceApi, paths: tuple[str, ...] = PATHS) -> Iterator[Heard]:
    """Asks pages and the API again and again as ``person`` while the block runs, which begins when all of
    them were answered once."""
    heard, over, ready, process = Heard(), threading.Event(), threading.Event(), service_of(hub)
    client = httpx.Client(base_url=f"{hub.url}services/ds01/", headers=dict(person.http.headers), timeout=120)

    def ask() -> None:
        while not over.wait(PAUSE_S):
            for path in paths:
                began = time.monotonic()
                try:
                    answer = client.get(path)
                except httpx.TransportError as error:
                    heard.bad.append(f"{path}: {error!r}")
                else:
                    if answer.status_code != 200:
                        heard.bad.append(f"{path}: {answer.status_code}")
                took = time.monotonic() - began
                if ready.is_set() and took > heard.slowest:
                    heard.slow = path
                heard.answers.append((began, took))
            ready.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert ready.wait(300), "not even answered before it began"
    heard.began = time.monotonic()
    try:
        yield heard
    finally:
        heard.ended = time.monotonic()
        over.set()
        thread.join(600)
        heard.highest = memory(process, most=True)
        client.close()


@contextmanager
def side_by_side(
    attacked: tuple[RunningHub, ServiceApi], idle: tuple[RunningHub, ServiceApi]
) -> Iterator[tuple[Heard, Heard]]:
    """`listening` on the service that is attacked, and at the same moments on an idle one that asks no
    engine, which shows what the machine itself takes."""
    with ExitStack() as stack:
        alone = stack.enter_context(listening(*idle, WITHOUT_ENGINE))
        yield stack.enter_context(listening(*attacked)), alone

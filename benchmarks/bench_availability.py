"""How old is the availability that 50 open pages show, and what do they cost the hub?

``python benchmarks/bench_availability.py [PAGES] [SECONDS]``: a real hub with its service, a session on
a simulated GPU, and so many pages that refresh their live part every five seconds, as a browser does.
Prints the age of what they were shown (reading and refresh interval together) and the hub's answer time
to ``/hub/health``, which is its loop's lag and a little more.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import sys
import tempfile
import time
import uuid
from datetime import datetime, timezone
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.running_hub import RunningHub, running_hub  # noqa: E402

from ds01spawner.pages.keys import HEADER, load_secret, sign  # noqa: E402

IMAGE = "ds01/lab:latest"
REFRESH_S = 5.0
AGE_LIMIT_S, LAG_LIMIT_MS = 10.0, 50.0
SHOWN = re.compile(r'<time datetime="([^"]+)" data-ds01-clock')


async def page(
    client: httpx.AsyncClient, url: str, headers: dict[str, str], until: float, ages: list[float]
) -> None:
    """One open page: ask, look at the time shown, wait for the next refresh."""
    await asyncio.sleep(random.uniform(0, REFRESH_S))
    while time.monotonic() < until:
        answer = await client.get(url, headers=headers)
        answer.raise_for_status()
        shown = SHOWN.search(answer.text)
        assert shown, "the page shows no time"
        ages.append((datetime.now(timezone.utc) - datetime.fromisoformat(shown[1])).total_seconds())
        await asyncio.sleep(REFRESH_S)


async def probe(client: httpx.AsyncClient, url: str, until: float, lags: list[float]) -> None:
    """The hub's answer time, ten times a second."""
    while time.monotonic() < until:
        began = time.perf_counter()
        (await client.get(url)).raise_for_status()
        lags.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.1)


async def measure(hub: RunningHub, pages: int, seconds: float) -> tuple[list[float], list[float]]:
    """Ages (s) and answer times (ms) over ``seconds``."""
    secret = load_secret(hub.state)
    ages: list[float] = []
    lags: list[float] = []
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=pages + 2)
    async with httpx.AsyncClient(base_url=hub.url, timeout=30, limits=limits) as client:
        now = datetime.now(timezone.utc)
        visitors = [
            page(
                client,
                "services/ds01/fragments/availability",
                {HEADER: sign(secret, f"user{n}", now)},
                until,
                ages,
            )
            for n in range(pages)
        ]
        await asyncio.gather(*visitors, probe(client, "hub/health", until, lags))
    return ages, lags


def main() -> int:
    """Measure and print; 1 when a limit is passed."""
    numbers = [int(a) for a in sys.argv[1:] if a.isdigit()]
    pages, seconds = (*numbers, 50, 30)[:2] if numbers else (50, 30)
    name = f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    people = {f"user{n}" for n in range(pages)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_hub(Path(folder), name, IMAGE, arguments=", idle=False", users=people) as hub,
    ):
        static = f"{hub.url}services/ds01/static/ds01.js"
        hub.wait_for(lambda: httpx.get(static).status_code == 200, 60, "the service to answer")
        hub.start_session("alice", {"project": "p", "gpu": "1g.10gb"})
        ages, lags = asyncio.run(measure(hub, pages, seconds))
        hub.retire("alice")
    oldest = max(ages) + REFRESH_S  # a page shows what it got until its next refresh
    p99 = statistics.quantiles(lags, n=100)[98]
    print(
        f"{pages} pages, {len(ages)} refreshes: at most {oldest:.1f} s old (target at most {AGE_LIMIT_S:g})"
    )
    print(f"hub: median {statistics.median(lags):.1f} ms, p99 {p99:.1f} ms (target below {LAG_LIMIT_MS:g})")
    return int(oldest > AGE_LIMIT_S or p99 >= LAG_LIMIT_MS)


if __name__ == "__main__":
    sys.exit(main())

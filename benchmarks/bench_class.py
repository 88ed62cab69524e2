"""A class that clicks at once: N starts and N retires against bare DockerSpawner in the same run.

``python benchmarks/bench_class.py [N]`` (60 by default) prints when the first, the median and the last
session was ready, the 99th percentile of the hub's health page meanwhile, HTTP errors, and how long N retires
took; ``--json`` prints the numbers. One hub after the other, the same image, CPU sessions with the same
limits and timeouts. Both are asked in the same way: one POST for each student at the same moment, then one
list of servers twice a second. 1 when a ratio is above its target or a session did not come up.

The image is ``pip install jupyterhub jupyterlab`` on ds01/base, built first, so that the spawner alone makes
the difference; ``--image NAME`` takes another for both.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "benchmarks"))

from bench_singleuser import build_both  # noqa: E402
from bench_start import BARE, gone  # noqa: E402
from support.running_hub import RunningHub, running_hub  # noqa: E402

TARGETS = {"first": 0.30, "median": 0.65, "last": 0.95, "health_p99": 0.5, "retire": 0.35}
PATIENCE_S = 900.0
# With the defaults (60 s, 30 s) a bare hub gives up most sessions of a class on a small machine.
PATIENT = """
c.Spawner.start_timeout = 900
c.Spawner.http_timeout = 900
"""
HEALTH_S = 0.1
LOOK_S = 0.5


@contextmanager
def health(hub: RunningHub) -> Iterator[list[float]]:
    """Milliseconds that the hub's health page took, ten times a second, while the block runs."""
    took: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.wait(HEALTH_S):
                began = time.perf_counter()
                client.get(f"{hub.url}hub/health")
                took.append((time.perf_counter() - began) * 1000)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()


def servers(hub: RunningHub) -> dict[str, dict[str, Any]]:
    """Every user's default server as the hub's API lists it."""
    found = hub.http.get("/users", params={"limit": 200}).json()
    return {u["name"]: u["servers"].get("", {}) for u in found}


def cpu_seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Clicks:
    """One open connection for each student, so that all requests leave at the same moment."""

    def __init__(self, hub: RunningHub, names: list[str]) -> None:
        headers = {"Authorization": f"token {hub.token}"}
        base = f"{hub.url}hub/api"
        self.clients = {n: httpx.Client(base_url=base, headers=headers, timeout=900) for n in names}
        self.pool = ThreadPoolExecutor(len(names))
        list(self.pool.map(lambda c: c.get("/"), self.clients.values()))
        self.barrier = threading.Barrier(len(names))

    def all(self, method: str, path: Callable[[str], str], body: Any = None) -> list[Future[httpx.Response]]:
        """The same request for everybody, at once."""

        def one(name: str) -> httpx.Response:
            self.barrier.wait()
            return self.clients[name].request(method, path(name), json=body)

        return [self.pool.submit(one, name) for name in self.clients]


def start_all(hub: RunningHub, names: list[str], options: dict[str, str]) -> dict[str, Any]:
    """Start for everybody at once and wait for all; seconds to ready by name, and the answers' codes."""
    clicks = Clicks(hub, names)
    with health(hub) as took:
        assert hub.process is not None
        computed = cpu_seconds(hub.process.pid)
        began = time.perf_counter()
        posts = clicks.all("POST", hub.server_path, {"user_options": options})
        ready: dict[str, float] = {}
        failed: set[str] = set()
        while len(ready) + len(failed) < len(names) and time.perf_counter() - began < PATIENCE_S:
            time.sleep(LOOK_S)
            now = servers(hub)
            for name in names:
                if now[name].get("ready"):
                    ready.setdefault(name, time.perf_counter() - began)
            refused = [p.done() and p.result().status_code >= 400 for p in posts]
            # Neither pending nor ready after its answer: the hub has given it up.
            given_up = [p.done() and not now[n] for n, p in zip(names, posts, strict=True)]
            failed = {
                n
                for n, no, off in zip(names, refused, given_up, strict=True)
                if (no or off) and n not in ready
            }
        computed = cpu_seconds(hub.process.pid) - computed
        codes = [p.result().status_code for p in posts]
    times = sorted(ready.values())
    order = sorted(ready, key=lambda n: ready[n])
    return {
        "ready": len(ready),
        "first": times[0],
        "median": statistics.median(times),
        "last": times[-1],
        "health_p99": sorted(took)[int(len(took) * 0.99)],
        "health_max": max(took),
        "codes": {str(c): codes.count(c) for c in sorted(set(codes))},
        "hub_cpu": computed,
        "order": order,
    }


def retire_all(hub: RunningHub, engine: docker.DockerClient, names: list[str]) -> dict[str, Any]:
    """Retire everybody at once; seconds until the engine has none of their containers."""
    clicks = Clicks(hub, names)
    began = time.perf_counter()
    answers = clicks.all("DELETE", hub.server_path)
    while not gone(engine, hub.hub_id):
        assert time.perf_counter() - began < PATIENCE_S, "containers are left"
        time.sleep(0.1)
    took = time.perf_counter() - began
    return {"retire": took, "codes": sorted({a.result().status_code for a in answers})}


def measure(n: int, cases: list[str], image: str) -> dict[str, dict[str, Any]]:
    """Both hubs, one after the other; one start and stop of each first, which does not count."""
    engine = docker.from_env()
    run = f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    names = [f"s{i:03d}" for i in range(n)]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            hub_id = f"{run}-{case}"
            extra = PATIENT + (BARE.format(image=image, prefix=hub_id) if case == "bare" else "")
            options = {} if case == "bare" else {"project": "practical", "gpu": "none"}
            with running_hub(Path(folder) / case, hub_id, image, extra=extra, users=set(names)) as hub:
                for name in names:
                    hub.http.post(f"/users/{name}")  # accounts are there before the class begins
                hub.start_session("alice", options)
                hub.retire("alice")
                found[case] = start_all(hub, names, options)
                left = [name for name, server in servers(hub).items() if server.get("ready")]
                found[case]["retired"] = retire_all(hub, engine, left)
                found[case]["retire"] = found[case]["retired"].pop("retire")
                found[case]["5xx_in_log"] = sum(
                    any(f"] {code} " in line for code in range(500, 505))
                    for line in hub.log.read_text(errors="replace").splitlines()
                )
    return found


def main() -> int:
    """Measure, print, judge."""
    n = next((int(a) for a in sys.argv[1:] if a.isdigit()), 60)
    image = sys.argv[sys.argv.index("--image") + 1] if "--image" in sys.argv else ""
    image = image or build_both(docker.APIClient(version="auto"), "ds01/base:latest")[0]
    cases = [c for c in ("bare", "ds01") if c in sys.argv] or ["bare", "ds01"]
    found = measure(n, cases, image)
    ratios = {k: found["ds01"][k] / found["bare"][k] for k in TARGETS} if len(cases) == 2 else {}
    if "--json" in sys.argv:
        print(json.dumps({"n": n, "found": found, "ratio": ratios, "target": TARGETS}, indent=2))
    else:
        for case, r in found.items():
            print(
                f"{case}: {r['ready']}/{n} ready, first {r['first']:.1f} s, median {r['median']:.1f} s, "
                f"last {r['last']:.1f} s; health p99 {r['health_p99']:.0f} ms (most {r['health_max']:.0f}); "
                f"hub's processor time {r['hub_cpu']:.1f} s; "
                f"answers {r['codes']}, 5xx in the log {r['5xx_in_log']}; retires {r['retire']:.1f} s"
            )
        for what, ratio in ratios.items():
            print(f"{what}: ratio {ratio:.2f} (target at most {TARGETS[what]})")
    bad = [k for k, r in ratios.items() if r > TARGETS[k]]
    return int(bool(bad) or any(r["ready"] < n or r["5xx_in_log"] for r in found.values()))


if __name__ == "__main__":
    sys.exit(main())

"""A class that clicks at once: N starts and N retires against bare DockerSpawner in the same run.

``python benchmarks/bench_class.py [N]`` (60 by default) prints when the first, the median and the last
session was ready, the 99th percentile of the hub's health page meanwhile, HTTP errors, and how long N retires
took; ``--json`` prints the numbers. One hub after the other, CPU sessions with the same limits and timeouts.
All are asked in the same way: one POST for each student at the same moment. A session is ready when the proxy
has its route, so that watching costs the hub nothing. The health page is asked for as long after the click in
every case as bare took; a percentile over the busy part alone is printed, too. 1 when a ratio is above its
target or a session did not come up.

Both sides run as they come: bare DockerSpawner with ``pip install jupyterhub jupyterlab``, this product with
the environment it builds, on the same base. ``--same-image`` adds a run of this product with bare's image,
which shows what the spawner does alone; ``--image NAME`` takes one image for both. A name of a case
(``bare``, ``ds01``, ``same``) runs that one only.
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
LOOK_S = 0.1
STUCK_S = 30.0
"""So long after the last session came up, the hub is asked whether it has given up any."""


@contextmanager
def health(hub: RunningHub) -> Iterator[list[float]]:
    """Milliseconds that the hub's health page took, asked ten times a second, while the block runs.

    Asked by the clock, whether or not the last request has its answer, as visitors do: one who waits for an
    answer before asking again would count a hub that is silent for two seconds only once.
    """
    took: list[float] = []
    over = threading.Event()
    asked: list[Future[None]] = []
    client = httpx.Client(timeout=60, limits=httpx.Limits(max_connections=None, max_keepalive_connections=20))
    pool = ThreadPoolExecutor(100)

    def ask(at: float) -> None:
        client.get(f"{hub.url}hub/health")
        took.append((time.perf_counter() - at) * 1000)

    def keep_asking() -> None:
        at = time.perf_counter()
        while not over.wait(max(0.0, at - time.perf_counter())):
            asked.append(pool.submit(ask, at))
            at += HEALTH_S

    thread = threading.Thread(target=keep_asking)
    thread.start()
    try:
        yield took
    finally:
        over.set()
        thread.join()
        for answer in asked:
            answer.result()
        pool.shutdown()
        client.close()


def servers(hub: RunningHub) -> dict[str, dict[str, Any]]:
    """Every user's default server as the hub's API lists it."""
    found = hub.http.get("/users", params={"limit": 200}).json()
    return {u["name"]: u["servers"].get("", {}) for u in found}


def routed(proxy: httpx.Client) -> set[str]:
    """The users whose sessions the proxy reaches: the last step of a start, after the server has answered."""
    routes = proxy.get("/api/routes").json()
    return {r["user"] for r in routes.values() if r.get("user")}


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


def wait_for_all(
    hub: RunningHub, names: list[str], posts: list[Future[httpx.Response]], began: float
) -> dict[str, float]:
    """Seconds from ``began`` to ready by name, until all are ready or given up."""
    ready: dict[str, float] = {}
    failed: set[str] = set()
    news = began
    headers = {"Authorization": f"token {hub.proxy_token}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{hub.proxy_port}", headers=headers, timeout=60) as proxy:
        while len(ready) + len(failed) < len(names) and time.perf_counter() - began < PATIENCE_S:
            time.sleep(LOOK_S)
            found = routed(proxy).intersection(names).difference(ready)
            now = time.perf_counter()
            if found:
                ready |= dict.fromkeys(found, now - began)
                news = now
            elif now - news > STUCK_S and all(p.done() for p in posts):
                # Neither pending nor ready after its answer: the hub has given it up.
                listed = servers(hub)
                failed = {n for n in names if not listed[n] and n not in ready}
                news = now
    return ready


def p99(took: list[float]) -> float:
    """The 99th percentile."""
    return sorted(took)[int(len(took) * 0.99)]


def start_all(hub: RunningHub, names: list[str], options: dict[str, str], watch: float) -> dict[str, Any]:
    """Start for everybody at once and wait for all; seconds to ready by name, and the answers' codes.

    The health page is asked for ``watch`` seconds at least.
    """
    clicks = Clicks(hub, names)
    with health(hub) as took:
        assert hub.process is not None
        computed = cpu_seconds(hub.process.pid)
        began = time.perf_counter()
        posts = clicks.all("POST", hub.server_path, {"user_options": options})
        ready = wait_for_all(hub, names, posts, began)
        computed = cpu_seconds(hub.process.pid) - computed
        busy = len(took)
        time.sleep(max(0.0, watch - (time.perf_counter() - began)))
        codes = [p.result().status_code for p in posts]
    times = sorted(ready.values())
    order = sorted(ready, key=lambda n: ready[n])
    return {
        "ready": len(ready),
        "first": times[0],
        "median": statistics.median(times),
        "last": times[-1],
        "health_p99": p99(took),
        "health_p99_busy": p99(took[:busy]),
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


def measure(n: int, cases: dict[str, str]) -> dict[str, dict[str, Any]]:
    """A hub for each case and its image, one after the other; first a start and stop that do not count."""
    engine = docker.from_env()
    run = f"test-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    names = [f"s{i:03d}" for i in range(n)]
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for case, image in cases.items():
            hub_id = f"{run}-{case}"
            extra = PATIENT + (BARE.format(image=image, prefix=hub_id) if case == "bare" else "")
            options = {} if case == "bare" else {"project": "practical", "gpu": "none"}
            with running_hub(Path(folder) / case, hub_id, image, extra=extra, users=set(names)) as hub:
                for name in names:
                    hub.http.post(f"/users/{name}")  # accounts are there before the class begins
                hub.start_session("alice", options)
                hub.retire("alice")
                watch = found["bare"]["last"] if "bare" in found else 0.0
                found[case] = start_all(hub, names, options, watch)
                left = [name for name, server in servers(hub).items() if server.get("ready")]
                found[case]["retired"] = retire_all(hub, engine, left)
                found[case]["retire"] = found[case]["retired"].pop("retire")
                lines = hub.log.read_text(errors="replace").splitlines()
                found[case]["5xx_in_log"] = sum(any(f"] {c} " in t for c in range(500, 505)) for t in lines)
                if len(left) < n:  # the folder goes, so that is the last one sees of it
                    print(*(t for t in lines if t.startswith("[E ")), sep="\n", file=sys.stderr)
    return found


def images_of(arguments: list[str]) -> dict[str, str]:
    """The cases to run, each with its image, built where it is not there yet."""
    if "--image" in arguments:
        one = arguments[arguments.index("--image") + 1]
        images = {"bare": one, "ds01": one}
    else:
        plain, ours = build_both(docker.APIClient(version="auto"), "ds01/base:latest")
        images = {"bare": plain, "ds01": ours}
        if {"--same-image", "same"} & set(arguments):
            images["same"] = plain
    return {c: i for c, i in images.items() if c in arguments} or images


def main() -> int:
    """Measure, print, judge."""
    n = next((int(a) for a in sys.argv[1:] if a.isdigit()), 60)
    found = measure(n, images_of(sys.argv[1:]))
    ratios = {
        case: {k: r[k] / found["bare"][k] for k in TARGETS}
        for case, r in found.items()
        if case != "bare" and "bare" in found
    }
    if "--json" in sys.argv:
        print(json.dumps({"n": n, "found": found, "ratio": ratios, "target": TARGETS}, indent=2))
    else:
        for case, r in found.items():
            print(
                f"{case}: {r['ready']}/{n} ready, first {r['first']:.1f} s, median {r['median']:.1f} s, "
                f"last {r['last']:.1f} s; health p99 {r['health_p99']:.0f} ms (while busy "
                f"{r['health_p99_busy']:.0f}, most {r['health_max']:.0f}); "
                f"hub's processor time {r['hub_cpu']:.1f} s; "
                f"answers {r['codes']}, 5xx in the log {r['5xx_in_log']}; retires {r['retire']:.1f} s"
            )
        for case, judged in ratios.items():
            for what, ratio in judged.items():
                print(f"{case} {what}: ratio {ratio:.2f} (target at most {TARGETS[what]})")
    bad = [k for k, r in ratios.get("ds01", {}).items() if r > TARGETS[k]]
    return int(bool(bad) or any(r["ready"] < n or r["5xx_in_log"] for r in found.values()))


if __name__ == "__main__":
    sys.exit(main())

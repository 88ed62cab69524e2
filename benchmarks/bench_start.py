"""Start-to-ready and stop-to-gone of a session against bare DockerSpawner: same image, one run, alternating.

``python benchmarks/bench_start.py [ROUNDS]`` prints medians and ratios (and ``--json`` the numbers). Two
hubs run side by side; their starts take turns, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.running_hub import RunningHub, running_hub  # noqa: E402

IMAGE = "ds01/lab:latest"
TARGET = 1.05
BARE = """
c.JupyterHub.spawner_class = "dockerspawner.DockerSpawner"
c.DockerSpawner.image = {image!r}
c.DockerSpawner.cmd = ["jupyterhub-singleuser"]
c.DockerSpawner.remove = True
c.DockerSpawner.prefix = {prefix!r}
c.DockerSpawner.extra_create_kwargs = {{"labels": {{"ds01.hub": {prefix!r}}}}}
c.Spawner.default_url = "/lab"
c.Spawner.mem_limit = "1G"
c.Spawner.cpu_limit = 1
c.Spawner.args = ["--allow-root"]  # bare containers run as the image says, which is root
"""


def gone(engine: docker.DockerClient, hub_id: str) -> bool:
    """Whether the engine has no container of a hub."""
    return not engine.api.containers(all=True, filters={"label": f"ds01.hub={hub_id}"})


def once(hub: RunningHub, engine: docker.DockerClient, options: dict[str, str]) -> tuple[float, float]:
    """Seconds from the request to ready, and from the stop to no container."""
    began = time.perf_counter()
    hub.start_session("alice", options)
    started = time.perf_counter() - began
    time.sleep(1)
    began = time.perf_counter()
    answer = hub.http.delete(hub.server_path("alice"))
    assert answer.status_code in (202, 204), answer.text
    while not gone(engine, hub.hub_id):
        time.sleep(0.02)
    return started, time.perf_counter() - began


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """``rounds`` starts and stops of each, after one of each that does not count."""
    engine = docker.from_env()
    name = uuid.uuid4().hex[:6]
    bare_id, ours_id = f"test-{os.getpid()}-bare-{name}", f"test-{os.getpid()}-ours-{name}"
    with tempfile.TemporaryDirectory() as folder:
        extra = BARE.format(image=IMAGE, prefix=bare_id)
        with (
            running_hub(Path(folder) / "bare", bare_id, IMAGE, extra=extra) as bare,
            running_hub(Path(folder) / "ours", ours_id, IMAGE) as ours,
        ):
            cases = {"bare": (bare, {}), "ds01": (ours, {"project": "bench", "gpu": "1g.10gb"})}
            found: dict[str, dict[str, list[float]]] = {k: {"start": [], "stop": []} for k in cases}
            for number in range(rounds + 1):
                for case, (hub, options) in cases.items():
                    start, stop = once(hub, engine, options)
                    if number:
                        found[case]["start"].append(start)
                        found[case]["stop"].append(stop)
    return found


def main() -> int:
    """Measure and print; 1 when a ratio is above the target."""
    rounds = next((int(a) for a in sys.argv[1:] if a.isdigit()), 9)
    found = measure(rounds)
    median = {c: {k: statistics.median(v) for k, v in times.items()} for c, times in found.items()}
    ratios = {k: median["ds01"][k] / median["bare"][k] for k in ("start", "stop")}
    if "--json" in sys.argv:
        print(json.dumps({"median_s": median, "ratio": ratios, "rounds": rounds}, indent=2))
    else:
        for what, ratio in ratios.items():
            print(
                f"{what}: ds01 {median['ds01'][what]:.2f} s, bare {median['bare'][what]:.2f} s, "
                f"ratio {ratio:.3f} (target at most {TARGET})"
            )
    return int(any(r > TARGET for r in ratios.values()))


if __name__ == "__main__":
    sys.exit(main())

"""Start-to-ready of single-user images under bare DockerSpawner: alternating starts of one hub, medians.

    python benchmarks/bench_singleuser.py --base ds01/base:latest --max-ratio 0.7
    python benchmarks/bench_singleuser.py PLAIN_IMAGE OURS_IMAGE --rounds 11

With ``--base`` both images are built on it first, where they are not there yet: one with
`pip install jupyterhub jupyterlab` in a virtual environment, one as this product builds every environment.

A real hub with bare DockerSpawner starts one image after the other: the same command and limits, so the
image alone makes the difference. Start-to-ready is from the request to the hub's "ready". A single start
says little, since the hub looks for a server at random moments. ``--by docker-run`` leaves the hub out: from
`docker run` to the first HTTP answer, with a stub for the hub. Exit 1 when the last image's median is above
``--max-ratio`` of the first's.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import ipaddress
import json
import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from bench_start import BARE, gone  # noqa: E402
from support.running_hub import running_hub  # noqa: E402

from ds01spawner.engines.docker.image_store import ImageMissing, Images  # noqa: E402
from ds01spawner.environments.builder.dockerfile import plan  # noqa: E402
from ds01spawner.environments.builder.recipe import Recipe  # noqa: E402
from ds01spawner.environments.builder.sitebuild import hub_version, site_build  # noqa: E402
from ds01spawner.workspace.projectfiles import pack_files  # noqa: E402

PREFIX = "/user/bench/"
CONTENT = "ds01-bench.content"
"""Label of the images built here: what they were built from."""
# After BARE, which has one image: the user's option chooses, as on a site without this product.
CHOICE = """
c.DockerSpawner.allowed_images = {images!r}
"""


class Hub(BaseHTTPRequestHandler):
    """Answers what a single-user server asks its hub at the start."""

    def do_GET(self) -> None:
        scopes = ["access:servers!user=bench"]
        self._send({"version": "6.1.1", "name": "bench", "kind": "user", "scopes": scopes, "groups": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._send({})

    def _send(self, data: object) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-JupyterHub-Version", "6.1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def environment(hub: str) -> dict[str, str]:
    """The variables the hub gives a session."""
    return {
        "JUPYTERHUB_API_TOKEN": "bench",
        "JUPYTERHUB_API_URL": f"{hub}/hub/api",
        "JUPYTERHUB_ACTIVITY_URL": f"{hub}/hub/api/users/bench/activity",
        "JUPYTERHUB_BASE_URL": "/",
        "JUPYTERHUB_HOST": "",
        "JUPYTERHUB_CLIENT_ID": "jupyterhub-user-bench",
        "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{PREFIX}oauth_callback",
        "JUPYTERHUB_OAUTH_SCOPES": "[]",
        "JUPYTERHUB_OAUTH_ACCESS_SCOPES": json.dumps(["access:servers!user=bench"]),
        "JUPYTERHUB_SERVICE_PREFIX": PREFIX,
        "JUPYTERHUB_SERVICE_URL": f"http://0.0.0.0:8888{PREFIX}",
        "JUPYTERHUB_USER": "bench",
        "JUPYTERHUB_SERVER_NAME": "",
        "HOME": "/tmp",
    }


def serve_hub(client: docker.APIClient) -> str:
    """Answer as a hub on the engine's own bridge, until this process ends; returns the address."""
    pool = client.inspect_network("bridge")["IPAM"]["Config"][0]
    gateway = pool.get("Gateway") or str(next(ipaddress.ip_network(pool["Subnet"]).hosts()))
    server = ThreadingHTTPServer((gateway, 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://{gateway}:{server.server_port}"


def start_to_ready(client: docker.APIClient, image: str, hub: str, timeout_s: float = 60) -> float:
    """Seconds from ``docker run`` to the first HTTP answer below 500."""
    name = f"ds01-bench-{uuid.uuid4().hex[:8]}"
    config = client.create_host_config(cap_drop=["ALL"], security_opt=["no-new-privileges"])
    try:
        began = time.perf_counter()
        client.create_container(
            image, ["jupyterhub-singleuser"], name=name, host_config=config, environment=environment(hub),
            user="12345:12345",
        )  # fmt: skip
        client.start(name)
        address = client.inspect_container(name)["NetworkSettings"]["IPAddress"]
        while time.perf_counter() - began < timeout_s:
            try:
                connection = http.client.HTTPConnection(address, 8888, timeout=2)
                connection.request("GET", f"{PREFIX}api")
                if connection.getresponse().status < 500:
                    return time.perf_counter() - began
            except OSError:
                time.sleep(0.01)
        raise SystemExit(client.logs(name).decode()[-3000:] + f"\n{image}: no answer in {timeout_s} s")
    finally:
        client.remove_container(name, force=True, v=True)


def build_both(client: docker.APIClient, base: str, wanted: Sequence[str] = ("plain", "ours")) -> list[str]:
    """The names of a plain image and one of ours on ``base``; ``wanted`` are those that are needed, built
    where they are not there yet."""
    images = Images(client=client)
    version = hub_version()
    plain = (
        f"FROM {base}\nRUN python3 -m venv /opt/plain"
        f" && /opt/plain/bin/pip install -q --no-cache-dir jupyterhub=={version} jupyterlab\n"
        "ENV PATH=/opt/plain/bin:$PATH\n"
    )
    ours = plan(Recipe(), base, version, site=site_build())
    contexts = {
        "plain": {"Dockerfile": plain.encode()},
        "ours": {"Dockerfile": ours.dockerfile.encode(), **ours.files},
    }
    for name in wanted:
        _build(images, f"ds01-bench/{name}:latest", base, contexts[name])
    return [f"ds01-bench/{name}:latest" for name in contexts]


def _build(images: Images, name: str, base: str, files: dict[str, bytes]) -> None:
    digest = hashlib.sha256(images.inspect(base).id.encode())
    for path, content in sorted(files.items()):
        digest.update(path.encode() + b"\0" + content)
    try:
        if images.inspect(name).labels.get(CONTENT) == digest.hexdigest():
            return
    except ImageMissing:
        pass
    print(f"building {name}", file=sys.stderr)
    labels = {CONTENT: digest.hexdigest()}
    stream = images.build(pack_files(files), 1800, t=name, buildargs=site_build().args, labels=labels)
    for message in stream:
        if "error" in message:
            raise SystemExit(f"{name}: {message['error']}")
    stream.close()


Starter = Callable[[str], float]
"""Starts an image once and removes it; seconds to ready."""


@contextmanager
def by_docker_run(client: docker.APIClient, images: Sequence[str]) -> Iterator[Starter]:
    """Starts without a hub."""
    hub = serve_hub(client)
    yield lambda image: start_to_ready(client, image, hub)


@contextmanager
def by_spawner(client: docker.APIClient, images: Sequence[str]) -> Iterator[Starter]:
    """Starts of a real hub with bare DockerSpawner."""
    engine = docker.from_env()
    hub_id = f"test-{os.getpid()}-image-{uuid.uuid4().hex[:6]}"
    extra = BARE.format(image=images[0], prefix=hub_id) + CHOICE.format(images={i: i for i in images})
    with (
        tempfile.TemporaryDirectory() as folder,
        running_hub(Path(folder), hub_id, images[0], extra=extra) as hub,
    ):

        def start(image: str) -> float:
            began = time.perf_counter()
            # The hub answers when the server is ready, or after ten seconds.
            hub.start_session("alice", {"image": image})
            took = time.perf_counter() - began
            found = engine.api.containers(filters={"label": f"ds01.hub={hub_id}"})
            assert [c["Image"] for c in found] == [image], found
            time.sleep(1)
            hub.retire("alice")
            while not gone(engine, hub_id):
                time.sleep(0.05)
            return took

        yield start


WAYS = {"spawner": by_spawner, "docker-run": by_docker_run}


def measure(start: Starter, images: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """``rounds`` starts of each, taking turns, after one of each that does not count."""
    seconds: dict[str, list[float]] = {image: [] for image in images}
    for number in range(rounds + 1):
        for image in images:
            took = start(image)
            if number:
                seconds[image].append(took)
    return seconds


def report(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, least, most and the ratio of the medians to the first image's."""
    first = statistics.median(next(iter(seconds.values())))
    return {
        image: {
            "median_s": round(statistics.median(s), 3),
            "min_s": round(min(s), 3),
            "max_s": round(max(s), 3),
            "ratio": round(statistics.median(s) / first, 3),
            "rounds": len(s),
        }
        for image, s in seconds.items()
    }


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*")
    parser.add_argument("--base", help="build both images on this one and compare them")
    parser.add_argument("--by", choices=WAYS, default="spawner", help="who starts the images")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--max-ratio", type=float)
    args = parser.parse_args()
    client = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
    if args.base:
        args.images = build_both(client, args.base)
    if not args.images:
        parser.error("name images, or a base")
    load = os.getloadavg()[0]
    with WAYS[args.by](client, args.images) as start:
        found = report(measure(start, args.images, args.rounds))
    print(json.dumps({"by": args.by, "load_before": round(load, 2), "images": found}, indent=2))
    ratio = found[args.images[-1]]["ratio"]
    return 1 if args.max_ratio is not None and ratio > args.max_ratio else 0


if __name__ == "__main__":
    sys.exit(main())

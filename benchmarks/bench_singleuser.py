"""Start-to-ready of single-user images: `docker run` to the first HTTP answer, alternating, medians.

    python benchmarks/bench_singleuser.py --base ds01/base:latest --max-ratio 0.7
    python benchmarks/bench_singleuser.py PLAIN_IMAGE OURS_IMAGE --rounds 10

With ``--base`` both images are built on it first: one with `pip install jupyterhub jupyterlab` in a virtual
environment, one as this product builds every environment.

The hub is a stub on this machine, so that only the image is measured. Exit 1 when the second image's
median is above ``--max-ratio`` of the first's.
"""

from __future__ import annotations

import argparse
import http.client
import ipaddress
import json
import statistics
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import docker

from ds01spawner.images.dockerfile import plan
from ds01spawner.images.engine import Images
from ds01spawner.images.projectfiles import pack_files
from ds01spawner.images.recipe import Recipe
from ds01spawner.images.sitebuild import hub_version, site_build

PREFIX = "/user/bench/"


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


def build_both(client: docker.APIClient, base: str) -> list[str]:
    """Build a plain image and one of ours on ``base``; returns their names."""
    images = Images(client=client)
    version = hub_version()
    names = ["ds01-bench/plain:latest", "ds01-bench/ours:latest"]
    plain = (
        f"FROM {base}\nRUN python3 -m venv /opt/plain"
        f" && /opt/plain/bin/pip install -q --no-cache-dir jupyterhub=={version} jupyterlab\n"
        "ENV PATH=/opt/plain/bin:$PATH\n"
    )
    ours = plan(Recipe(), base, version, site=site_build())
    contexts = [{"Dockerfile": plain.encode()}, {"Dockerfile": ours.dockerfile.encode(), **ours.files}]
    for name, files in zip(names, contexts, strict=True):
        print(f"building {name}", file=sys.stderr)
        stream = images.build(pack_files(files), 1800, t=name, buildargs=site_build().args)
        for message in stream:
            if "error" in message:
                raise SystemExit(f"{name}: {message['error']}")
        stream.close()
    return names


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*")
    parser.add_argument("--base", help="build both images on this one and compare them")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--max-ratio", type=float)
    args = parser.parse_args()
    client = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
    if args.base:
        args.images = build_both(client, args.base)
    if not args.images:
        parser.error("name images, or a base")
    hub = serve_hub(client)
    seconds: dict[str, list[float]] = {image: [] for image in args.images}
    for image in args.images:
        start_to_ready(client, image, hub)  # warm the page cache
    for _ in range(args.rounds):
        for image in args.images:
            seconds[image].append(start_to_ready(client, image, hub))
    medians = {image: statistics.median(s) for image, s in seconds.items()}
    first = medians[args.images[0]]
    report = {
        image: {
            "median_s": round(medians[image], 3),
            "min_s": round(min(s), 3),
            "max_s": round(max(s), 3),
            "ratio": round(medians[image] / first, 3),
            "rounds": len(s),
        }
        for image, s in seconds.items()
    }
    print(json.dumps(report, indent=2))
    ratio = medians[args.images[-1]] / first
    return 1 if args.max_ratio is not None and ratio > args.max_ratio else 0


if __name__ == "__main__":
    sys.exit(main())

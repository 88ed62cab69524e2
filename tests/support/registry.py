"""A registry on this machine with one image of random bytes, sent as slowly as a test wants to watch it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
CHUNK = 64 * 1024


def digest(data: bytes) -> str:
    """As registries name what they keep."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(size: int) -> tuple[bytes, str]:
    """A layer with one file of random bytes; and the digest of its tar."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        info = tarfile.TarInfo(f"random-{os.urandom(4).hex()}")
        info.size = size
        tar.addfile(info, io.BytesIO(os.urandom(size)))
    return gzip.compress(made.getvalue(), 1), digest(made.getvalue())


class Registry:
    """``sizes`` are those of the layers in bytes. While ``gate`` is not set, only half of each is sent."""

    def __init__(self, sizes: list[int], repository: str = "ds01-test-pull") -> None:
        made = [layer(size) for size in sizes]
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Cmd": ["true"]},
                "rootfs": {"type": "layers", "diff_ids": [inner for _, inner in made]},
                "history": [{"created": "2026-01-01T00:00:00Z"} for _ in made],
            }
        ).encode()
        blobs = [(CONFIG, config), *((LAYER, data) for data, _ in made)]
        parts = [{"mediaType": t, "size": len(b), "digest": digest(b)} for t, b in blobs]
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": parts[0], "layers": parts[1:]}
        self.manifest = json.dumps(document).encode()
        self.blobs = {digest(b): b for _, b in blobs}
        self.compressed = sum(len(data) for data, _ in made)
        self.gate = threading.Event()
        registry = self

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                registry.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        self.image = f"127.0.0.1:{self.server.server_port}/{repository}:1"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One request of an engine."""
        name = request.path.rpartition("/")[2]
        if request.path == "/v2/":
            body, kind = b"{}", "application/json"
        elif "/manifests/" in request.path:
            body, kind = self.manifest, MANIFEST
        elif name in self.blobs:
            body, kind = self.blobs[name], "application/octet-stream"
        else:
            request.send_error(404)
            return
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Docker-Content-Digest", digest(body))
        request.end_headers()
        if request.command == "GET":
            self._send(request, body, slow="/blobs/" in request.path and len(body) > 2 * CHUNK)

    def _send(self, request: BaseHTTPRequestHandler, body: bytes, slow: bool) -> None:
        for start in range(0, len(body), CHUNK):
            if slow and start >= len(body) // 2:
                self.gate.wait(120)
            request.wfile.write(body[start : start + CHUNK])
            if slow:
                time.sleep(0.01)


@contextmanager
def running_registry(sizes: list[int], repository: str = "ds01-test-pull") -> Iterator[Registry]:
    """A registry for the block."""
    registry = Registry(sizes, repository)
    thread = threading.Thread(target=registry.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.gate.set()
        registry.server.shutdown()
        registry.server.server_close()
        thread.join()

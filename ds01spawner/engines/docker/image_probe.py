"""Run an image once, locked in, to learn what only running it can tell. Cached by image id.

The container has no network, no capabilities, no new privileges, little memory and a time limit, and is
removed whatever happens: what is probed may have been written by anybody.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import requests
from docker import errors as docker_errors
from docker.types import LogConfig

from ...core.errors import EngineError
from ...environments.preflight import Probe
from . import bounded
from .image_store import Images, asking

LABEL = "ds01.probe"
PROBE_UID = 54321
"""A uid no image knows."""
TIMEOUT_S = 60
LEFT_BEHIND_S = 5 * TIMEOUT_S
MAX_SAID = 64 * 1024
_MARK = "ds01-probe-ran"
_SCRIPT = f"echo {_MARK}; exec jupyterhub-singleuser --version"
_VERSION = re.compile(r"^([0-9]+\.[0-9]+[0-9a-z.]*)\s*$", re.MULTILINE)


def probe(images: Images, image_id: str) -> Probe:
    """Run ``image_id`` as an unknown uid, and again as its own user if that did not work."""
    code, output = _run(images, image_id, f"{PROBE_UID}:{PROBE_UID}")
    if code is None:
        return Probe(failed=output)
    if _MARK not in output:
        as_own, own_output = _run(images, image_id, "")
        if as_own is not None and _MARK in own_output:
            return Probe(singleuser=_version(own_output), any_uid=False)
        return Probe(singleuser=_version(output), passes_command=False)
    version = _version(output)
    if code == 0 and version:
        return Probe(singleuser=version)
    as_own, own_output = _run(images, image_id, "")
    if as_own == 0 and _version(own_output):
        return Probe(singleuser=_version(own_output), any_uid=False)
    return Probe()


class ProbeCache:
    """Answers of `probe`, kept in a file: an image id never changes what it answers."""

    def __init__(self, images: Images, path: Path | None = None) -> None:
        self._images = images
        self._path = path
        self._known = self._load()

    def get(self, image_id: str) -> Probe:
        """The probe of ``image_id``; runs it the first time. A probe that failed is not kept."""
        if (known := self.known(image_id)) is None:
            known = probe(self._images, image_id)
            if not known.failed:
                self._known[image_id] = known
                self._save()
        return known

    def known(self, image_id: str) -> Probe | None:
        """The probe of ``image_id`` if it was made before, here or by another process."""
        if image_id not in self._known:
            self._known = {**self._load(), **self._known}
        return self._known.get(image_id)

    def _load(self) -> dict[str, Probe]:
        if self._path is None:
            return {}
        try:
            return {image: Probe(**data) for image, data in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # a cache: what cannot be read is asked again

    def _save(self) -> None:
        if self._path is None:
            return
        temporary = self._path.with_suffix(f".{uuid.uuid4().hex[:8]}.tmp")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({k: asdict(v) for k, v in self._known.items()}))
            temporary.replace(self._path)


def _version(output: str) -> str:
    match = _VERSION.search(output)
    return match[1] if match else ""


def _run(images: Images, image_id: str, user: str) -> tuple[int | None, str]:
    """Exit code and output; code None with a sentence when the container could not run to its end."""
    client = images.client()
    config = client.create_host_config(
        network_mode="none",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        mem_limit="768m",
        memswap_limit="768m",
        pids_limit=128,
        # Of what it says only the end is read: an image that talks on must not fill the engine's disk.
        log_config=LogConfig(type="json-file", config={"max-size": "1m", "max-file": "1"}),
    )
    options: dict[str, Any] = {"user": user} if user else {}
    name = f"ds01-probe-{uuid.uuid4().hex[:12]}"
    with asking(f"probing {image_id[:19]}"):
        try:
            client.create_container(
                image_id,
                ["sh", "-c", _SCRIPT],
                name=name,
                host_config=config,
                environment={"NVIDIA_VISIBLE_DEVICES": "void", "HOME": "/tmp"},  # noqa: S108
                labels={LABEL: image_id},
                **options,
            )
            client.start(name)
            code = client.wait(name, timeout=TIMEOUT_S)["StatusCode"]
            return code, bounded.log_tail(client, name, MAX_SAID, tail=200).decode("utf-8", "replace")
        except (docker_errors.APIError, requests.RequestException) as error:
            if isinstance(error, docker_errors.APIError) and error.is_client_error():
                return None, f"it cannot be run: {str(error.explanation)[:200]}"
            if isinstance(error, requests.ReadTimeout | requests.ConnectionError):
                return None, f"it did not answer within {TIMEOUT_S} s"
            raise
        finally:
            with suppress(docker_errors.APIError):
                client.remove_container(name, force=True, v=True)


def clear_leftovers(images: Images, older_s: float = LEFT_BEHIND_S) -> int:
    """Remove probe containers a crash left behind; returns how many. A younger one may be another hub's."""
    client = images.client()
    with asking("listing probes"):
        rows = client.containers(all=True, filters={"label": LABEL})
    removed = 0
    for row in rows:
        if time.time() - float(row["Created"]) < older_s:
            continue
        try:
            client.remove_container(row["Id"], force=True, v=True)
            removed += 1
        except docker_errors.APIError as error:
            if error.status_code not in (404, 409):
                raise EngineError(f"removing a probe: {error.explanation}") from error
    return removed

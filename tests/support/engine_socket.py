"""Where the container engine of this test run listens."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "/var/run/docker.sock"


def engine_socket() -> Path:
    """The socket that ``DOCKER_HOST`` names, as it was when this was called, else the engine's usual one."""
    scheme, _, path = os.environ.get("DOCKER_HOST", f"unix://{DEFAULT}").partition("://")
    assert scheme == "unix", "doors can be set up only in front of an engine on this machine's sockets"
    return Path(path)

"""Remove the session containers of one hub (``DS01_HUB_ID``, default the demo's); workspaces stay."""

from __future__ import annotations

import os
import sys

import docker

from ds01spawner.core.labels import HUB, MANAGED_FILTER


def main() -> int:
    """Remove them all; says how many."""
    hub = os.environ.get("DS01_HUB_ID") or "demo"
    client = docker.from_env()
    ours = client.containers.list(all=True, filters={"label": [MANAGED_FILTER, f"{HUB}={hub}"]})
    for container in ours:
        container.remove(force=True, v=True)
    print(f"{len(ours)} session containers of the hub {hub!r} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())

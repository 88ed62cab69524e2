"""The session layer as a build context: which files, for which hub. Pure but for reading our own files."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

FILES = ("install.sh", "place.py", "kernel.py", "finish.py", "open.py", "ds01_faststart.py", "overrides.json")
FOLDER = "ds01-layer"
"""Where the files lie in the context."""
NOTICES = "jupyterlab-notifications-extension>=1.2.29,<2"
"""Shows warnings as toasts inside JupyterLab; see `idle.lab.LabClient.notify`."""
PATH = "/opt/ds01/first:$PATH:/opt/ds01/last"


@cache
def files() -> dict[str, bytes]:
    """The layer's files by name."""
    folder = resources.files(__package__) / "singleuser"
    return {name: (folder / name).read_bytes() for name in FILES}


def requirements(hub_version: str) -> str:
    """What the layer installs, for a hub of this version."""
    return f"jupyterhub=={hub_version}\njupyterlab>=4.2,<5\nipykernel>=6.29\n{NOTICES}\n"


def revision(hub_version: str) -> str:
    """Changes whenever a rebuild would give another layer."""
    digest = hashlib.sha256(requirements(hub_version).encode())
    for name in FILES:
        digest.update(name.encode() + b"\0" + files()[name])
    return digest.hexdigest()[:12]

"""Free space where sessions need it. Blocking; a place that cannot be measured is unknown, not full."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.names import folder_name


def free_bytes(path: Path | str) -> int | None:
    """Bytes an ordinary user may still write below ``path``, or None when that cannot be told."""
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def workspace_free(root: Path, user: str) -> int | None:
    """Free space of a person's workspace: of their folder where it has a quota of its own."""
    return free_bytes(root / folder_name(user)) if (root / folder_name(user)).is_dir() else free_bytes(root)

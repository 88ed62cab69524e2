"""How the file systems of this machine are mounted, as this process sees it."""

from __future__ import annotations

from pathlib import Path

MOUNTS = Path("/proc/self/mounts")


def mount_options(path: str, mounts: str | None = None) -> frozenset[str] | None:
    """Options of the mount that ``path`` is on; None where that cannot be read.

    ``mounts`` is the text of ``/proc/self/mounts``, read here when it is not given.
    """
    if mounts is None:
        try:
            mounts = MOUNTS.read_text(errors="replace")
        except OSError:
            return None
    best, options = -1, None
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        point = fields[1].replace("\\040", " ")
        above = point == "/" or path == point or path.startswith(f"{point}/")
        if above and len(point) >= best:  # of two at one place, the later one counts
            best, options = len(point), frozenset(fields[3].split(","))
    return options

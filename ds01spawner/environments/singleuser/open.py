"""Open the folders of the user's Python, so that `pip install` in a session works and goes with it.

In a virtual or conda environment pip cannot fall back to the home directory. Only folders are opened, not
files: what is there can be replaced, not written into. Runs on the user's own Python, last in a build,
because every step before may have made folders.
"""

from __future__ import annotations

import os
import sys
import sysconfig


def main() -> None:
    """Open them; elsewhere (a system's Python) pip installs into the home directory."""
    if sys.prefix == sys.base_prefix and not os.path.isdir(os.path.join(sys.prefix, "conda-meta")):
        return
    roots = {sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts")}
    roots.add(os.path.join(sys.prefix, "share"))
    for root in sorted(r for r in roots if os.path.isdir(r)):
        for folder, _, _ in os.walk(root):
            mode = os.stat(folder).st_mode
            if mode & 0o777 != 0o777:
                os.chmod(folder, mode | 0o777)  # noqa: S103 (in the image, where one person works)


if __name__ == "__main__":
    main()

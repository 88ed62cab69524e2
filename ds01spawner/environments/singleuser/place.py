"""Put the layer's own files in place: entry points, kernel, fast start. Runs on the layer's Python."""

from __future__ import annotations

import compileall
import json
import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

LAYER = Path("/opt/ds01")
HERE = LAYER / "layer"
FIRST, LAST = LAYER / "first", LAYER / "last"
"""On the PATH before and after the user's own: the first has the server alone, the last what is missing."""
ENTRY = """#!/opt/ds01/bin/python -I
import sys
from ds01_faststart import main
sys.exit(main())
"""


def closure(name: str) -> list[metadata.Distribution]:
    """The distribution ``name`` with everything it needs here, by its own metadata."""
    found: dict[str, metadata.Distribution] = {}
    wanted = [name]
    while wanted:
        key = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if key in found:
            continue
        try:
            distribution = metadata.distribution(key)
        except metadata.PackageNotFoundError:
            continue  # for another platform or an extra
        found[key] = distribution
        for text in distribution.requires or ():
            if "extra ==" not in text:
                match = re.match(r"[A-Za-z0-9._-]+", text)
                if match:
                    wanted.append(match[0])
    return list(found.values())


def link_kernel(target: Path) -> int:
    """Link ipykernel and what it needs into a folder of its own; returns how many entries there are.

    The user's Python gets this folder at the end of its path, in kernels only: what the user installed
    always comes first, and nothing else of the server can be seen.
    """
    target.mkdir()
    site = Path(str(metadata.distribution("ipykernel").locate_file("")))
    for distribution in closure("ipykernel"):
        for file in distribution.files or ():
            top = file.parts[0]
            link = target / top
            if top in ("..", "__pycache__") or link.is_symlink() or not (site / top).exists():
                continue
            link.symlink_to(os.path.relpath(site / top, target))
    return len(list(target.iterdir()))


def kernelspec(user_python: str) -> None:
    """Make the kernel ``python3`` the user's Python."""
    folder = LAYER / "share" / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True, exist_ok=True)
    spec = {
        "argv": [user_python, "-Xfrozen_modules=off", str(HERE / "kernel.py"), "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
        "metadata": {"debugger": True},
    }
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")


def main(user_python: str) -> None:
    """Do all of it, and leave compiled files behind."""
    site = Path(str(metadata.distribution("jupyterhub").locate_file("")))
    shutil.copy(HERE / "ds01_faststart.py", site / "ds01_faststart.py")
    compileall.compile_file(site / "ds01_faststart.py", quiet=1)
    FIRST.mkdir(exist_ok=True)
    LAST.mkdir(exist_ok=True)
    entry = FIRST / "jupyterhub-singleuser"
    entry.write_text(ENTRY)
    entry.chmod(0o755)
    for command in (
        "jupyter",
        "jupyter-lab",
        "jupyter-labhub",
        "jupyter-nbconvert",
        "jupyter-kernelspec",
        "jupyter-trust",
    ):
        if (LAYER / "bin" / command).exists() and not (LAST / command).exists():
            (LAST / command).symlink_to(f"../bin/{command}")
    count = link_kernel(LAYER / "kernel")
    kernelspec(user_python)
    settings = LAYER / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "overrides.json", settings / "overrides.json")
    (HERE / "user_python").write_text(user_python + "\n")
    print(f"ds01: {count} entries of the kernel linked")


if __name__ == "__main__":
    main(sys.argv[1])

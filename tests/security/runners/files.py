"""What a person puts into their workspace, held against the functions that read and write there.

``does`` has ``plant``, what lies in alice's project by path: ``{link: target}``, ``{hard: target}``,
``{size: bytes}``, ``{mtime: seconds}``, ``fifo``, ``folder``, ``socket`` or text. A target ``SECRET`` is a
file of bob's, ``BOB`` his project, ``BOBS`` his folder. ``swap`` is a link put in place of alice's project,
``home`` one in place of her folder. ``then`` is what the service does (`WAYS`), with ``path`` where it takes
one. Returns ``refused``, ``text``, ``gives``, ``leaked`` (bob's secret came out) and ``harmed`` (bob's
folder is not as it was).
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ds01spawner.core.errors import DS01Error
from ds01spawner.workspace.projectfiles import ProjectFiles
from ds01spawner.workspace.session_files import ProjectFolder

SECRET = "what only bob may read"


def run(row: Any, stage: Any) -> dict[str, Any]:
    """Plant it, then let the service work."""
    places, does = stage.workspaces, row.does
    root = places.root
    places.prepare("bob", "own")
    secret = root / "bob" / "own" / "secret"
    secret.write_text(SECRET)
    there = {"SECRET": str(secret), "BOB": str(root / "bob" / "own"), "BOBS": str(root / "bob")}
    project = root / "alice" / "thesis"
    for path, what in does.get("plant", {}).items():
        _plant(project / path, what, there)
    _give(root, project.stat())
    for key, place in (("swap", project), ("home", root / "alice")):
        if key in does:
            shutil.rmtree(place)
            place.symlink_to(there[does[key]])
    try:
        answer = WAYS[does["then"]](stage, root, does.get("path", ""))
    except (DS01Error, OSError) as error:
        answer, refused, text = None, True, str(error)
    else:
        refused, text = False, str(answer)
    harmed = not secret.is_file() or secret.read_text() != SECRET or len(os.listdir(secret.parent)) != 1
    return {"refused": refused, "text": text, "leaked": SECRET in text, "harmed": harmed, "gives": answer}


def _plant(path: Path, what: Any, there: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(what, dict):
        ((kind, value),) = what.items()
        if kind == "link":
            path.symlink_to(there.get(value, value))
        elif kind == "hard":
            os.link(there[value], path)
        elif kind == "size":
            with path.open("wb") as file:
                file.truncate(value)
        elif kind == "mtime":
            path.touch()
            os.utime(path, (value, value))
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    else:
        path.write_text(what)


def _give(root: Path, owner: os.stat_result) -> None:
    """Let everything be of one owner, so that nothing holds by the owner alone."""
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            os.chown(os.path.join(folder, name), owner.st_uid, owner.st_gid, follow_symlinks=False)


def _files(root: Path) -> ProjectFiles:
    owner = (root / "bob" / "own").stat()
    return ProjectFiles(root, ("alice", "thesis"), owner.st_uid, owner.st_gid)


def _pack(stage: Any, root: Path, path: str) -> str:
    context = _files(root).pack(50 * 2**20, {})
    with context.file as file, tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
        parts = [(m.name, m.linkname, tar.extractfile(m)) for m in tar.getmembers()]
        return "\n".join(f"{name} {link} {f.read().decode() if f else ''}" for name, link, f in parts)


def _write(stage: Any, root: Path, path: str) -> str:
    _files(root).write_text(path, "new text\n")
    return _files(root).read_text(path) or ""


def _notices(stage: Any, root: Path, path: str) -> str:
    folder = ProjectFolder(root, "alice", "thesis")
    folder.write_notices("a notice\n")
    return folder.read_notices()


WAYS: dict[str, Callable[[Any, Path, str], Any]] = {
    "read": lambda stage, root, path: _files(root).read_text(path),
    "write": _write,
    "pack": _pack,
    "keep_alive": lambda stage, root, path: ProjectFolder(root, "alice", "thesis").keep_alive(),
    "notices": _notices,
    "read notices": lambda stage, root, path: ProjectFolder(root, "alice", "thesis").read_notices(),
    "start": lambda stage, root, path: str(stage.workspaces.prepare("alice", path or "thesis").path),
    "list": lambda stage, root, path: [p.name for p in stage.workspaces.projects("alice")],
}

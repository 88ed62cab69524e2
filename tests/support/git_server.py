"""A git server that sessions can reach, with repositories made for it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GIT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}
WHO = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *WHO, *arguments], cwd=folder, env=GIT, check=True, capture_output=True)


class Handler(SimpleHTTPRequestHandler):
    """Serves files, and never answers below ``/slow/``."""

    held = threading.Event()

    def do_GET(self) -> None:
        if self.path.startswith("/slow/"):
            self.held.wait(60)
            return
        super().do_GET()

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def git_server(address: str, folder: Path) -> Iterator[str]:
    """Serve ``good``, ``hostile`` and ``large`` at ``address`` out of ``folder``; gives the server's URL."""
    root = folder / "served"
    root.mkdir()
    for name, fill in (("good", _good), ("hostile", _hostile), ("large", _large)):
        work = folder / name
        work.mkdir()
        git(work, "init", "-q")
        fill(work)
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", "first")
        git(work, "branch", "week-2")
        git(root, "clone", "-q", "--bare", str(work), f"{name}.git")
        git(root / f"{name}.git", "update-server-info")
    Handler.held.clear()
    httpd = ThreadingHTTPServer((address, 0), partial(Handler, directory=str(root)))
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://{address}:{httpd.server_port}"
    finally:
        Handler.held.set()
        httpd.shutdown()
        httpd.server_close()


def _good(work: Path) -> None:
    (work / "README.md").write_text("# Good\n")
    (work / "src").mkdir()
    (work / "src" / "train.py").write_text("print(1)\n")
    (work / "src" / "train.py").chmod(0o755)


def _large(work: Path) -> None:
    for number in range(4):
        (work / f"data-{number}").write_bytes(os.urandom(700_000))


def _hostile(work: Path) -> None:
    (work / "passwd").symlink_to("/etc/passwd")
    (work / "up").symlink_to("../../..")
    (work / ".gitmodules").write_text('[submodule "x"]\n\tpath = x\n\turl = ext::sh -c id>/tmp/pwned\n')
    (work / "-rf").write_text("x")
    (work / "deep").mkdir()
    below = work / "deep"
    for _ in range(120):
        below = below / "d"
        below.mkdir()
    (below / "file").write_text("x")

"""Commit a saved file where the project is under git, without running anything the repository configures.

The work is done by `gitchild`, a process that is locked into the project's folder as the project's owner.
Only a service that runs as root can lock it in; elsewhere files stay uncommitted, and the reason says so.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ...workspace.projectfiles import ProjectFileError, ProjectFiles
from ...workspace.safefs import Folder

TIMEOUT_S = 30
_CHILD = Path(__file__).with_name("gitchild.py")


@dataclass(frozen=True)
class Committed:
    """What came of it: the new commit's id, or a reason; both empty where there was nothing to do."""

    id: str = ""
    reason: str = ""

    def __str__(self) -> str:
        """One line for people, empty where there is nothing to tell."""
        if self.id:
            return f"committed to the project's git repository as {self.id[:10]}"
        return f"not committed to the project's git repository: {self.reason}" if self.reason else ""


def commit_file(files: ProjectFiles, name: str, text: str, person: str, message: str) -> Committed:
    """Commit the file ``name`` at the top of a project, which has just been written with ``text``.

    Nothing but this file is committed, whatever else is staged. Never raises: the file is saved already.
    """
    try:
        with files.folder() as folder:
            if not _has_git(folder):
                return Committed()
            if os.geteuid() != 0 or files.uid == 0:
                return Committed(
                    reason="only a service that runs as root, for an owner who is not, can do it safely"
                )
            job = {"folder": folder.fd, "uid": files.uid, "gid": files.gid, "name": name}
            return _run({**job, "content": text, "person": person, "message": message}, folder.fd)
    except (ProjectFileError, OSError, subprocess.SubprocessError) as error:
        return Committed(reason=f"it could not be done ({type(error).__name__})")


def _has_git(folder: Folder) -> bool:
    try:
        return stat.S_ISDIR(folder.look(".git").st_mode)
    except OSError:
        return False


def _run(job: dict[str, object], folder: int) -> Committed:
    done = subprocess.run(
        [sys.executable, "-I", str(_CHILD)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        pass_fds=(folder,),
        cwd="/",
        env={"LANG": "C.UTF-8"},
    )
    try:
        answer = json.loads(done.stdout)
        return Committed(str(answer["commit"])[:64], str(answer["reason"])[:300])
    except (ValueError, KeyError, TypeError):
        return Committed(reason="its repository could not be read")

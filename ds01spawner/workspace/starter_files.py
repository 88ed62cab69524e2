"""What a course brings besides its image: data mounted read-only, starter files copied once.

Starter files are taken when the course is applied and kept as an archive, so that a start needs nobody's
project but the student's. Blocking: call from a thread.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict

from .. import messages
from ..core.errors import Refused
from .projectfiles import ProjectFileError, ProjectFiles
from .safefs import Folder, Owner

MAX_STARTER = 50 * 2**20
"""Bytes of a course's starter files."""


def data_mounts(
    data: Iterable[Mapping[str, str]], roots: Iterable[Path], course: str
) -> tuple[dict[str, Any], ...]:
    """The read-only mounts of a course's sessions; `Refused` for what may not be handed out.

    Links are followed here and now, so that none leads out of the roots.
    """
    real_roots = [Path(os.path.realpath(root)) for root in roots]
    mounts = []
    for item in data:
        source = Path(os.path.realpath(item["source"]))
        root = next((r for r in real_roots if source.is_relative_to(r)), None)
        if root is None:
            raise Refused(
                messages.course_data_missing(course, item["source"], "is not below a folder for course data")
            )
        if root.is_dir() and not source.is_dir():
            raise Refused(
                messages.course_data_missing(course, item["source"], "is not a folder of the server")
            )
        mounts.append({"Type": "bind", "Source": str(source), "Target": item["target"], "ReadOnly": True})
    return tuple(mounts)


class StarterJson(TypedDict):
    """Starter files that are kept: the archive, its files and bytes, and some that were not taken."""

    archive: str
    count: int
    size: int
    left_out: list[str]


def keep_starter(folder: Path, course: str, project: ProjectFiles, path: str) -> StarterJson:
    """Keep the folder ``path`` of a project as the course's starter files; returns what the store keeps.

    The same files give the same answer. `ProjectFileError` when the folder is not there or too large.
    """
    ignore = project.read_text(f"{path}/.dockerignore") or ""
    inner = ProjectFiles(project.root, (*project.parts, *path.split("/")), project.uid, project.gid)
    packed = inner.pack(MAX_STARTER, {}, ignore)
    with packed.file as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
        name = f"{digest.hexdigest()[:24]}.tar"
        target = folder / course
        target.mkdir(parents=True, exist_ok=True)
        temporary = target / f".{uuid.uuid4().hex}.tmp"
        file.seek(0)
        with temporary.open("wb") as out:
            shutil.copyfileobj(file, out)
        temporary.replace(target / name)
    left_out = sorted(packed.outside | packed.unreadable)[:20]
    return {"archive": name, "count": packed.count, "size": packed.size, "left_out": left_out}


def sweep_starters(folder: Path, named: Collection[tuple[str, str]], older: float) -> list[str]:
    """Remove archives older than a time that no course names, as (course, archive); returns their names.

    What was kept a moment ago is about to be named. No link is followed, and nothing else is removed.
    """
    removed = []
    with suppress(FileNotFoundError), os.scandir(folder) as courses:
        for course in [c for c in courses if c.is_dir(follow_symlinks=False)]:
            with os.scandir(course.path) as files:
                for file in files:
                    if not file.is_file(follow_symlinks=False) or not file.name.endswith((".tar", ".tmp")):
                        continue
                    unused = (course.name, file.name) not in named
                    if unused and file.stat(follow_symlinks=False).st_mtime < older:
                        os.unlink(file.path)
                        removed.append(f"{course.name}/{file.name}")
            with suppress(OSError):  # there is something in it
                os.rmdir(course.path)
    return removed


def copy_starter(archive: Path, project: ProjectFiles, course: str) -> bool:
    """Copy starter files into an empty project, once; True when files were copied.

    A project that has files already, or once had these, is left alone: what a student deleted or changed
    is never brought back. A copy that was cut short goes on. Nothing that exists is overwritten.
    """
    marker = f".ds01-course-{course}"
    with project.folder() as top:
        state = project.read_text(marker, 100)
        if state is None and top.names():
            return False
    if state is not None and state.strip() == "copied":
        return False
    project.write_text(marker, "copying\n")
    try:
        with tarfile.open(archive) as tar:
            unpack(tar, project)
    except (tarfile.TarError, FileNotFoundError) as error:
        raise ProjectFileError(f"the course's starter files cannot be read: {error}") from error
    project.write_text(marker, "copied\n")
    return True


def unpack(tar: tarfile.TarFile, project: ProjectFiles) -> None:
    """Put an archive's files into a project as its owner's; nothing that exists is overwritten."""
    with project.folder() as top:
        for member in tar:
            _put(tar, member, top, project)


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, top: Folder, project: ProjectFiles) -> None:
    parts = member.name.split("/")
    if any(p in ("", ".", "..") for p in parts):
        return
    above = parts if member.isdir() else parts[:-1]
    with _folder(top, above, project.owner) as here, suppress(FileExistsError):
        if member.isreg() and (content := tar.extractfile(member)) is not None:
            with here.create(parts[-1], member.mode & 0o770 | 0o600, project.owner) as file:
                shutil.copyfileobj(content, file)
        elif member.issym():
            here.link(parts[-1], member.linkname, project.owner)


@contextmanager
def _folder(top: Folder, parts: Iterable[str], owner: Owner | None) -> Iterator[Folder]:
    """A folder below ``top``, made where it is missing."""
    here = top.again()
    try:
        for part in parts:
            below, _ = here.make(part, 0o750, owner)
            here.close()
            here = below
        yield here
    finally:
        here.close()

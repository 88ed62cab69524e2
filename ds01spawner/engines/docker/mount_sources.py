"""The folders that one container mounts, held from the moment they are checked until it has them.

The engine mounts by path, some time after we looked. Whoever can write beside a folder (an account of the
host, another machine of an NFS home) could put a link there meanwhile and be given any folder of the host.
So a folder is opened without following a link and, where this process shares the engine's view of mounts,
mounted for the engine at a place that only root can change. Where it does not, the engine gets the path.
Either way the folder that the container really has is compared with the one that was checked, through
``/proc``, before anybody is let in.
"""

from __future__ import annotations

import ctypes
import logging
import os
import socket
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ... import messages
from ...core.errors import Refused
from ...core.installation import Installation
from .limit_check import PROC, cgroup_of

if TYPE_CHECKING:
    from .engine import Docker

log = logging.getLogger(__name__)
HOLD = Path("/run/ds01")
"""Never below the state folder: whoever deletes that must not reach people's files through it. Each
installation has its own folder in it: a hub with process numbers of its own cannot tell which others live."""
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MAX_LINKS = 40
_BIND, _REC, _DETACH = 4096, 16384, 2
_SOCKET = "/var/run/docker.sock"

Assurance = Literal["held", "compared", "none"]


@dataclass(frozen=True)
class _Held:
    target: str
    descriptor: int
    place: Path | None
    real: str


class MountSources:
    """What one container mounts. Blocking, quick; `close` always, after the container has started.

    ``hold`` is the installation's folder for what is held, see `hold_of`.
    """

    def __init__(self, token: str, *, shares_mounts: bool, hold: Path) -> None:
        self._shares, self._hold = shares_mounts, hold / f"{os.getpid()}-{token}"
        self._held: list[_Held] = []

    def below(self, root: Path, parts: Iterable[str], target: str, engine_path: str) -> str:
        """Hold ``root``/``parts``, no part of which may be a link; returns the source for the engine.

        ``OSError`` where it is no folder. Links above ``root`` are the site's own.
        """
        here = os.open(root, FOLDER & ~os.O_NOFOLLOW)
        for part in parts:
            try:
                below = os.open(part, FOLDER, dir_fd=here)
            finally:
                os.close(here)
            here = below
        return self._keep(here, target, engine_path)

    def plain(self, path: str, target: str) -> str:
        """Hold a folder whose whole path has no link; ``path`` itself where it is not seen from here."""
        try:
            return self.below(Path("/"), Path(path).parts[1:], target, path)
        except FileNotFoundError:
            return path

    def owner(self, target: str) -> int:
        """The uid that a held folder belongs to."""
        return os.fstat(next(h.descriptor for h in self._held if h.target == target)).st_uid

    def swapped(self, pid: int, container: str, proc: Path = PROC) -> list[str] | None:
        """The targets at which a running container has another folder than the one held; None where its
        file system cannot be seen from here."""
        seen = any(container in cgroup_of(pid, c, v, proc) for c, v in (("memory", 1), ("", 2)))
        if not seen:
            return None
        try:
            root = os.open(proc / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return [h.target for h in self._held if not _same(root, h)]
        finally:
            os.close(root)

    def close(self) -> None:
        """Let go; idempotent. What the engine was given becomes a link to the real path (``docker cp``)."""
        held, self._held = self._held, []
        for each in held:
            os.close(each.descriptor)
            if each.place is None:
                continue
            _release(each.place)
            with suppress(OSError):
                os.symlink(each.real, each.place)

    def __del__(self) -> None:
        with suppress(Exception):  # a start that was cancelled half-way has nobody else to let go
            self.close()

    def _keep(self, descriptor: int, target: str, engine_path: str) -> str:
        place = self._mount(descriptor, len(self._held)) if self._shares else None
        self._held.append(_Held(target, descriptor, place, engine_path))
        return str(place) if place else engine_path

    def _mount(self, descriptor: int, number: int) -> Path | None:
        place = self._hold / str(number)
        try:
            for above in (self._hold.parent.parent, self._hold.parent):
                above.mkdir(mode=0o700, exist_ok=True)
            if self._hold.parent.stat().st_uid != os.geteuid():
                return None
            self._hold.mkdir(mode=0o700, exist_ok=True)
            if place.is_symlink():  # of a try of this start on another device
                place.unlink()
            place.mkdir(mode=0o700)
            _call("mount", f"/proc/self/fd/{descriptor}".encode(), bytes(place), None, _BIND | _REC, None)
        except OSError as error:
            log.info("A folder is mounted by its path, because it cannot be held: %s", error)
            return None
        return place


def compare(engine: Docker, container: str, pid: int, sources: MountSources) -> None:
    """End a container that has another folder than the one that was checked, and say so by `Refused`."""
    swapped = sources.swapped(pid, container)
    if swapped is None:
        engine.say_once(
            "the folders of sessions are not compared: containers cannot be looked into from here"
        )
    elif swapped:
        engine.client.kill(container)
        log.error("%s had another folder at %s than the one checked; it was ended", container, swapped)
        raise Refused(messages.folder_swapped(swapped))


def hold_of(installation: Installation | None) -> Path:
    """Where the folders of this installation's containers are held; no other hub's sweep looks there."""
    return HOLD / (installation.id if installation else "none")


def sweep(live: Iterable[str], hold: Path) -> int:
    """Remove what is left of containers that are gone; ``live`` are the tokens of those that are there."""
    keep, removed = set(live), 0
    try:
        names = os.listdir(hold)
    except OSError:
        return 0
    for name in names:
        pid, _, token = name.partition("-")
        if token in keep or (pid.isdigit() and int(pid) != os.getpid() and Path(f"/proc/{pid}").exists()):
            continue
        if pid == str(os.getpid()) and any(
            p.is_dir() and not p.is_symlink() for p in (hold / name).iterdir()
        ):
            continue  # a start of this process that is under way
        with suppress(OSError):
            for place in (hold / name).iterdir():
                _release(place)
            (hold / name).rmdir()
            removed += 1
    return removed


def shares_mounts(docker_host: str = "") -> bool:
    """Whether the engine sees what this process mounts: both are in one mount namespace, and this is root."""
    pid = engine_pid(docker_host)
    if os.geteuid() != 0 or not pid:
        return False
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False


def assurance(docker_host: str = "") -> Assurance:
    """How sure it is that a container gets the folder that was checked."""
    if shares_mounts(docker_host):
        return "held"
    pid = engine_pid(docker_host)
    try:
        same = bool(pid) and os.readlink(f"/proc/{pid}/ns/pid") == os.readlink("/proc/self/ns/pid")
    except OSError:
        return "none"
    return "compared" if same and os.geteuid() == 0 else "none"


def engine_pid(docker_host: str = "") -> int:
    """The process behind the engine's socket, as this process numbers it; 0 where that cannot be told."""
    address = urlsplit(docker_host or os.environ.get("DOCKER_HOST") or f"unix://{_SOCKET}")
    if address.scheme not in ("unix", "http+unix"):
        return 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        try:
            connection.connect(address.path)
            told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return 0
    return int(struct.unpack("3i", told)[0])


def _same(root: int, held: _Held) -> bool:
    wanted = os.fstat(held.descriptor)
    try:
        found = _open_in(root, held.target)
    except OSError:
        return False
    try:
        have = os.fstat(found)
    finally:
        os.close(found)
    return (have.st_dev, have.st_ino) == (wanted.st_dev, wanted.st_ino)


def _open_in(root: int, path: str) -> int:
    """A descriptor of ``path`` as a process with this root finds it: links lead nowhere else."""
    todo, above, links = list(Path(path).parts[1:]), [os.dup(root)], 0
    try:
        while todo:
            part = todo.pop(0)
            if part == "..":
                if len(above) > 1:
                    os.close(above.pop())
                continue
            here = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above[-1])
            if not stat.S_ISLNK(os.fstat(here).st_mode):
                above.append(here)
                continue
            os.close(here)
            links += 1
            if links > MAX_LINKS:
                raise OSError("too many links")
            link = Path(os.readlink(part, dir_fd=above[-1]))
            if link.is_absolute():
                while len(above) > 1:
                    os.close(above.pop())
            todo = [*(p for p in link.parts if p != "/"), *todo]
        return above.pop()
    finally:
        for each in above:
            os.close(each)


def _release(place: Path) -> None:
    """Take a mount away and then its place. Never deletes what lies below a mount."""
    if place.is_symlink():
        place.unlink()
        return
    with suppress(OSError):  # it may not be a mount any more
        _call("umount2", bytes(place), _DETACH)
    with suppress(OSError):
        place.rmdir()


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

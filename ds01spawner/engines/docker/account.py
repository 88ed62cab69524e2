"""The user's account inside the container: name, home and prompt, put in before the first process.

Any image works, because nothing is baked in: after create and before start we read the image's
``/etc/passwd`` and ``/etc/group`` once, and write back copies with one more line, a home directory
and a prompt. All of it is in the container's own layer and goes with it.
"""

from __future__ import annotations

import io
import tarfile
import threading
from dataclasses import dataclass
from typing import Any

import docker.errors

from .bounded import TooMuch, small_file
from .create import ContainerSpec

MAX_FILE = 1 << 20


@dataclass(frozen=True)
class ImageAccounts:
    """What an image says about accounts."""

    passwd: str
    group: str
    shell: str


_known: dict[str, ImageAccounts] = {}
_known_lock = threading.Lock()


def install_account(client: Any, container: str, spec: ContainerSpec) -> None:
    """Write the account into a created container. Blocking; raises the engine's own errors."""
    with _known_lock:
        accounts = _known.get(spec.image)
    if accounts is None:
        accounts = read_accounts(client, container)
        with _known_lock:
            _known[spec.image] = accounts
    client.put_archive(container, "/", account_archive(accounts, spec))


def read_accounts(client: Any, container: str) -> ImageAccounts:
    """Read passwd, group and the best shell out of a created container."""
    shell = "/bin/bash" if _exists(client, container, "/bin/bash") else "/bin/sh"
    return ImageAccounts(
        _read(client, container, "/etc/passwd"), _read(client, container, "/etc/group"), shell
    )


def account_archive(accounts: ImageAccounts, spec: ContainerSpec) -> bytes:
    """The tar archive to unpack at ``/``. Pure."""
    name, uid, gid = spec.user_name, spec.uid, spec.gid
    passwd = _without(accounts.passwd, name, uid)
    passwd += f"{name}:x:{uid}:{gid}:{name}:{spec.home}:{accounts.shell}\n"
    group = accounts.group if accounts.group.endswith("\n") or not accounts.group else accounts.group + "\n"
    if not any(line.split(":")[2:3] == [str(gid)] for line in group.splitlines()):
        group += f"{name}:x:{gid}:\n"
    prompt = rf"PS1='\u@{spec.labels.project}:\w\$ '" + "\n"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "etc/passwd", passwd, 0, 0, 0o644)
        _add(tar, "etc/group", group, 0, 0, 0o644)
        _add(tar, spec.home.lstrip("/"), None, uid, gid, 0o750)
        _add(tar, f"{spec.home}/.bashrc".lstrip("/"), prompt, uid, gid, 0o644)
        profile = '[ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ] && . ~/.bashrc\n'
        # A login shell resets PATH from /etc/profile, which would lose the image's own.
        profile = f"export PATH='{_quotable(spec)}'\n" + profile
        _add(tar, f"{spec.home}/.profile".lstrip("/"), profile, uid, gid, 0o644)
    return buffer.getvalue()


def _quotable(spec: ContainerSpec) -> str:
    path = spec.image_path or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return f"{spec.home}/.local/bin:{path}".replace("'", "")


def _without(passwd: str, name: str, uid: int) -> str:
    """The file without lines of this name or uid, so that both lookups find ours."""
    kept = [
        line
        for line in passwd.splitlines()
        if line and line.split(":")[0] != name and line.split(":")[2:3] != [str(uid)]
    ]
    return "".join(line + "\n" for line in kept)


def _add(tar: tarfile.TarFile, path: str, text: str | None, uid: int, gid: int, mode: int) -> None:
    info = tarfile.TarInfo(path)
    info.uid, info.gid, info.mode = uid, gid, mode
    if text is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
        return
    data = text.encode()
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _exists(client: Any, container: str, path: str) -> bool:
    try:
        stream, _ = client.get_archive(container, path)
        stream.close()
        return True
    except docker.errors.NotFound:
        return False


def _read(client: Any, container: str, path: str) -> str:
    try:
        content = small_file(client, container, path, MAX_FILE)
    except TooMuch:
        return ""
    return (content or b"").decode(errors="replace")

"""Which installation this is, and how it proves that a thing is its own.

An installation is one hub with its state folder. Its id and its key are made once, in ``installation.json``
in the state folder, which only the hub's own account can read. Labels are text that whoever can make a
container may write: a build step inherits those of its Dockerfile, an image those of the one it is built
from. So what labels say about owners, quotas and devices counts only with a MAC made with the key.

Pure but for `make`, `load` and `adopt`, which are about that one file.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path

from .errors import DS01Error
from .labels import CONTAINER, FETCH_SIGNED, INSTALLATION, MAC, SESSION_SIGNED, SessionLabels

FILE = "installation.json"
KEY_BYTES = 32
SCHEME = "1"
"""Which labels are signed. Another list of them gets another number, and the former list is kept beside it
for as long as a session that was signed by it may run: else an upgrade would disown every session."""
_NAME = "ds01.name"
MAC_HEX = 32
"""128 bits: nobody guesses one, and labels stay short."""


class InstallationError(DS01Error):
    """The installation's file is there but cannot be used."""


class Standing(Enum):
    """Whose session a container is that says it is one."""

    OURS = "ours"
    FOREIGN = "foreign"
    """Of another installation. What it says about itself cannot be checked here."""
    FORGED = "forged"
    """Of none: its labels were not written for this container by the installation that they name."""


@dataclass(frozen=True)
class Installation:
    """One hub with its state folder. ``adopted`` are ids of what older versions made without a proof."""

    id: str
    key: bytes = field(repr=False)
    adopted: frozenset[str] = frozenset()
    migrated: bool = True
    """Whether what older versions made was looked for; it is, once."""

    def sign(self, labels: Mapping[str, str], names: Iterable[str] = SESSION_SIGNED) -> dict[str, str]:
        """The labels with this installation's id and MAC."""
        told = {**labels, INSTALLATION: self.id}
        return {**told, MAC: self.mac(told, names)}

    def mac(self, labels: Mapping[str, str], names: Iterable[str] = SESSION_SIGNED) -> str:
        """The MAC over the labels called ``names``. One that is missing differs from an empty one."""
        # Names and values are kept apart by JSON, so no two sets of labels give one text.
        told = [SCHEME, *([name, labels.get(name)] for name in names)]
        text = json.dumps(told, ensure_ascii=True, separators=(",", ":"))
        return f"{SCHEME}.{hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:MAC_HEX]}"

    def genuine(self, labels: Mapping[str, str], names: Iterable[str] = SESSION_SIGNED) -> bool:
        """Whether this installation wrote these labels."""
        return labels.get(INSTALLATION) == self.id and self.matches(labels, names, labels.get(MAC, ""))

    def matches(self, labels: Mapping[str, str], names: Iterable[str], given: str) -> bool:
        """Whether ``given`` is the MAC over the labels called ``names``, in constant time."""
        return hmac.compare_digest(given.encode(errors="surrogatepass"), self.mac(labels, names).encode())

    def name_without_devices(self, name: str) -> str:
        """A name for a container that is given no device, with the proof of who gave it.

        Labels are no place for it: an image made of the container would hand them on. Its name is given
        by whoever made it, never by what runs in it.
        """
        return f"{name}.{self.mac({_NAME: name}, (_NAME,)).rpartition('.')[2]}"

    def named_without_devices(self, name: str) -> bool:
        """Whether a container's name is one that `name_without_devices` gave."""
        plain, dot, _ = name.rpartition(".")
        return bool(dot) and hmac.compare_digest(
            name.encode(errors="surrogatepass"), self.name_without_devices(plain).encode()
        )

    def made_fetch(self, labels: Mapping[str, str], name: str) -> bool:
        """Whether a container with these labels fetches a repository for a session of this installation."""
        return self.genuine(labels, FETCH_SIGNED) and labels.get(CONTAINER) == name


def standing(
    installation: Installation | None, labels: Mapping[str, str], name: str, container: str = ""
) -> Standing | None:
    """Whose session a container is; None when it does not say that it is one.

    ``name`` is the container's own name, without a slash. The labels name it too, so that they are worth
    nothing on another container: an image made of a session's container hands them on.
    """
    if SessionLabels.from_labels(labels) is None:
        return None
    of = labels.get(INSTALLATION, "")
    if installation is not None:
        if container and container in installation.adopted:
            return Standing.OURS
        if of == installation.id:
            ours = installation.genuine(labels) and labels.get(CONTAINER) == name
            return Standing.OURS if ours else Standing.FORGED
    # A build step can copy any label, but the engine chooses the name of its container.
    named = labels.get(CONTAINER) == name if of else name.startswith("ds01")
    return Standing.FOREIGN if named else Standing.FORGED


def session_of(
    installation: Installation | None, labels: Mapping[str, str], name: str, container: str = ""
) -> SessionLabels | None:
    """The session of this installation that a container is, or None. The one test of what is ours."""
    if standing(installation, labels, name, container) is not Standing.OURS:
        return None
    return SessionLabels.from_labels(labels)


def session_in(installation: Installation | None, inspected: Mapping[str, object]) -> SessionLabels | None:
    """`session_of` for a container as the engine's inspect tells it."""
    config = inspected.get("Config")
    labels = (config.get("Labels") if isinstance(config, Mapping) else None) or {}
    name = str(inspected.get("Name") or "").lstrip("/")
    return session_of(installation, labels, name, str(inspected.get("Id") or ""))


# --- the file ---------------------------------------------------------------------------------------


def make(state_dir: Path, *, migrated: bool = True) -> Installation:
    """The installation of this state folder, made where there is none. Only the hub's set-up calls it.

    ``migrated`` is for a new one: false where an older version may have left sessions and images.
    """
    known = load(state_dir)
    if known is not None:
        return known
    state_dir.mkdir(parents=True, exist_ok=True)
    new = Installation(secrets.token_hex(8), secrets.token_bytes(KEY_BYTES), migrated=migrated)
    temporary = _write(state_dir, new)
    try:
        os.link(temporary, state_dir / FILE)  # whole or not at all, and the first process wins
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    made = load(state_dir)
    if made is None:
        raise InstallationError(f"{state_dir / FILE} was removed while the hub started")
    return made


def load(state_dir: Path) -> Installation | None:
    """The installation of this state folder, or None where there is none. Never makes one."""
    path = state_dir / FILE
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InstallationError(f"{path} cannot be read: {error}") from error
    try:
        data = json.loads(text)
        found = Installation(
            str(data["id"]),
            base64.b64decode(data["key"], validate=True),
            frozenset(str(i) for i in data.get("adopted") or ()),
            bool(data.get("migrated", True)),
        )
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise InstallationError(_damaged(path)) from error
    if len(found.id) < 8 or len(found.key) < KEY_BYTES:
        raise InstallationError(_damaged(path))
    return found


def stamp(state_dir: Path) -> tuple[int, ...]:
    """What changes when the file does."""
    try:
        found = (state_dir / FILE).stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_mtime_ns, found.st_size)


class InstallationFile:
    """The installation of a state folder as its file says now, read anew only when that changes."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir, self._lock = state_dir, threading.Lock()
        self._known: tuple[tuple[int, ...], Installation | None] | None = None

    @property
    def now(self) -> Installation | None:
        """None before the hub's set-up made one."""
        with self._lock:
            found = stamp(self._state_dir)
            if self._known is None or found != self._known[0]:
                self._known = (found, load(self._state_dir))
            return self._known[1]


def adopt(state_dir: Path, installation: Installation, ids: Iterable[str]) -> Installation:
    """Take over what an older version made, once and by id; returns the installation that knows it."""
    known = replace(installation, adopted=installation.adopted | frozenset(ids), migrated=True)
    _write(state_dir, known).replace(state_dir / FILE)
    return known


def _damaged(path: Path) -> str:
    return (
        f"{path} is damaged, so this hub cannot tell its sessions from others; put it back from a backup, or "
        "end all sessions of this hub and remove the file to begin a new installation"
    )


def _write(state_dir: Path, installation: Installation) -> Path:
    data = {
        "id": installation.id,
        "key": base64.b64encode(installation.key).decode(),
        "adopted": sorted(installation.adopted),
        "migrated": installation.migrated,
    }
    path = state_dir / f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(json.dumps(data, indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    return path

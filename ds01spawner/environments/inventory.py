"""What an image holds, read from outside: files through the engine's archives, parsed by us.

Nothing of the image is run for it, and nothing that the image says of itself is believed: not a lock file,
not a label, not its Python, in which a ``.pth`` or a ``sitecustomize`` may answer what it likes. Everything
is bounded while it is read. What is found is shown and held to in the next build; it grants nothing.
"""

from __future__ import annotations

import posixpath
import re
import tarfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypedDict

from ..core.errors import EngineError
from ..engines.docker import bounded
from ..engines.docker.image_store import Images, asking
from . import layer
from .facts import LAYER_LABEL, ImageFacts

PROBE_LABEL = "ds01.probe"
MAX_PACKAGES = 20_000
MAX_MEMBERS = 3_000_000
MAX_READ = 60 * 2**30
"""Bytes of a folder of packages that go by; none of them is kept."""
READ_S = 600
HEAD = 64 * 1024
"""Bytes of a package's description that are looked at: its name and version stand at the top."""
MAX_STATUS = 32 * 2**20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,59}")
_PYTHON = re.compile(r"(3\.[0-9]{1,2})(?:\.[0-9]{1,3})?[a-z0-9+]{0,6}")
_FIELDS = ("Package: ", "Version: ", "Status: ")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]{0,99}=[A-Za-z0-9][A-Za-z0-9.+:~-]{0,99}")


class _Installed(TypedDict):
    python: str
    pip: list[str]
    layer: list[str]
    apt: list[str]


class LockJson(_Installed, total=False):
    """What is installed in an image: its Python, and packages of that, of the session layer and of Debian.

    ``base`` is the id of the image that it was built from, where a build says so.
    """

    base: str


def lock_of(images: Images, image_id: str) -> LockJson:
    """What is installed in an image."""
    client = images.client(READ_S)
    try:
        with asking(f"reading what {image_id[:19]} has"), container_of(images, client, image_id) as made:
            return _Reader(client, made).lock()
    finally:
        client.close()


def packages(images: Images, image_id: str) -> dict[str, str]:
    """The packages of an image's Python, ``{name: version}``."""
    pairs = (item.partition("==") for item in lock_of(images, image_id)["pip"])
    return {name: version for name, _, version in pairs}


def has_layer(images: Images, facts: ImageFacts, hub_version: str) -> bool:
    """Whether the session layer of this very version is in the image: its files are ours, byte by byte.

    The label says where it is worth looking. Anybody can write a label, and keep it over other files.
    """
    if facts.labels.get(LAYER_LABEL) != layer.revision(hub_version):
        return False
    wanted = {**layer.files(), "requirements.txt": layer.requirements(hub_version).encode()}
    client = images.client(60)
    try:
        with (
            asking(f"looking at the layer of {facts.id[:19]}"),
            container_of(images, client, facts.id) as made,
        ):
            return _same_files(client, made, "/opt/ds01/layer", wanted)
    finally:
        client.close()


def _same_files(client: Any, container: str, folder: str, wanted: dict[str, bytes]) -> bool:
    found: dict[str, bytes] = {}
    limit = sum(map(len, wanted.values())) + 2**20
    try:
        with bounded.archive(client, container, folder, limit) as tar:
            while (member := tar.next()) is not None:
                name = member.name.partition("/")[2]
                if name not in wanted:
                    continue
                content = tar.extractfile(member) if member.isfile() else None
                if content is None or member.uid or member.size != len(wanted[name]) or member.mode & 0o022:
                    return False
                found[name] = content.read()
    except (bounded.NotFound, bounded.TooMuch, tarfile.TarError):
        return False
    return found == wanted


@contextmanager
def container_of(images: Images, client: Any, image_id: str) -> Iterator[str]:
    """A container of the image that is never started."""
    name = images.name_without_devices(f"ds01-probe-{uuid.uuid4().hex[:12]}")
    client.create_container(
        image_id, entrypoint=["true"], name=name, labels={PROBE_LABEL: image_id}, network_disabled=True
    )
    try:
        yield name
    finally:
        with suppress(bounded.FAILED):
            client.remove_container(name, force=True, v=True)


class _Reader:
    def __init__(self, client: Any, container: str) -> None:
        self.client = client
        self.container = container

    def lock(self) -> LockJson:
        settings = self._text("/opt/ds01/pyvenv.cfg")
        python = self._text("/opt/ds01/layer/user_python").strip() or self._link("/usr/bin/python3")
        match = re.search(r"^version *= *(\S{1,20})", settings, re.MULTILINE)
        said = match[1] if match else posixpath.basename(self._link(python)).removeprefix("python")
        version = _PYTHON.fullmatch(said)
        if version is None or not python.startswith("/"):
            return {"python": "", "pip": [], "layer": [], "apt": self._debian()}
        return {
            "python": version[0],
            "pip": self._packages(folders(python, version[1])),
            "layer": self._packages([f"/opt/ds01/lib/python{version[1]}/site-packages"]),
            "apt": self._debian(),
        }

    def _text(self, path: str) -> str:
        try:
            content = bounded.small_file(self.client, self.container, path, 4096)
        except bounded.TooMuch:
            return ""
        return (content or b"").decode("utf-8", "replace")

    def _link(self, path: str) -> str:
        """Where links from ``path`` lead in the end."""
        for _ in range(8):
            try:
                with bounded.archive(self.client, self.container, path, 2**20) as tar:
                    member = tar.next()
            except (bounded.NotFound, bounded.TooMuch, tarfile.TarError):
                return path
            if member is None or not member.issym():
                return path
            path = posixpath.normpath(posixpath.join(posixpath.dirname(path), member.linkname))
        return path

    def _debian(self) -> list[str]:
        try:
            status = bounded.small_file(self.client, self.container, "/var/lib/dpkg/status", MAX_STATUS)
        except bounded.TooMuch:
            return []
        return debian((status or b"").decode("utf-8", "replace"))

    def _packages(self, paths: Iterable[str]) -> list[str]:
        found: dict[str, str] = {}
        for path in paths:
            try:
                self._folder(path, found)
            except bounded.NotFound:
                continue
            except tarfile.TarError as error:
                raise EngineError(f"{path} of the image cannot be read: {error}") from error
        return sorted((f"{name}=={version}" for name, version in found.items()), key=str.lower)

    def _folder(self, path: str, found: dict[str, str]) -> None:
        with bounded.archive(self.client, self.container, path, MAX_READ, READ_S) as tar:
            count = 0
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every header it has read
                count += 1
                if count > MAX_MEMBERS or len(found) >= MAX_PACKAGES:
                    raise bounded.TooMuch(f"{path} of the image has too many files")
                if member.isfile() and describes(member.name.partition("/")[2]):
                    content = tar.extractfile(member)
                    name, version = named(content.read(HEAD) if content else b"")
                    if name:
                        found.setdefault(name, version)


def folders(python: str, version: str) -> list[str]:
    """Where a Python looks for packages, in its order. Pure."""
    prefix = posixpath.dirname(posixpath.dirname(posixpath.normpath(python)))
    if prefix in ("/usr", "/"):
        return [f"/usr/local/lib/python{version}/dist-packages", "/usr/lib/python3/dist-packages"]
    return [f"{prefix}/lib/python{version}/site-packages"]


def describes(path: str) -> bool:
    """Whether a file, by its path in a folder of packages, says what a package is called. Pure."""
    parts = path.split("/")
    if len(parts) == 2:
        return (parts[0].endswith(".dist-info") and parts[1] == "METADATA") or (
            parts[0].endswith(".egg-info") and parts[1] == "PKG-INFO"
        )
    return len(parts) == 1 and path.endswith(".egg-info")


def named(head: bytes) -> tuple[str, str]:
    """Name and version at the top of a package's description; empty where they cannot be shown. Pure."""
    name = version = ""
    for line in head.decode("utf-8", "replace").splitlines()[:200]:
        if not line:
            break
        key, _, value = line.partition(":")
        if key.lower() == "name":
            name = name or value.strip()
        elif key.lower() == "version":
            version = version or value.strip()
    return (name, version) if _NAME.fullmatch(name) and _VERSION.fullmatch(version) else ("", "")


def debian(status: str) -> list[str]:
    """``name=version`` of what dpkg's own list says is installed. Pure."""
    found: list[str] = []
    for block in status.split("\n\n"):
        lines = (line.split(": ", 1) for line in block.split("\n") if line.startswith(_FIELDS))
        fields = dict(lines)
        pair = f"{fields.get('Package', '')}={fields.get('Version', '')}"
        if fields.get("Status", "").endswith(" installed") and _DEBIAN.fullmatch(pair):
            found.append(pair)
        if len(found) >= MAX_PACKAGES:
            break
    return found

"""Build the demo's images on the engine, whether or not a container registry can be reached.

``build_images.py [base] [lab] [busybox]`` (default: lab and busybox, and the base they need).

- ``ds01/base``: ``DS01_BASE`` if set, else a public slim Python image if the registry answers, else a
  minimal system made here by debootstrap; with this site's certificates and pip settings on top.
- ``ds01/lab``: the notebook image: a Python environment with the session layer of every build.
- ``ds01/test-busybox``: two megabytes for the engine tests.

Each image carries the hash of what it was made from, so a second run does nothing.
"""

from __future__ import annotations

import configparser
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import docker
from docker.errors import APIError, DockerException, ImageNotFound

from ds01spawner.environments.builder.dockerfile import plan
from ds01spawner.environments.builder.recipe import Recipe
from ds01spawner.environments.facts import LAYER_LABEL, SINGLEUSER_LABEL
from ds01spawner.environments.layer import revision

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
IMAGES = ROOT / "hub_config" / "images"
PUBLIC_BASE = "python:3.12-slim-bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,git,tini,less,procps"
BOOTSTRAP = "2: with the updates of the machine's own sources"
"""Changes whenever `debootstrap` below makes something else."""
CONTENT = "ds01.content"
CA_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
BUSYBOX_CMD = 'CMD ["/bin/sh","-c","trap exit TERM; while :; do sleep 1 & wait $!; done"]'
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class BuildError(Exception):
    """An image cannot be made here; the text says why and what to do."""


def say(text: str) -> None:
    print(f">> {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------- what an image is made from


def digest(*parts: bytes | str) -> str:
    """One hash over all parts, each delimited by its length."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()[:16]


def folder(path: Path) -> dict[str, bytes]:
    """The files of a build folder, by relative name."""
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def context(files: Mapping[str, bytes]) -> io.BytesIO:
    """A build context as a tar stream; times and owners are fixed so that layers can be cached."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


def site_files() -> dict[str, bytes]:
    """This machine's certificate authorities and pip settings, as they go into the base image."""
    files: dict[str, bytes] = {}
    bundle = next((Path(p) for p in CA_BUNDLES if Path(p).is_file()), None)
    if bundle:
        files["site/etc/ssl/certs/ca-certificates.crt"] = bundle.read_bytes()
    files["site/etc/pip.conf"] = pip_conf(pip_settings()).encode()
    return files


def pip_settings() -> dict[str, str]:
    """What `pip config list` says on this machine, environment over files, by plain option name."""
    shown = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = re.findall(r"^(?:global|install|:env:)\.([\w.-]+)='(.*)'$", shown, re.MULTILINE)
    return {name.lstrip("."): value for name, value in sorted(found, key=lambda p: p[0])}


def pip_conf(settings: Mapping[str, str]) -> str:
    """The part of pip's settings that makes sense inside an image: remote indexes without passwords."""
    config = configparser.ConfigParser(interpolation=None)
    config["global"] = {"cert": "/etc/ssl/certs/ca-certificates.crt", "disable-pip-version-check": "1"}
    for name in ("index-url", "extra-index-url", "trusted-host"):
        words = settings.get(name, "").replace("\\n", " ").split()
        kept = [w for w in words if name == "trusted-host" or is_public_url(w)]
        if kept:
            config["global"][name] = " ".join(kept)
    stream = io.StringIO()
    config.write(stream)
    return stream.getvalue()


def is_public_url(url: str) -> bool:
    """Whether an index address may be written into an image: remote, and without a password."""
    parts = urlsplit(url)
    if parts.password or parts.username:
        say(f"the pip index at {parts.hostname} has credentials in its address and is not put into images")
        return False
    return parts.scheme in ("http", "https")


# ---------------------------------------------------------------- the engine


def is_current(client: docker.DockerClient, tag: str, content: str) -> bool:
    """Whether the engine has ``tag`` made from exactly this content."""
    try:
        return client.images.get(tag).labels.get(CONTENT) == content
    except ImageNotFound:
        return False


def build(
    client: docker.DockerClient,
    tag: str,
    files: Mapping[str, bytes],
    args: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
) -> None:
    """Build ``tag`` unless it is current; the log is shown when the build fails."""
    content = digest(*(d for f in sorted(files.items()) for d in f), repr(sorted(args.items())))
    if is_current(client, tag, content):
        return
    say(f"building {tag}")
    build_args = {**{v: os.environ[v] for v in PROXY_VARIABLES if v in os.environ}, **args}
    log: list[str] = []
    stream = client.api.build(
        fileobj=context(files), custom_context=True, tag=tag, rm=True, forcerm=True, decode=True,
        buildargs=build_args, labels={**(labels or {}), CONTENT: content},
    )  # fmt: skip
    for event in stream:
        text = event.get("stream") or event.get("error") or ""
        log.append(text)
        if text.startswith("Step "):
            print("   " + text.strip()[:90], file=sys.stderr, flush=True)
        if "error" in event:
            raise BuildError(f"{tag} could not be built:\n{''.join(log[-60:])}")


def registry_has(name: str) -> bool:
    """Whether the engine can reach the registry and finds the image there (at most 15 s)."""
    try:
        docker.from_env(timeout=15).images.get_registry_data(name)
    except (DockerException, OSError):
        return False
    return True


# ---------------------------------------------------------------- the three images


def build_base(client: docker.DockerClient) -> str:
    """Make ``ds01/base:latest`` and return its image id."""
    source = os.environ.get("DS01_BASE", "")
    files = {"Dockerfile": (IMAGES / "base" / "Dockerfile").read_bytes(), **site_files()}
    recipe = digest(source, PACKAGES, PUBLIC_BASE, BOOTSTRAP, *(d for f in sorted(files.items()) for d in f))
    tag = "ds01/base:latest"
    # The recipe, not the outcome, decides: without this a registry that comes and goes would rebuild all.
    try:
        if client.images.get(tag).labels.get("ds01.recipe") == recipe:
            return str(client.images.get(tag).id)
    except ImageNotFound:
        pass
    source = source or find_base(client)
    files["Dockerfile"] += f'LABEL ds01.recipe="{recipe}"\n'.encode()
    build(client, tag, files, {"BASE": source})
    return str(client.images.get(tag).id)


def find_base(client: docker.DockerClient) -> str:
    """Name of a base image on the engine: the public one if reachable, else one made here."""
    try:
        return str(client.images.get(PUBLIC_BASE).id)
    except ImageNotFound:
        pass
    if registry_has(PUBLIC_BASE):
        say(f"pulling {PUBLIC_BASE}")
        client.images.pull(PUBLIC_BASE)
        return PUBLIC_BASE
    say("no container registry can be reached: making the base image from distribution packages")
    return debootstrap(client)


def debootstrap(client: docker.DockerClient) -> str:
    """Make a minimal system from this machine's distribution; returns its image name."""
    release = os_release()
    suite, tag = release.get("VERSION_CODENAME", ""), "ds01/debootstrap:latest"
    content = digest(suite, PACKAGES, BOOTSTRAP)
    if is_current(client, tag, content):
        return tag
    tool = (
        release.get("ID") in ("debian", "ubuntu") and os.geteuid() == 0 and distribution_tool("debootstrap")
    )
    if not tool:
        raise BuildError(
            "There is no base image: no registry answers, and making one here needs root, Debian or "
            "Ubuntu, and the package debootstrap. Give one that the engine has: "
            "DS01_BASE=<image with python3> make hub"
        )
    CACHE.mkdir(exist_ok=True)
    sources = apt_sources(suite)
    mirror = next((uri for uri, name, _ in sources if name == suite), "http://deb.debian.org/debian")
    with tempfile.TemporaryDirectory(dir=CACHE, prefix="debootstrap-") as target:
        extra = ["--components=main,universe"] if release["ID"] == "ubuntu" else []
        command = [tool, "--variant=minbase", f"--include={PACKAGES}", *extra, suite, target, mirror]
        say(f"debootstrap {suite} (about a minute)")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
        # Updates come from where this machine has its own.
        lines = [f"deb {uri} {name} {component}\n" for uri, name, component in sources]
        Path(target, "etc/apt/sources.list").write_text("".join(lines) or f"deb {mirror} {suite} main\n")
        for waste in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(Path(target) / waste, ignore_errors=True)
        import_tree(client, Path(target), tag, content)
    return tag


def distribution_tool(name: str, package: str = "") -> str:
    """Path of a program, installed from the distribution where it is missing; empty when that fails."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if not shutil.which(name, path=path):
        subprocess.run([str(ROOT / "scripts" / "apt-install"), package or name, package or name], check=False)
    return shutil.which(name, path=path) or ""


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release."""
    try:
        text = Path("/etc/os-release").read_text()
    except OSError:
        return {}
    return {k: v.strip("\"'") for k, _, v in (line.partition("=") for line in text.splitlines())}


def apt_sources(suite: str) -> list[tuple[str, str, str]]:
    """The package sources this machine itself uses for its release: address, release and component."""
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    shown = subprocess.run(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    rows = [line.split() for line in shown.splitlines()]
    releases = {suite, f"{suite}-updates", f"{suite}-security"}
    usable = (r for r in rows if len(r) == 3 and r[0].startswith("http") and r[1] in releases)
    return list(dict.fromkeys((r[0], r[1], r[2]) for r in usable))


def import_tree(
    client: docker.DockerClient, tree: Path, tag: str, content: str, changes: tuple[str, ...] = ()
) -> None:
    """Import a folder as an image of one layer."""
    with tempfile.NamedTemporaryFile(dir=CACHE, suffix=".tar") as archive:
        subprocess.run(["tar", "-C", str(tree), "--numeric-owner", "-cf", archive.name, "."], check=True)
        name, _, version_ = tag.partition(":")
        client.api.import_image_from_file(
            archive.name, repository=name, tag=version_, changes=[f"LABEL {CONTENT}={content}", *changes]
        )


def build_lab(client: docker.DockerClient) -> None:
    """Make ``ds01/lab:latest``: a Python for people, and the session layer that every build adds.

    The layer is for the JupyterHub beside this Python; ``DS01_LAB_IMAGE`` names the image otherwise.
    """
    tag = os.environ.get("DS01_LAB_IMAGE") or "ds01/lab:latest"
    base = build_base(client)
    build(client, "ds01/lab-python:latest", folder(IMAGES / "lab"), {"BASE": base})
    python = str(client.images.get("ds01/lab-python:latest").id)
    hub = version("jupyterhub")
    made = plan(Recipe(), python, hub)
    labels = {SINGLEUSER_LABEL: hub, LAYER_LABEL: revision(hub)}
    build(client, tag, {"Dockerfile": made.dockerfile.encode(), **made.files}, {}, labels)


def build_busybox(client: docker.DockerClient) -> None:
    """Make ``ds01/test-busybox:latest`` from the distribution's static busybox, else from the registry."""
    tag = "ds01/test-busybox:latest"
    binary = static_busybox()
    if not binary and registry_has("busybox:stable"):
        client.images.pull("busybox:stable").tag("ds01/test-busybox", "latest")
        return
    binary = binary or distribution_tool("busybox", "busybox-static")
    if not binary:
        raise BuildError("ds01/test-busybox needs the package busybox-static or a container registry")
    content = digest(Path(binary).read_bytes(), BUSYBOX_CMD)
    if is_current(client, tag, content):
        return
    say(f"building {tag}")
    applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        tree = Path(name)
        tree.chmod(0o755)
        for sub in ("bin", "etc", "home", "workspace"):
            (tree / sub).mkdir(mode=0o755)
        (tree / "tmp").mkdir()
        (tree / "tmp").chmod(0o1777)
        (tree / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
        (tree / "etc/group").write_text("root:x:0:\n")
        shutil.copy(binary, tree / "bin/busybox")
        for applet in set(applets) - {"busybox"}:
            (tree / "bin" / applet).symlink_to("busybox")
        import_tree(client, tree, tag, content, ("ENV PATH=/bin", BUSYBOX_CMD))


def static_busybox() -> str:
    """Path of a busybox that runs without a dynamic loader, judged by its ELF header; empty when none."""
    binary = shutil.which("busybox") or ""
    return binary if binary and b"/ld-" not in Path(binary).read_bytes()[:8192] else ""


def main(wanted: list[str]) -> int:
    """Build what is wanted; a sentence and status 1 when it cannot be done."""
    builders = {"base": build_base, "lab": build_lab, "busybox": build_busybox}
    unknown = set(wanted) - set(builders)
    if unknown:
        print(f"unknown image {', '.join(sorted(unknown))}; known are {', '.join(builders)}", file=sys.stderr)
        return 2
    CACHE.mkdir(exist_ok=True)
    try:
        client = docker.from_env(timeout=600)
        for name in wanted or ["lab", "busybox"]:
            builders[name](client)
    except (BuildError, APIError, DockerException) as error:
        print(f"!! {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

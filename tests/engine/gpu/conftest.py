"""Engines with GPUs that only the kernel's device cgroups know to be fake.

Each variant is a second dockerd: CDI or the runtime hook, with runc or an NVIDIA-like default runtime.
The hook writes cgroups of version 1, so on hosts with version 2 the variants are those with CDI.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from fakes.engine import SecondEngine, cdi_dockerd, own_dockerd
from fakes.nvidia import RUNTIME, install_tools
from fakes.nvml import Machine, build
from fakes.probe import HOSTILE, Rig, two_cards

CGROUP_V1 = Path("/sys/fs/cgroup/devices/devices.allow").exists()
VARIANTS = ["cdi-runc", "cdi-nvidia", *(["hook-runc", "hook-nvidia"] if CGROUP_V1 else [])]
BUSYBOX = "ds01/test-busybox:latest"  # made by "make images"
_serial = itertools.count(1)


@pytest.fixture(scope="session")
def busybox_archive() -> bytes:
    """The test image, to be loaded into other engines. The machine's own engine is only read."""
    client = docker.from_env()
    try:
        return b"".join(client.images.get(BUSYBOX).save(named=True))
    finally:
        client.close()


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the fake driver library."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session", params=VARIANTS)
def rig(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    busybox_archive: bytes,
    nvml_library: Path,
) -> Iterator[Rig]:
    """A running engine of one variant, with its machine, its CDI folder and the hostile images."""
    yield from start(request.param, tmp_path_factory.mktemp("rig"), nvml_library, busybox_archive)


def start(variant: str, folder: Path, library: Path, archive: bytes) -> Iterator[Rig]:
    """Start the engine of ``variant``; ends it when closed."""
    way, _, runtime = variant.partition("-")
    machine = two_cards(Machine(folder / "inventory")).write()
    specs, tools, nodes = folder / "cdi", install_tools(folder / "tools"), folder / "nodes.json"
    specs.mkdir()
    config: dict = {"runtimes": {"nvidia": {"path": str(tools / RUNTIME)}}}
    if runtime == "nvidia":
        config["default-runtime"] = "nvidia"
    if way == "cdi":
        config |= {"features": {"cdi": True}, "cdi-spec-dirs": [str(specs)]}
    dockerd = cdi_dockerd() if way == "cdi" else own_dockerd()
    # Without the hook in PATH the engine has no NVIDIA device requests, as on a CDI-only host.
    first = [tools] if way == "hook" else []
    with SecondEngine(
        str(next(_serial)), dockerd, config, first, {"FAKE_NVIDIA_NODES": str(nodes)}
    ) as engine:
        rig = Rig(engine, way, machine, library, specs, nodes, folder)
        rig.publish()
        rig.load(archive, BUSYBOX, HOSTILE)
        yield rig

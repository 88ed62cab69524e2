"""Whether a session lost its GPU is asked of the kernel; nothing of the image is ever run for it."""

from __future__ import annotations

import ast
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from ds01spawner.engines.docker import reach
from ds01spawner.engines.docker.limit_check import cgroup_of

ROOT = Path(__file__).resolve().parents[2]
V1 = Path("/sys/fs/cgroup/devices").is_dir()
MARK = "/workspace/ran"
NUMBER = (195, 0)
"""Of a GPU; without a driver opening it fails, but not for want of the right to."""

needs_v1 = pytest.mark.skipif(not V1, reason="device rules are files in cgroup v1 only")


@pytest.fixture
def session(engine, hub_id, tmp_path):
    """Runs a container with a device that the engine's usual rules do not allow, called like a GPU's."""
    made = []
    source = tmp_path / "node"
    os.mknod(source, 0o600 | stat.S_IFCHR, os.makedev(*NUMBER))
    (shared := tmp_path / "workspace").mkdir()
    shared.chmod(0o777)

    def run(image: str, node: str = "nvidia0", *, device: bool = True, command=("sleep", "300")):
        container = engine.containers.run(
            image,
            list(command),
            detach=True,
            labels={"ds01.hub": hub_id},
            devices=[f"{source}:/dev/{node}:rwm"] if device else [],
            volumes={str(shared): {"bind": "/workspace"}},
        )
        made.append(container)
        container.reload()
        return container

    yield run
    for container in made:
        container.remove(force=True)
    for image in engine.images.list("ds01-test/hostile-shell"):
        for name in image.tags:
            if name.endswith(hub_id):
                engine.images.remove(name)


def rules(container) -> Path:
    pid = container.attrs["State"]["Pid"]
    return Path("/sys/fs/cgroup/devices") / cgroup_of(pid, "devices", 1).strip("/")


@needs_v1
def test_a_device_that_systemd_took_away_is_noticed(engine, session, busybox_image):
    container = session(busybox_image)
    assert reach.gpu_lost(engine.api, container.id) is False
    (rules(container) / "devices.deny").write_text(f"c {NUMBER[0]}:{NUMBER[1]} rwm")
    assert reach.gpu_lost(engine.api, container.id) is True
    assert len((rules(container) / "cgroup.procs").read_text().split()) <= 2  # ours is gone again


@needs_v1
@pytest.mark.parametrize("node", ["nvidiactl", "nvidia-uvm", "nvidia0000"])
def test_other_nodes_are_no_gpu(engine, session, busybox_image, node):
    assert reach.gpu_lost(engine.api, session(busybox_image, node).id) is None


def test_a_session_without_gpu_cannot_be_told_about(engine, session, busybox_image):
    assert reach.gpu_lost(engine.api, session(busybox_image, device=False).id) is None


def test_a_container_that_ended_cannot_be_told_about(engine, session, busybox_image):
    container = session(busybox_image, device=False, command=("true",))
    container.wait()
    assert reach.gpu_lost(engine.api, container.id) is None


@needs_v1
def test_a_hostile_shell_is_never_run(engine, session, busybox_image, hub_id, tmp_path):
    """The image's own /bin/sh makes a file that root alone could make; asked as before, it would be there."""
    maker = engine.containers.create(busybox_image, ["sleep", "1"], labels={"ds01.hub": hub_id})
    script = f"#!/bin/busybox ash\n/bin/busybox id > {MARK}\n".encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("bin/sh")
        info.size, info.mode = len(script), 0o755
        tar.addfile(info, io.BytesIO(script))
    maker.put_archive("/", buffer.getvalue())
    maker.commit("ds01-test/hostile-shell", hub_id)
    maker.remove(force=True)
    container = session(f"ds01-test/hostile-shell:{hub_id}", command=("/bin/busybox", "sleep", "300"))
    assert reach.gpu_lost(engine.api, container.id) is False
    assert not (tmp_path / "workspace/ran").exists()


def test_a_link_in_the_containers_dev_is_not_followed(engine, session, busybox_image):
    container = session(
        busybox_image, device=False, command=("sh", "-c", "ln -s /dev/null /dev/nvidia0; sleep 300")
    )
    assert reach.gpu_lost(engine.api, container.id) is None


@pytest.mark.parametrize(
    ("output", "code", "lost"),
    [
        (b'{"nodes": 1, "denied": 0}', 0, False),
        (b'{"nodes": 2, "denied": 1}', 0, True),
        (b'{"nodes": 0, "denied": 0}', 0, None),
        (b'{"nodes": 1, "denied": 1}', 1, None),
        (b"", 0, None),
        (b"[]", 0, None),
        (b'{"nodes": "x", "denied": 1}', 0, None),
    ],
)
def test_what_the_program_says(output, code, lost):
    assert reach.judge(output, code) is lost


def test_nothing_is_executed_in_containers_but_what_is_listed_here():
    """Each call that runs a command inside a running container, with the reason why it may."""
    allowed = {
        # As the session's own user, at its owner's wish; it can do no more there than they can.
        "ds01spawner/engines/docker/snapshot.py": 1,
        "ds01spawner/engines/docker/server.py": 1,  # hands the call on for DockerSpawner, which makes none
    }
    found: dict[str, int] = {}
    for path in (ROOT / "ds01spawner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("exec_create", "exec_run"):
                name = str(path.relative_to(ROOT))
                found[name] = found.get(name, 0) + 1
    assert found == allowed

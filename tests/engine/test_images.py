"""The images that `make images` builds: what sessions and engine tests rely on."""

from __future__ import annotations

import time

import docker
import pytest


def run(engine: docker.DockerClient, image: str, hub_id: str, command: str, **options) -> str:
    """Run a shell command in a hardened container of an unknown user; its output."""
    return engine.containers.run(
        image, ["sh", "-c", command], remove=True, user="23456:23456", cap_drop=["ALL"], stderr=True,
        security_opt=["no-new-privileges"], labels={"ds01.hub": hub_id}, **options,
    ).decode()  # fmt: skip


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("pwd", "/workspace\n"),
        ("jupyterhub-singleuser --version", None),
        ("jupyter lab --version", None),
        ("command -v python", "/opt/venv/bin/python\n"),
        ("touch /workspace/a ~/b && echo written", "written\n"),
        ("git --version | cut -d' ' -f1", "git\n"),
        ("test -w /opt/ds01/bin || echo protected", "protected\n"),
    ],
)
def test_lab_image_serves_any_user(engine, lab_image, hub_id, command, expected):
    output = run(engine, lab_image, hub_id, command)
    assert output == expected if expected else output[0].isdigit()


def test_lab_image_runs_the_hub_release(engine, lab_image, hub_id):
    import jupyterhub

    assert run(engine, lab_image, hub_id, "jupyterhub-singleuser --version").strip() == jupyterhub.__version__


def test_busybox_image_stops_quickly(engine, busybox_image, hub_id):
    container = engine.containers.run(busybox_image, detach=True, labels={"ds01.hub": hub_id})
    while (
        len((container.top() or {}).get("Processes") or []) < 2
    ):  # before its first sleep it has no trap yet
        time.sleep(0.1)
    container.stop(timeout=60)
    container.reload()
    assert container.attrs["State"]["ExitCode"] != 137  # ended by SIGTERM's trap, not killed
    container.remove()


def test_pip_installs_where_notebooks_look_and_without_privilege(engine, lab_image, hub_id):
    script = (
        "mkdir /tmp/p && cd /tmp/p && echo 'answer = 42' > probe_pkg.py && "
        'echo \'import setuptools as s; s.setup(name="probe-pkg", py_modules=["probe_pkg"])\' > setup.py && '
        "pip install -q --no-build-isolation --no-index . && "
        "cd / && python -c 'import probe_pkg as p; print(p.answer)'"
    )
    assert run(engine, lab_image, hub_id, script).endswith("42\n")

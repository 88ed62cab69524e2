"""Builds on a real engine: what comes out, what is refused and why, and what is left behind."""

import json
import os
import time
import uuid
from pathlib import Path

import docker
import pytest
from support.ours import INSTALLATION

from ds01spawner.core.errors import Refused
from ds01spawner.engines.docker.image_store import ImageMissing, Images
from ds01spawner.environments import records
from ds01spawner.environments.builder.builds import RESTARTED, BuildLimits, BuildRequest, BuildRunner, Site
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.naming import HALF_BUILT_NAMESPACE, PIN_NAMESPACE
from ds01spawner.environments.preflight import Host
from ds01spawner.store.store import Store
from ds01spawner.workspace.projectfiles import ProjectFiles

BUSYBOX = "ds01/test-busybox:latest"
BASE = "ds01/base:latest"
HUB = "6.1.1"
pytestmark = pytest.mark.timeout(900)  # a build fetches packages, and the machine may be small


@pytest.fixture
def images():
    images = Images(installation=lambda: INSTALLATION)
    yield images
    images.close()


@pytest.fixture
def store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'ds01.sqlite'}")
    yield store
    store.close()


@pytest.fixture
def owner(images):
    """A person nobody else is; their images go after the test."""
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    for facts in images.list():
        for tag in facts.tags:
            if tag.startswith((f"ds01-{name}/", f"ds01-kept/{name}/")):
                images.remove(tag)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "workspace" / "p"
    folder.mkdir(parents=True)
    return ProjectFiles(tmp_path / "workspace", ("p",), os.getuid(), os.getgid())


@pytest.fixture
def runner(store, images):
    site = Site(host=Host(images.engine().architecture, HUB))
    runner = BuildRunner(store, images, site)
    yield runner
    runner.close()


def request(owner, recipe, project=None, **changes):
    reference = f"ds01-{owner}/p:latest"
    given = {"owner": owner, "environment": reference, "reference": reference, "project": project}
    return BuildRequest(recipe=parse_recipe(recipe), **{**given, **changes})


def run(runner, wanted, timeout_s=800):
    build = runner.submit(wanted)
    runner.wait(build, timeout_s)
    known = runner.store.builds.get(build)
    log = "\n".join(line.text for line in runner.store.builds.log(build, limit=10_000))
    return known.state, known.data.get("reason", ""), log


def folder_of(project: ProjectFiles) -> Path:
    return project.root / project.parts[0]


def in_image(image, command, user="54321:54321"):
    client = docker.from_env()
    return client.containers.run(
        image, ["sh", "-c", command], user=user, remove=True, network_mode="none", cap_drop=["ALL"],
        environment={"HOME": "/tmp"}, labels={"ds01.hub": f"test-{os.getpid()}-build"},
    ).decode()  # fmt: skip


def test_packages_rollback_and_delete(runner, store, images, owner, project):
    """A recipe becomes an image with its packages; a rebuild can be undone; in use is not deleted."""
    state, reason, log = run(
        runner, request(owner, {"title": "Mine", "pip": ["six==1.16.0"]}, project, base=BASE)
    )
    assert (state, reason) == ("ready", ""), log
    reference = f"ds01-{owner}/p:latest"
    first = images.inspect(reference)
    kernel = "$(cat /opt/ds01/layer/user_python) -c 'import six; print(six.__version__)'"
    assert in_image(reference, kernel).strip() == "1.16.0"
    assert first.labels["ds01.image.owner"] == owner
    assert first.cmd == ("jupyterhub-singleuser",)
    assert in_image(reference, "jupyterhub-singleuser --version").split()[-1] == HUB
    lock = json.loads((folder_of(project) / "recipe.lock.json").read_text())
    assert "six==1.16.0" in lock["pip"]
    assert lock["base"] == images.inspect(BASE).id
    assert not [p for p in lock["pip"] if p.startswith(("jupyterhub", "jupyterlab", "ipykernel"))]
    assert any(p.startswith("jupyterhub==") for p in lock["layer"])

    state, reason, log = run(runner, request(owner, {"pip": ["six==1.17.0"]}, project, base=BASE))
    assert (state, reason) == ("ready", ""), log
    second = images.inspect(reference)
    assert second.id != first.id
    assert records.rollback(store, images, reference, runner.clock()) == first.id
    assert images.inspect(reference).id == first.id
    assert records.rollback(store, images, reference, runner.clock()) == second.id

    client = docker.from_env()
    holder = client.containers.create(reference, ["true"], labels={"ds01.hub": f"test-{os.getpid()}-hold"})
    try:
        with pytest.raises(Refused, match="Retire the session first"):
            records.delete(store, images, reference)
    finally:
        holder.remove(force=True)
    records.delete(store, images, reference)
    with pytest.raises(ImageMissing):
        images.inspect(reference)
    assert not [t for f in images.list() for t in f.tags if t.startswith(f"ds01-kept/{owner}/")]


def test_a_dockerfile_without_jupyter_becomes_a_session(runner, images, owner, project):
    """The layer goes on top, the user's own Python stays the kernel, and its packages are undisturbed."""
    folder = folder_of(project)
    (folder / "hello.py").write_text("x = 1\n")
    (folder / "Dockerfile").write_text(
        f"FROM {BASE}\nRUN python3 -m venv /venv && /venv/bin/pip install -q six\n"
        'ENV PATH=/venv/bin:$PATH\nCOPY hello.py /opt/hello.py\nENTRYPOINT ["/bin/false"]\nUSER 1234\n'
    )
    state, reason, log = run(runner, request(owner, {"dockerfile": "Dockerfile"}, project))
    assert (state, reason) == ("ready", ""), log
    image = f"ds01-{owner}/p:latest"
    assert in_image(image, "cat /opt/hello.py") == "x = 1\n"
    assert in_image(image, "cat /opt/ds01/layer/user_python").strip() == "/venv/bin/python3"
    listed = json.loads(in_image(image, "/venv/bin/python -m pip list --format json"))
    assert {p["name"] for p in listed} == {"pip", "setuptools", "six"}
    assert "/venv" in in_image(image, "which python3")


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM {busybox}\nRUN true\n\nRUN echo hello && \\\n    exit 3\n", "Dockerfile, line 4: ended with exit code 3: RUN echo hello"),  # noqa: E501
        ("FROM {busybox}\nCOPY ../../ /x\n", "Dockerfile:2: COPY: '../../' reaches outside the project"),
        ("FROM {busybox}\nCOPY secret /x\n", "'secret' is a link that leads outside the project"),
        ("FROM {busybox}\nCOPY secret/../secret /x\n", "reaches outside the project"),
        ("FROM {busybox}\nCOPY missing /x\n", "Dockerfile, line 2:"),
        ("FROM {busybox}\nLABEL ds01.managed=true\n", "the label ds01.managed is the site's own"),
        ("FROM {id}\nRUN true\n", "looks like an image's id"),
        ("FROM nobody-has/this:1\n", "Dockerfile"),
        ("RUN true\n", "FROM: is missing"),
    ],
)  # fmt: skip
def test_what_a_dockerfile_may_not_do(runner, images, owner, project, tmp_path, dockerfile, words):
    folder = folder_of(project)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "secret").write_text("another person's")
    (folder / "secret").symlink_to("../../other/secret")
    text = dockerfile.replace("{busybox}", BUSYBOX).replace("{id}", images.inspect(BUSYBOX).id[7:19])
    (folder / "Dockerfile").write_text(text)
    state, reason, log = run(runner, request(owner, {"dockerfile": "Dockerfile"}, project))
    assert state == "failed"
    assert words in reason
    assert "another person's" not in log
    with pytest.raises(ImageMissing):
        images.inspect(f"ds01-{owner}/p:latest")


def test_a_context_that_is_too_large_is_refused_before_it_is_sent(runner, owner, project):
    folder = folder_of(project)
    (folder / "Dockerfile").write_text(f"FROM {BUSYBOX}\n")
    with (folder / "data.bin").open("wb") as file:
        file.truncate(5 * 2**30)
    wanted = request(owner, {"dockerfile": "Dockerfile"}, project)
    began = time.monotonic()
    state, reason, _ = run(runner, wanted)
    assert state == "failed"
    assert "larger than a build may send (500 MiB; reached at data.bin)" in reason
    assert time.monotonic() - began < 20
    (folder / ".dockerignore").write_text("*.bin\n")
    (folder / "Dockerfile").write_text(f"FROM {BUSYBOX}\nCOPY . /x\nRUN ls /x; exit 9\n")
    _, reason, log = run(runner, wanted)
    assert "exit code 9" in reason
    assert "data.bin" not in log


def test_memory_is_limited_and_says_so(runner, owner, project):
    (folder_of(project) / "Dockerfile").write_text(
        f'FROM {BASE}\nRUN exec python3 -c "x = bytearray(400 * 2**20); print(len(x))"\n'
    )
    limits = BuildLimits(memory=128 * 2**20)
    state, reason, log = run(runner, request(owner, {"dockerfile": "Dockerfile"}, project, limits=limits))
    assert state == "failed"
    assert "memory limit of 128 MiB" in reason, log


def test_time_is_limited_and_the_step_really_ends(runner, owner, project):
    marker = f"sleep 9{uuid.uuid4().int % 10**6:06d}"
    (folder_of(project) / "Dockerfile").write_text(f"FROM {BUSYBOX}\nRUN {marker}\n")
    limits = BuildLimits(time=3)
    state, reason, _ = run(runner, request(owner, {"dockerfile": "Dockerfile"}, project, limits=limits))
    assert state == "failed"
    assert "took longer than" in reason
    assert_nothing_runs(marker)


def test_cancel_ends_the_step(runner, owner, project):
    marker = f"sleep 8{uuid.uuid4().int % 10**6:06d}"
    (folder_of(project) / "Dockerfile").write_text(f"FROM {BUSYBOX}\nRUN echo now && {marker}\n")
    build = runner.submit(request(owner, {"dockerfile": "Dockerfile"}, project))
    with pytest.raises(Refused, match="being built already"):
        runner.submit(request(owner, {"pip": ["six"]}, project, base=BASE))
    deadline = time.monotonic() + 60
    while not any(line.text == "now" for line in runner.store.builds.log(build)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert runner.cancel(build, "changed my mind")
    assert runner.wait(build, 30) == "cancelled"
    assert runner.store.builds.get(build).data["reason"] == "changed my mind"
    assert not runner.cancel(build)
    assert_nothing_runs(marker)


def test_after_a_restart_nothing_is_building_and_nothing_half_built_is_left(
    runner, store, images, owner, project
):
    store.builds.put("b-old", owner, f"ds01-{owner}/p:latest", "building", {}, runner.clock())
    ours, theirs = (f"{HALF_BUILT_NAMESPACE}/{b}:image" for b in ("b-old", f"b-of-another-hub-{owner}"))
    for tag in (ours, theirs):
        images.tag(images.inspect(BUSYBOX).id, tag)
    assert runner.recover() == ["b-old"]
    known = store.builds.get("b-old")
    assert (known.state, known.data["reason"]) == ("failed", RESTARTED)
    tags = {t for f in images.list() for t in f.tags}
    images.remove(theirs)
    assert ours not in tags
    assert theirs in tags


def test_a_base_that_is_not_there(runner, owner):
    state, reason, _ = run(runner, request(owner, {}, base="no/such:image"))
    assert state == "failed"
    assert "no image 'no/such:image' that you may use" in reason


def test_a_base_without_python_or_apt_is_refused_with_the_reason(runner, images, owner):
    state, reason, log = run(runner, request(owner, {"pip": ["six"]}, base=BUSYBOX))
    assert state == "failed"
    assert "exit code 65" in reason
    assert "refused: this base has no Python and no apt" in log
    images.remove(f"{PIN_NAMESPACE}/{images.inspect(BUSYBOX).id[7:19]}:latest")


def assert_nothing_runs(marker):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not any(marker in _command(pid) for pid in os.listdir("/proc") if pid.isdecimal()):
            return
        time.sleep(0.2)
    raise AssertionError(f"{marker} still runs")


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""

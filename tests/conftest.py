"""What every tier shares: the engine, the images, markers by folder, and the engine's state on failure.

Containers and networks that tests make carry the label ``ds01.hub`` with a value ``test-PID-…`` that
names the process of the test run. Clean-up removes those of this run and of runs that are over;
nothing else on the host is touched, not even a second test run's.
"""

from __future__ import annotations

import os
import re
import sys
import uuid
import weakref
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError, DockerException, NotFound
from hypothesis import HealthCheck, settings
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from support.longest_first import pytest_configure, pytest_xdist_make_scheduler  # noqa: F401  (hooks)

ROOT = Path(__file__).resolve().parent.parent
HUB_LABEL = "ds01.hub"
RUN_PREFIX = f"test-{os.getpid()}-"
TIERS = ("engine", "hub", "browser")
LAB_IMAGE = os.environ.get("DS01_LAB_IMAGE") or "ds01/lab:latest"
BUSYBOX_IMAGE = "ds01/test-busybox:latest"

# A busy machine makes every example slow, which says nothing about the code: no deadlines by the wall clock.
# `nightly` draws ten times as many examples of every property that does not set its own number.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# `ci` draws the same examples every time, so that what fails there fails for a change and not for a new draw;
# `quick` draws few, for `make quick` alone.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("quick", settings.get_profile("default"), max_examples=20)
settings.register_profile("nightly", settings.get_profile("default"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Tools that `make` installed for this checkout (configurable-http-proxy).
os.environ["PATH"] = f"{ROOT / '.cache/node/node_modules/.bin'}{os.pathsep}{os.environ['PATH']}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test by the folder of ``tests/`` it is in."""
    for item in items:
        try:
            tier = item.path.relative_to(ROOT / "tests").parts[0]
        except ValueError:
            continue
        if tier in TIERS:
            item.add_marker(getattr(pytest.mark, tier))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Keep each phase's report on the item, so that fixtures can see whether the test failed."""
    report = yield
    if kept := int(os.environ.get("DS01_KEEP_OUTPUT", "0")):
        report.sections = [(name, _end_of(text, kept)) for name, text in report.sections]
    item.stash.setdefault(_REPORTS, {})[report.when] = report
    return report


def _end_of(text: str, kept: int) -> str:
    return text if len(text) <= kept else f"[{len(text) - kept} characters before]\n{text[-kept:]}"


_REPORTS: pytest.StashKey[dict[str, pytest.TestReport]] = pytest.StashKey()


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    """A client of the Docker engine; what our tests left on it is removed before and after."""
    client = docker.from_env(timeout=60)
    client.ping()
    remove_leftovers(client)
    yield client
    remove_leftovers(client)
    client.close()


@pytest.fixture(scope="session")
def lab_image(engine: docker.DockerClient) -> str:
    """Name of the notebook image (made by ``make images``)."""
    return _built(engine, LAB_IMAGE)


@pytest.fixture(scope="session")
def busybox_image(engine: docker.DockerClient) -> str:
    """Name of a two-megabyte image with a shell (made by ``make images``)."""
    return _built(engine, BUSYBOX_IMAGE)


@pytest.fixture
def hub_id() -> str:
    """A value for the label ``ds01.hub`` that no other test uses and the clean-up knows as ours."""
    return f"{RUN_PREFIX}{uuid.uuid4().hex[:6]}"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium that starts (found or installed by ``make browser``)."""
    path = os.environ.get("DS01_CHROMIUM") or (ROOT / ".cache/chromium").read_text().strip()
    assert Path(path).exists(), f"no Chromium at {path}: run 'make browser'"
    return path


@pytest.fixture(autouse=True)
def databases_are_closed() -> Iterator[None]:
    """Give back the files of the databases that a test opened: some thousand tests run in one process."""
    opened: weakref.WeakSet[Engine] = weakref.WeakSet()

    def note(connection: Connection) -> None:
        opened.add(connection.engine)

    event.listen(Engine, "engine_connect", note)
    yield
    event.remove(Engine, "engine_connect", note)
    for each in list(opened):
        if each.url.database not in (None, "", ":memory:"):
            each.dispose()  # one that lives longer than the test opens its file again when it is used


@pytest.fixture(autouse=True)
def dump_on_failure(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a failed test of a tier with an engine: what our containers are, say and were made with."""
    yield
    reports = request.node.stash.get(_REPORTS, {})
    tiers = {mark.name for mark in request.node.iter_markers()} & set(TIERS)
    if tiers and any(report.failed for report in reports.values()):
        dump_engine()


def remove_leftovers(client: docker.DockerClient) -> None:
    """Remove the containers, then the networks, of this test run and of those that are over."""
    for container in client.containers.list(all=True, filters={"label": HUB_LABEL}, ignore_removed=True):
        if is_leftover(container.labels.get(HUB_LABEL, "")):
            _gone(lambda c=container: c.remove(force=True, v=True))
    for network in client.networks.list(filters={"label": HUB_LABEL}):
        if is_leftover((network.attrs.get("Labels") or {}).get(HUB_LABEL, "")):
            _gone(network.remove)


def is_leftover(hub: str) -> bool:
    """Whether a ``ds01.hub`` label is of this run or of a test run whose process is gone."""
    match = re.match(r"test-([0-9]+)-", hub)
    return bool(match) and (hub.startswith(RUN_PREFIX) or not Path(f"/proc/{match[1]}").exists())


def dump_engine() -> None:
    """Print the state of each container of this process's tests: status, host config, end of its log."""
    try:
        client = docker.from_env(timeout=20)
        found = client.containers.list(all=True, filters={"label": HUB_LABEL}, ignore_removed=True)
        ours = [c for c in found if c.labels.get(HUB_LABEL, "").startswith(RUN_PREFIX)]
        print(f"\n---- engine: {len(ours)} containers of ours", file=sys.stderr)
        for container in ours:
            _dump_container(container)
    except DockerException as error:
        print(f"---- the engine does not answer: {error}", file=sys.stderr)


def _dump_container(container: docker.models.containers.Container) -> None:
    attrs, host = container.attrs, container.attrs.get("HostConfig", {})
    print(f"---- {container.name} {attrs.get('State')}\n     labels {container.labels}", file=sys.stderr)
    kept = (
        "NetworkMode",
        "Memory",
        "MemorySwap",
        "PidsLimit",
        "ShmSize",
        "DeviceRequests",
        "Mounts",
        "CapDrop",
    )
    print("     host " + repr({key: host.get(key) for key in kept}), file=sys.stderr)
    try:
        print(container.logs(tail=40).decode(errors="replace"), file=sys.stderr)
    except DockerException as error:
        print(f"     no log: {error}", file=sys.stderr)


def _built(client: docker.DockerClient, name: str) -> str:
    assert client.images.list(name=name), f"the image {name} is missing: run 'make images'"
    return name


def _gone(remove) -> None:
    try:
        remove()
    except NotFound:
        pass
    except APIError as error:
        if error.status_code not in (403, 409):  # a network still in use; someone else is removing it
            raise

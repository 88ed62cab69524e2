"""A session from a built image: fast, with everything an ordinary one shows; its packages are kept."""

import importlib.util
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import docker
import pytest
from support.ours import INSTALLATION

from ds01spawner.core.errors import EngineError
from ds01spawner.engines.docker import snapshot
from ds01spawner.engines.docker.image_probe import probe
from ds01spawner.engines.docker.image_store import ImageMissing, Images
from ds01spawner.environments.builder.builds import BuildRequest, BuildRunner, Site
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.builder.sitebuild import hub_version
from ds01spawner.environments.catalogue import discover
from ds01spawner.environments.inventory import lock_of, packages
from ds01spawner.environments.preflight import Host
from ds01spawner.store import Store

BASE = "ds01/base:latest"
pytestmark = pytest.mark.timeout(900)


def bench():
    path = Path(__file__).parents[2] / "benchmarks" / "bench_singleuser.py"
    spec = importlib.util.spec_from_file_location("bench_singleuser", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def images():
    images = Images(installation=lambda: INSTALLATION)
    yield images
    images.close()


@pytest.fixture(scope="module")
def owner(images):
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    for facts in images.list():
        for tag in facts.tags:
            if tag.startswith((f"ds01-{name}/", f"ds01-kept/{name}/")):
                images.remove(tag)


@pytest.fixture(scope="module")
def image(images, owner, tmp_path_factory):
    """An own environment, built from the base alone."""
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('store') / 'x.sqlite'}")
    runner = BuildRunner(store, images, Site(Host(images.engine().architecture, hub_version())))
    reference = f"ds01-{owner}/p:latest"
    build = runner.submit(BuildRequest(owner, reference, reference, parse_recipe({}), BASE))
    assert runner.wait(build, 800) == "ready", store.builds.log(build)
    runner.close()
    store.close()
    return reference


@pytest.fixture
def session(image):
    """Start a session's container: ``session(command)`` gives its container and a ``get(path)``."""
    client, tools = docker.from_env(timeout=60), bench()
    hub = tools.serve_hub(client.api)
    started = []

    def start(command):
        container = client.containers.run(
            image, command, detach=True, user="12345:12345", environment=tools.environment(hub),
            cap_drop=["ALL"], security_opt=["no-new-privileges"],
            labels={"ds01.hub": f"test-{os.getpid()}-session"},
        )  # fmt: skip
        started.append(container)
        container.reload()
        networks = container.attrs["NetworkSettings"]["Networks"]
        address = f"http://{networks['bridge']['IPAddress']}:8888{tools.PREFIX}"

        def get(path):
            request = urllib.request.Request(address + path, headers={"Authorization": "token bench"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read())

        deadline = time.monotonic() + 60
        while True:
            try:
                get("api")
                return container, get
            except (OSError, urllib.error.URLError):
                assert time.monotonic() < deadline, container.logs().decode()[-3000:]
                time.sleep(0.1)

    yield start
    for container in started:
        container.remove(force=True, v=True)


def shown(get):
    """What a person finds in a session."""
    settings = get("lab/api/settings")["settings"]
    return {
        "plugins": sorted(s["id"] for s in settings),
        "kernels": get("api/kernelspecs")["kernelspecs"],
        "terminals": get("api/terminals"),
        "lsp": sorted(get("lsp/status")["sessions"]),
        "files": [f["name"] for f in get("api/contents")["content"]],
        "me": get("api/me")["identity"]["username"],
        "nbconvert": sorted(get("api/nbconvert")),
    }


def test_nothing_a_person_sees_is_lost_by_the_fast_start(session):
    _, fast = session(["jupyterhub-singleuser"])
    _, ordinary = session(["/opt/ds01/bin/jupyterhub-singleuser"])
    seen = shown(fast)
    assert seen == shown(ordinary)
    assert len(seen["plugins"]) > 20
    assert seen["kernels"]["python3"]["spec"]["argv"][0] == "/usr/bin/python3"


DEFERRED = """
import ds01_faststart, sys
ds01_faststart.prepare()
import jupyterhub.singleuser
assert not [m for m in sys.modules if m.split(".")[0] in ("lark", "alembic")], sorted(sys.modules)
import jsonschema
check = jsonschema.FormatChecker().conforms
assert check("https://example.org/\\u00e4", "iri") and not check("not an iri", "iri")
assert check("https://example.org/", "uri") and not check("not a uri", "uri")
assert "lark" in sys.modules
import jupyterhub.orm, jupyterhub.handlers.pages, sqlalchemy.exc
assert jupyterhub.orm.User.__tablename__ == "users"
assert jupyterhub.handlers.pages.HealthCheckHandler.__module__ == "jupyterhub.handlers.pages"
assert issubclass(sqlalchemy.exc.SQLAlchemyError, Exception)
from jupyterhub import scopes, roles, app
print("all there")
"""


def test_what_the_fast_start_leaves_out_comes_back_when_it_is_used(image):
    client = docker.from_env()
    said = client.containers.run(
        image, ["/opt/ds01/bin/python", "-I", "-c", DEFERRED], remove=True, network_mode="none",
        user="12345:12345", environment={"HOME": "/tmp"}, labels={"ds01.hub": f"test-{os.getpid()}-x"},
    )  # fmt: skip
    assert said.decode().strip() == "all there"


def test_a_sessions_packages_are_kept_in_the_recipe(images, image, session):
    container, _ = session(["jupyterhub-singleuser"])
    code, said = container.exec_run(["python3", "-m", "pip", "install", "-q", "six==1.16.0"])
    assert code == 0, said
    before = snapshot.packages_of_lock(lock_of(images, images.inspect(image).id))
    assert packages(images, images.inspect(image).id) == before
    diff = snapshot.package_diff(snapshot.session_packages(images, container.id), before)
    assert diff.as_dict() == {"added": ["six==1.16.0"], "changed": [], "removed": [], "unsafe": []}
    assert snapshot.kept(parse_recipe({"base": "lab"}), diff).pip == ("six==1.16.0",)


def test_a_session_that_is_gone_has_no_answer(images):
    with pytest.raises((EngineError, ImageMissing)):
        snapshot.session_packages(images, "ds01-no-such-session")


def test_saving_a_session_leaves_its_secrets_behind(images, owner, image, session):
    container, _ = session(["jupyterhub-singleuser"])
    container.exec_run(["sh", "-c", "echo kept > /tmp/kept"])
    reference = f"ds01-{owner}/saved:latest"
    snapshot.commit(images, container.id, reference, {"ds01.image.reproducible": "false"})
    facts = images.inspect(reference)
    assert facts.env["JUPYTERHUB_API_TOKEN"] == ""
    assert facts.labels["ds01.hub"] == ""
    (found,) = [e for e in discover(images.list(), owner) if e.id == reference]
    assert not found.reproducible
    assert probe(images, facts.id).singleuser == hub_version()


def test_an_experiments_tag_means_one_image(images, owner, image):
    kept = snapshot.tag(images, image, "experiment-42")
    assert kept == f"ds01-{owner}/p:experiment-42"
    assert images.inspect(kept).id == images.inspect(image).id
    assert snapshot.tag(images, image, "experiment-42") == kept
    images.client().tag("ds01/test-busybox:latest", f"ds01-{owner}/p", "taken")
    with pytest.raises(ValueError, match="belongs to another hub"):
        snapshot.tag(images, image, "taken")
    images.client().remove_image(f"ds01-{owner}/p:taken")


def test_probing_an_image_that_is_no_session(images):
    found = probe(images, images.inspect("ds01/test-busybox:latest").id)
    assert (found.singleuser, found.failed, found.passes_command) == ("", "", True)

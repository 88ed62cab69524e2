"""Environments on a real hub by REST: foreign images, refusals, courses, and a service that is killed."""

from __future__ import annotations

import os
import signal
import uuid
from contextlib import suppress
from pathlib import Path

import docker
import pytest
from support.registry import running_registry
from support.running_hub import POLICY, running_hub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi, images_removed

from ds01spawner.environments.builder.builds import RESTARTED
from ds01spawner.workspace.projects import Workspaces

pytestmark = pytest.mark.timeout(900)
UNIQUE = uuid.uuid4().hex[:6]
STUDENT, OUTSIDER, PROF = f"ada{UNIQUE}", f"bob{UNIQUE}", f"prof{UNIQUE}"
MATE = f"cleo{UNIQUE}"
COURSE, GROUP = f"nlp-{UNIQUE}", f"roster-{UNIQUE}"
BUILDS = POLICY.replace("defaults:\n", "defaults:\n  images: {builds: {context: 1m}}\n")


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    root.chmod(0o755)
    for above in root.parents[:3]:  # pytest's own folders are closed to others
        above.chmod(above.stat().st_mode | 0o055)
    (root / "corpus").mkdir()
    (root / "corpus" / "text.txt").write_text("to be or not to be")
    return root


@pytest.fixture(scope="module")
def hub(tmp_path_factory, engine, lab_image, data_root):
    """A hub with its service; a roster, and an instructor who may teach it and is no administrator."""
    extra = MAY_MAKE_TOKENS + (
        f"c.JupyterHub.load_groups = {{{GROUP!r}: {{'users': [{STUDENT!r}, {MATE!r}]}}}}\n"
        f"c.JupyterHub.load_roles.append({{'name': 'teach', 'users': [{PROF!r}], "
        f"'scopes': ['custom:ds01:course:teach!group={GROUP}']}})\n"
        "c.DS01Spawner.image_registries = ['public', 'localhost:*', '127.0.0.1:*']\n"
        f"c.DS01Spawner.data_roots = [{str(data_root)!r}]\n"
    )
    name = f"test-{os.getpid()}-{UNIQUE}"
    options = {"extra": extra, "policy": BUILDS, "users": {STUDENT, OUTSIDER, PROF, MATE}}
    with (
        images_removed(engine, STUDENT, OUTSIDER, PROF, MATE, COURSE),
        running_hub(
            tmp_path_factory.mktemp("hub"), name, lab_image, arguments=", idle=False", **options
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def student(hub):
    return ServiceApi(hub, STUDENT)


@pytest.fixture(scope="module")
def outsider(hub):
    return ServiceApi(hub, OUTSIDER)


@pytest.fixture(scope="module")
def prof(hub):
    return ServiceApi(hub, PROF)


def project(api: ServiceApi, name: str) -> Path:
    """The folder of a person's project, made as their session would make it."""
    return Workspaces(api.hub.workspaces).prepare(api.user, name).path


def own(path: Path, folder: Path) -> Path:
    os.chown(path, folder.stat().st_uid, folder.stat().st_gid)
    return path


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    for each in (path, path.parent):
        if each != folder:
            own(each, folder)


def run(engine, name, command):
    code, output = engine.containers.get(name).exec_run(["bash", "-c", command])
    return code, output.decode().strip()


# ------------------------------------------------------------------------------ own environments


def test_a_dockerfile_without_jupyter_starts_as_a_session(hub, engine, student):
    folder = project(student, "bare")
    write(folder, "Dockerfile", 'FROM ds01/base:latest\nRUN echo kept > /opt/mine\nENTRYPOINT ["false"]\n')
    built = student.wait(student.post("/builds", {"project": "bare"}, 202)["build"])
    assert built["state"] == "ready", "\n".join(line["text"] for line in built["lines"][-20:])
    reference = f"ds01-{STUDENT}/bare:latest"
    (listed,) = [e for e in student.get("/environments")["environments"] if e["id"] == reference]
    assert listed["allowed"]
    assert listed["preflight"]["ok"]
    hub.start_session(STUDENT, {"project": "bare", "environment": reference})
    name = f"{hub.hub_id}--{STUDENT}"
    try:
        assert run(engine, name, "cat /opt/mine; whoami") == (0, f"kept\n{STUDENT}")
        assert engine.containers.get(name).labels["ds01.image"] == listed["image_id"]
        refused = student.http.delete(f"/environments/{reference}")
        assert refused.status_code == 409
        assert "in use is kept" in refused.json()["message"]
    finally:
        hub.retire(STUDENT)
    assert student.http.delete(f"/environments/{reference}").status_code == 200
    again = hub.launch(STUDENT, {"project": "bare", "environment": reference})
    assert again.status_code == 404
    assert "not one of yours" in again.text


def test_a_group_starts_what_is_shared_with_it_until_it_is_not(hub, engine, student, outsider):
    mate = ServiceApi(hub, MATE)
    folder = project(student, "shared")
    write(folder, "Dockerfile", "FROM ds01/base:latest\nRUN echo shared > /opt/mine\n")
    built = student.wait(student.post("/builds", {"project": "shared"}, 202)["build"])
    assert built["state"] == "ready", built["reason"]
    reference = f"ds01-{STUDENT}/shared:latest"
    options = {"project": "p", "environment": reference}
    assert hub.launch(MATE, options).status_code == 404
    wrong = student.post(f"/environments/{reference}/share", {"group": "students-of-others"}, 403)
    assert wrong["code"] == "not-your-group"
    assert outsider.http.post(f"/environments/{reference}/share", json={"group": GROUP}).status_code == 404
    done = student.post(f"/environments/{reference}/share", {"group": GROUP})
    assert done["shared_with"] == [GROUP]

    (seen,) = [e for e in mate.get("/environments")["environments"] if e["id"] == reference]
    assert (seen["kind"], seen["allowed"], seen["owner"]) == ("shared", True, STUDENT)
    assert "shared_with" not in seen
    assert reference not in str(outsider.get("/environments"))
    assert hub.launch(OUTSIDER, options).status_code == 404
    hub.start_session(MATE, options)
    name = f"{hub.hub_id}--{MATE}"
    try:
        assert run(engine, name, "cat /opt/mine; whoami") == (0, f"shared\n{MATE}")
        assert engine.containers.get(name).labels["ds01.image"] == seen["image_id"]
        assert student.http.delete(f"/environments/{reference}").status_code == 409
        assert mate.http.delete(f"/environments/{reference}").status_code == 404
        assert student.post(f"/environments/{reference}/unshare", {"group": GROUP})["shared_with"] == []
        assert engine.containers.get(name).status == "running"
    finally:
        hub.retire(MATE)
    assert hub.launch(MATE, options).status_code == 404
    student.post(f"/environments/{reference}/share", {"group": GROUP})
    assert student.http.delete(f"/environments/{reference}").json()["was_shared_with"] == [GROUP]


@pytest.mark.parametrize(
    ("dockerfile", "words"),
    [
        ("FROM ds01/base:latest\n\nRUN echo fine\nRUN false\n", "Dockerfile, line 4: ended with exit code 1"),
        ("FROM ds01/base:latest\nCOPY ../../ /x\n", "outside"),
        ("FROM ds01/base:latest\nCOPY secret /x\n", "outside"),
        (f"FROM ds01-{OUTSIDER}/p\n", "belongs to others"),
    ],
    ids=["a failing step", "a path outside", "a link outside", "an image of others"],
)
def test_a_dockerfile_that_cannot_be_built_says_why(student, dockerfile, words):
    folder = project(student, "wrong")
    write(folder, "Dockerfile", dockerfile)
    (folder / "secret").unlink(missing_ok=True)
    (folder / "secret").symlink_to("/etc/shadow")
    built = student.wait(student.post("/builds", {"project": "wrong"}, 202)["build"])
    assert built["state"] == "failed"
    assert words in built["reason"]


def test_a_context_that_is_too_large_is_refused_with_the_limit(student):
    folder = project(student, "large")
    write(folder, "Dockerfile", "FROM ds01/base:latest\n")
    (folder / "big").write_bytes(bytes(2 * 2**20))
    own(folder / "big", folder)
    built = student.wait(student.post("/builds", {"project": "large"}, 202)["build"])
    assert built["state"] == "failed"
    assert "larger than a build may send (1 MiB" in built["reason"]


def test_hostile_packages_are_refused_before_anything_is_built(student):
    for package in ("; rm -rf /", "--index-url http://x", "-e git+http://x", "six\nx", "sіx"):
        answer = student.http.post("/builds", json={"project": "p", "recipe": {"pip": [package]}})
        assert answer.status_code == 400, package
        assert answer.json()["problems"]
    assert student.get("/builds?environment=ds01-x/p:latest")["builds"] == []


def test_builds_and_environments_of_others_cannot_be_found(student, outsider):
    folder = project(student, "wrong")
    write(folder, "Dockerfile", "FROM ds01/base:latest\nRUN false\n")
    number = student.post("/builds", {"project": "wrong"}, 202)["build"]
    student.wait(number)
    for method, path in (
        ("GET", f"/builds/{number}"),
        ("DELETE", f"/builds/{number}"),
        ("GET", f"/environments/ds01-{STUDENT}/wrong:latest"),
        ("DELETE", f"/environments/ds01-{STUDENT}/wrong:latest"),
        ("POST", f"/environments/ds01-{STUDENT}/wrong:latest/rollback"),
    ):
        assert outsider.http.request(method, path).status_code == 404, (method, path)


def test_a_service_killed_in_a_build_fails_it_and_offers_nothing_half_built(hub, engine, student):
    folder = project(student, "slow")
    write(folder, "Dockerfile", "FROM ds01/base:latest\nRUN sleep 120\n")
    number = student.post("/builds", {"project": "slow"}, 202)["build"]
    hub.wait_for(lambda: "sleep" in str(student.get(f"/builds/{number}")["lines"]), 60, "the step to run")
    os.kill(service_process(hub), signal.SIGKILL)

    def failed() -> bool:
        answer = student.http.get(f"/builds/{number}")
        return answer.status_code == 200 and answer.json()["state"] == "failed"

    hub.wait_for(failed, 60, "the build to be failed by the next service")
    assert student.get(f"/builds/{number}")["reason"] == RESTARTED
    assert f"ds01-{STUDENT}/slow:latest" not in str(student.get("/environments"))
    assert not [t for i in engine.images.list() for t in i.tags if f"ds01-building/{number}" in t]


def service_process(hub) -> int:
    """The process of a hub's service."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if b"ds01spawner.service" in command and f"DS01_STATE_DIR={hub.state}".encode() in environment:
            return int(folder.name)
    raise AssertionError("the service does not run")


# --------------------------------------------------------------------------------------- courses


def course_file(data_root: Path, packages: str) -> str:
    return (
        f"version: 1\ncourse: {COURSE}\ntitle: Language processing\nstaff: [{PROF}]\nroster: {GROUP}\n"
        f"recipe: {{base: lab, pip: [{packages}]}}\ncompute: {{gpu: 1g.10gb, lifetime: 2h}}\n"
        f"data: [{{source: {data_root}/corpus, target: /data/corpus}}]\nstarter: starter\n"
    )


def test_an_instructor_publishes_and_the_roster_alone_starts_it(
    hub, engine, student, outsider, prof, data_root
):
    folder = project(prof, "teaching")
    write(folder, "course.yaml", course_file(data_root, "six==1.16.0"))
    write(folder, "starter/task.py", "import six\n")
    wanted = {"project": "teaching"}
    assert outsider.post("/courses", {"text": course_file(data_root, "six")}, 403)["code"] == "not-staff"
    planned = prof.post("/courses", {**wanted, "dry_run": True})
    assert {c["key"] for c in planned["changes"]} >= {"title", "recipe", "starter_files"}
    assert prof.http.get(f"/courses/{COURSE}").status_code == 404
    assert prof.post("/courses", wanted)["changes"]
    assert prof.post("/courses", wanted)["changes"] == []

    first = publish(prof)
    seen = [e["id"] for e in student.get("/environments")["environments"]]
    assert seen[0] == f"course/{COURSE}"
    assert f"course/{COURSE}" not in str(outsider.get("/environments"))
    assert outsider.http.get(f"/courses/{COURSE}").status_code == 404
    options = {"project": COURSE, "environment": f"course/{COURSE}"}
    refused = hub.launch(OUTSIDER, options)
    assert refused.status_code == 404
    assert "not one of yours" in refused.text

    hub.start_session(STUDENT, options)
    name = f"{hub.hub_id}--{STUDENT}"
    try:
        assert run(engine, name, "python task.py && cat /data/corpus/text.txt") == (0, "to be or not to be")
        assert run(engine, name, "touch /data/corpus/x")[0] != 0
        assert run(engine, name, "stat -c %U task.py") == (0, STUDENT)

        write(folder, "course.yaml", course_file(data_root, "six==1.17.0"))
        prof.post("/courses", wanted)
        second = publish(prof)
        assert second != first
        assert engine.containers.get(name).labels["ds01.image"] == first
        assert (
            run(engine, name, "rm task.py && python -c 'import six; print(six.__version__)'")[1] == "1.16.0"
        )
    finally:
        hub.retire(STUDENT)
    hub.start_session(STUDENT, options)
    try:
        assert engine.containers.get(name).labels["ds01.image"] == second
        assert run(engine, name, "ls task.py")[0] != 0, "a deleted starter file came back"
    finally:
        hub.retire(STUDENT)
    assert prof.post(f"/courses/{COURSE}/back")["image_id"] == first
    assert outsider.http.post(f"/courses/{COURSE}/publish").status_code == 404


def publish(prof: ServiceApi) -> str:
    """Build, test-start and publish; the image's id."""
    built = prof.wait(prof.post(f"/courses/{COURSE}/build", status=202)["build"])
    assert built["state"] == "ready", built["reason"]
    known = prof.get(f"/courses/{COURSE}")
    assert known["candidate"] != known["pinned"]
    test = f"course/{COURSE}:candidate" if known["pinned"] else f"course/{COURSE}"
    prof.hub.start_session(PROF, {"project": "try", "environment": test})
    prof.hub.retire(PROF)
    image = prof.post(f"/courses/{COURSE}/publish")["image_id"]
    assert image == known["candidate"]
    return str(image)


def test_data_from_elsewhere_is_refused(prof, data_root):
    text = course_file(data_root, "six").replace(f"{data_root}/corpus", "/etc")
    answer = prof.post("/courses", {"text": text}, 403)
    assert "/etc is not below" in answer["message"]


def test_an_image_of_a_course_is_fetched_with_its_bytes_told(engine, prof, outsider):
    with running_registry([3_000_000, 2_000_000], f"ds01-test-{UNIQUE}") as registry:
        text = f"course: pull-{UNIQUE}\ntitle: Fetched\nroster: {GROUP}\nimage: {registry.image}\n"
        prof.post("/courses", {"text": text})
        course = f"/courses/pull-{UNIQUE}"
        assert prof.post(f"{course}/prepull")["state"] == "pulling"
        try:
            prof.hub.wait_for(lambda: prof.get(course)["pull"]["total"], 60, "the pull to know a size")
            again = prof.post(f"{course}/prepull")
            assert again["state"] == "pulling", "asking twice does not begin twice"
            assert 0 < again["current"] <= again["total"] <= registry.compressed
            assert "of" in again["progress"]
            assert outsider.http.get(course).status_code == 404
            registry.gate.set()
            prof.hub.wait_for(lambda: prof.get(course)["pull"]["state"] == "ready", 60, "the pull to end")
            known = prof.get(course)
            assert known["candidate"] == known["pull"]["image_id"] == engine.images.get(registry.image).id
            assert known["pull"]["layers_done"] == 2
        finally:
            registry.gate.set()
            with suppress(docker.errors.ImageNotFound):
                engine.images.remove(registry.image, force=True)


def test_the_api_is_described(student):
    paths = student.get("/openapi.json")["paths"]
    assert {"/api/environments", "/api/builds", "/api/builds/{id}", "/api/courses", "/api/projects"} <= set(
        paths
    )

"""What a person may do with environments: own ones only, within the limits, written where it can be found."""

import json
import os
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.service_world import PlayedImages

from ds01spawner.core.errors import Refused
from ds01spawner.engines.docker.image_store import ImageMissing
from ds01spawner.engines.docker.snapshot import PackageDiff
from ds01spawner.environments.builder.builds import BuildLimits
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.catalogue import Environment, Listed
from ds01spawner.environments.environment_service import EnvironmentService, as_card
from ds01spawner.environments.resolver import Resolver
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.store import Store
from ds01spawner.store.catalogue import Own
from ds01spawner.workspace.projects import Workspaces

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
ALICE, BOB = Person("alice"), Person("bob")
LAB = Listed(Environment(id="lab", kind="lab", image="ds01/lab:latest", default=True), True)


class NoImages:
    """An engine without any image."""

    def inspect(self, reference):
        raise ImageMissing(reference)


class FakeRunner:
    """Keeps what it is asked to build."""

    def __init__(self, store):
        self.store, self.images, self.asked, self.cancelled = store, PlayedImages(), [], []
        self.resolver = Resolver(NoImages(), lambda: store)

    def submit(self, request, room=None):
        if room is not None and request.kind == "mine":
            room.admit(request.environment, Own(frozenset()))
        build = f"b-{len(self.asked)}"
        self.asked.append(request)
        self.store.builds.put(build, request.owner, request.environment, "queued", {}, NOW)
        return build

    def position(self, build):
        return 0

    def cancel(self, build, reason):
        self.cancelled.append((build, reason))
        return True


@pytest.fixture
def env_service(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    root = tmp_path / "ws"
    root.mkdir()
    yield EnvironmentService(
        SimpleNamespace(workspaces=Workspaces(root, f"{os.getuid() or 1000}:{os.getgid() or 1000}")),
        FakeRunner(store),
        lambda: NOW,
    )
    store.close()


def limits(person, **images):
    policy = parse_policy(json.dumps({"version": 1, "defaults": {"images": images}}), Path("policy.yaml"))
    return resolve(policy, person, NOW)


def root(env_service) -> Path:
    return env_service.site.workspaces.root


def test_a_build_keeps_its_recipe_in_the_project(env_service):
    recipe = parse_recipe({"pip": ["numpy"]})
    build = env_service.build(ALICE, limits(ALICE, builds={"keep": 7}), [LAB], "p", recipe)
    (request,) = env_service.runner.asked
    assert build == "b-0"
    assert request.reference == request.environment == "ds01-alice/p:latest"
    assert request.base == "ds01/lab:latest"
    assert request.limits == BuildLimits(keep=7)
    assert (root(env_service) / "alice/p/recipe.yaml").read_text() == "pip:\n- numpy\n"
    assert env_service.recipe(ALICE, "p") == recipe


def test_a_dockerfile_alone_is_a_recipe(env_service):
    assert env_service.recipe(ALICE, "p") is None
    assert list(root(env_service).iterdir()) == [], "looking makes no project"
    env_service.files(ALICE, limits(ALICE), "p")
    (root(env_service) / "alice/p/Dockerfile").write_text("FROM x\n")
    assert env_service.recipe(ALICE, "p").dockerfile == "Dockerfile"


def test_a_dockerfile_in_the_old_place_is_brought_into_the_project(env_service):
    old = root(env_service) / "alice" / "dockerfiles"
    old.mkdir(parents=True)
    (old / "p.Dockerfile").write_text("FROM old\n")
    (old / "q.Dockerfile").symlink_to("/etc/passwd")
    for project in ("p", "q"):
        env_service.files(ALICE, limits(ALICE), project)
    recipe = env_service.recipe(ALICE, "p")
    assert recipe.dockerfile == "Dockerfile"
    assert not (root(env_service) / "alice/p/Dockerfile").exists(), "looking writes nothing"
    env_service.build(ALICE, limits(ALICE), [LAB], "p", recipe)
    assert (root(env_service) / "alice/p/Dockerfile").read_text() == "FROM old\n"
    assert env_service.recipe(ALICE, "q") is None


def test_versions_can_be_held(env_service):
    lock = {"pip": ["numpy==2.0"]}
    env_service.store.environments.put("ds01-alice/p:latest", "alice", "mine", "ready", {"lock": lock}, NOW)
    env_service.build(ALICE, limits(ALICE), [LAB], "p", parse_recipe({"pip": ["numpy"]}), hold_versions=True)
    assert env_service.runner.asked[0].constraints == ("numpy==2.0",)


@pytest.mark.parametrize(
    ("images", "project", "tag", "recipe", "words"),
    [
        ({"build": False}, "p", "latest", {}, "do not let you build"),
        ({"max": 0}, "p", "latest", {}, "You may have 0"),
        ({}, "../x", "latest", {}, "is not the name of a project"),
        ({}, "p", "a b", {}, "A tag has"),
        ({}, "p", "latest", {"base": "ds01-bob/secret:latest"}, "belongs to others"),
        ({}, "p", "latest", {"base": "docker.io/ds01-bob/secret"}, "belongs to others"),
        ({}, "p", "latest", {"base": "sha256:" + "0" * 64}, "belongs to others"),
    ],
)
def test_what_is_not_built(env_service, images, project, tag, recipe, words):
    with pytest.raises(Refused, match=words):
        env_service.build(ALICE, limits(ALICE, **images), [LAB], project, parse_recipe(recipe), tag)
    assert env_service.runner.asked == []


def test_others_builds_and_environments_are_not_found(env_service):
    build = env_service.build(ALICE, limits(ALICE), [LAB], "p", parse_recipe({}))
    env_service.store.builds.append_log(build, ["\x1b[31m<b>no</b>\x1b[0m"])
    env_service.store.environments.put("ds01-alice/p:latest", "alice", "mine", "ready", {}, NOW)
    (line,) = env_service.log(ALICE, build).lines
    assert line.text == "<b>no</b>"
    assert line.html == '<span class="ds01-ansi-31">&lt;b&gt;no&lt;/b&gt;</span>'
    assert env_service.cancel(ALICE, build)
    assert env_service.builds(BOB) == []
    for act in (
        lambda: env_service.log(BOB, build),
        lambda: env_service.cancel(BOB, build),
        lambda: env_service.rollback(BOB, "ds01-alice/p:latest"),
        lambda: env_service.delete(BOB, "ds01-alice/p:latest"),
        lambda: env_service.tag(BOB, limits(BOB), "ds01-alice/p:latest", "x"),
    ):
        with pytest.raises(Refused, match="of yours"):
            act()


def test_staff_build_their_course_and_nobody_else_does(env_service):
    data = {"recipe": {"base": "lab", "pip": ["x"]}, "staff": ["alice"], "roster": ["g"]}
    env_service.store.courses.put("nlp", "root", "draft", data, NOW)
    with pytest.raises(Refused):
        env_service.build_course(BOB, limits(BOB), [LAB], "nlp", admin=False)
    env_service.build_course(ALICE, limits(ALICE, build=False), [LAB], "nlp", admin=False)
    assert env_service.runner.asked[0].reference == "ds01-course/nlp:candidate"
    assert env_service.runner.asked[0].groups == ("g",)


def test_kept_packages_are_in_the_recipe(env_service):
    diff = PackageDiff(added=("six==1.16.0",))
    assert env_service.keep_packages(ALICE, limits(ALICE), "p", "lab", diff).pip == ("six==1.16.0",)
    assert env_service.recipe(ALICE, "p") == parse_recipe({"base": "lab", "pip": ["six==1.16.0"]})
    assert env_service.keep_packages(
        ALICE, limits(ALICE), "p", "lab", PackageDiff(changed=("six==1.17.0",))
    ).pip == ("six==1.17.0",)


def test_a_dockerfile_is_not_edited_but_the_line_is_told(env_service):
    env_service.files(ALICE, limits(ALICE), "p")
    (root(env_service) / "alice/p/Dockerfile").write_text("FROM x\n")
    with pytest.raises(Refused, match="RUN python3 -m pip install six==1"):
        env_service.keep_packages(ALICE, limits(ALICE), "p", "lab", PackageDiff(added=("six==1",)))


def test_card():
    card = as_card(LAB)
    assert (card["id"], card["name"], card["allowed"], card["groups"]) == ("lab", "lab", True, [])

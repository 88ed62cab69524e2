"""A saved recipe is committed alone, and nothing that the repository says is run or followed."""

import os
import subprocess
from datetime import datetime, timezone
from types import SimpleNamespace

import pytest

from ds01spawner.engines.docker.snapshot import PackageDiff
from ds01spawner.environments.builder.gitcommit import Committed, commit_file
from ds01spawner.environments.builder.recipe import parse_recipe
from ds01spawner.environments.catalogue import Environment, Listed
from ds01spawner.environments.environment_service import EnvironmentService
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.store import Store
from ds01spawner.workspace.projectfiles import ProjectFiles

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
ADA = Person("ada")
LAB = Listed(Environment(id="lab", kind="lab", image="ds01/lab:latest", default=True), True)
UID = 54_321
RECIPE = "pip:\n- six\n"


class Project:
    """A folder that belongs to a user; `git` runs git in it as that user's shell would."""

    def __init__(self, folder):
        self.folder = folder
        self.files = ProjectFiles(folder.parent, (folder.name,), UID, UID)
        folder.mkdir()
        self.own()

    def git(self, *args):
        options = ["-c", "safe.directory=*", "-c", "user.name=Ada", "-c", "user.email=ada@x.org"]
        done = subprocess.run(
            ["git", *options, *args], cwd=self.folder, capture_output=True, text=True, check=True,
            env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"},
        )  # fmt: skip
        self.own()
        return done.stdout.strip()

    def own(self):
        for folder, _, files in os.walk(self.folder):
            os.chown(folder, UID, UID)
            for name in files:
                os.chown(os.path.join(folder, name), UID, UID, follow_symlinks=False)

    def write(self, name, text):
        (self.folder / name).write_text(text)
        self.own()

    def save(self, text=RECIPE):
        self.files.write_text("recipe.yaml", text)
        return commit_file(self.files, "recipe.yaml", text, "ada", "Change the environment's recipe")


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "p")


@pytest.fixture
def repository(project):
    """With one commit on a branch, and work that is not committed."""
    project.git("init", "-q", "-b", "main")
    project.write("notes.txt", "first\n")
    (project.folder / "src").mkdir()
    project.write("src/a.py", "a = 1\n")
    project.git("add", ".")
    project.git("commit", "-q", "-m", "first")
    project.write("staged.txt", "staged\n")
    project.git("add", "staged.txt")
    project.write("notes.txt", "changed\n")
    return project


def test_only_the_recipe_is_committed_and_other_work_stays_as_it_is(repository):
    before = repository.git("rev-parse", "HEAD")
    done = repository.save()
    assert done.id == repository.git("rev-parse", "main")
    assert str(done) == f"committed to the project's git repository as {done.id[:10]}"
    assert repository.git("rev-parse", "HEAD~") == before
    assert repository.git("show", "--name-only", "--format=%an <%ae>|%s", "HEAD").splitlines() == [
        "ada <ada@localhost>|Change the environment's recipe", "", "recipe.yaml",
    ]  # fmt: skip
    assert repository.git("show", "HEAD:recipe.yaml") == RECIPE.strip()
    assert repository.git("show", "HEAD:src/a.py") == "a = 1"
    assert repository.git("status", "--porcelain") == "M notes.txt\nA  staged.txt"
    assert repository.git("fsck", "--strict", "--no-dangling") == ""
    assert "Change the environment's recipe" in repository.git("reflog", "-1")
    owners = {p.lstat().st_uid for p in (repository.folder / ".git").rglob("*")}
    assert owners == {UID}


def test_saving_the_same_again_commits_nothing_and_a_change_once_more(repository):
    first = repository.save()
    assert repository.save() == Committed()
    second = repository.save("pip:\n- attrs\n")
    assert second.id not in ("", first.id)
    assert repository.git("rev-list", "--count", "HEAD") == "3"


def test_history_in_packs_and_the_names_that_the_repository_sets(repository):
    for n in range(5):
        repository.write("src/a.py", f"a = {n}\n" * 200)
        repository.git("commit", "-q", "-m", str(n), "src/a.py")
    repository.git("gc", "-q")
    repository.git("pack-refs", "--all")
    repository.git("config", "user.name", "Ada <L>\nGPG")
    repository.git("config", "user.email", "ada@uni.org")
    done = repository.save()
    assert repository.git("log", "-1", "--format=%an|%ae") == "Ada LGPG|ada@uni.org"
    assert repository.git("rev-parse", "HEAD") == done.id
    assert repository.git("fsck", "--strict", "--no-dangling") == ""


def test_the_first_commit_of_a_repository(project):
    project.git("init", "-q", "-b", "main")
    done = project.save()
    assert project.git("log", "--format=%H %s") == f"{done.id} Change the environment's recipe"
    assert project.git("status", "--porcelain") == ""


def test_nothing_that_the_repository_configures_is_run(repository, tmp_path):
    proof = repository.folder / "ran"
    script = f"#!/bin/sh\ntouch {proof} /ran; exit 0\n"
    hooks = repository.folder / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("pre-commit", "post-commit", "commit-msg", "reference-transaction", "post-index-change"):
        (hooks / hook).write_text(script)
        (hooks / hook).chmod(0o755)
    repository.write("evil.sh", script)
    (repository.folder / "evil.sh").chmod(0o755)
    repository.write(".gitattributes", "*.yaml filter=evil\n")
    evil = str(repository.folder / "evil.sh")
    for key in (
        "core.fsmonitor",
        "filter.evil.clean",
        "filter.evil.process",
        "gpg.program",
        "core.sshCommand",
    ):
        subprocess.run(["git", "config", "--file", repository.folder / ".git/config", key, evil], check=True)
    for key in ("commit.gpgSign", "filter.evil.required"):
        subprocess.run(
            ["git", "config", "--file", repository.folder / ".git/config", key, "true"], check=True
        )
    repository.own()
    assert repository.save().id
    assert not proof.exists()
    assert not os.path.exists("/ran")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda p: p.git("checkout", "-q", "--detach"), "no branch is checked out"),
        (lambda p: p.write(".git/MERGE_HEAD", "x"), "in the middle of something"),
        (lambda p: p.write(".git/index.lock", ""), "in the middle of something"),
        (lambda p: p.write(".gitignore", "recipe.yaml\n"), ".gitignore leaves recipe.yaml out"),
        (lambda p: (p.folder / ".git/index").unlink(), "its index is missing"),
        (lambda p: p.git("update-index", "--split-index"), "its index is split"),
        (lambda p: p.write(".git/index", "nonsense"), "could not be read"),
        (lambda p: p.write(".git/HEAD", "nonsense"), "no branch is checked out"),
        (lambda p: p.git("config", "core.repositoryformatversion", "7"), "could not be read"),
        (lambda p: p.git("config", "extensions.strange", "1"), "could not be read"),
    ],
)
def test_what_is_left_uncommitted_says_why_and_changes_nothing(repository, prepare, words):
    prepare(repository)
    before = sorted(
        (p, p.lstat().st_mtime_ns) for p in (repository.folder / ".git").rglob("*") if p.is_file()
    )
    done = repository.save()
    assert done.id == ""
    assert words in done.reason
    assert (repository.folder / "recipe.yaml").read_text() == RECIPE
    after = sorted((p, p.lstat().st_mtime_ns) for p in (repository.folder / ".git").rglob("*") if p.is_file())
    assert after == before


def test_links_lead_nowhere_outside_the_project(repository, tmp_path):
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o777)
    secret.chmod(0o777)
    (secret / "index").write_bytes((repository.folder / ".git/index").read_bytes())
    before = (secret / "index").read_bytes()
    (repository.folder / ".git/index").unlink()
    (repository.folder / ".git/index").symlink_to(secret / "index")
    assert repository.save().id == ""
    assert (secret / "index").read_bytes() == before
    objects = repository.folder / ".git/objects"
    objects.rename(secret / "objects")
    objects.symlink_to(secret / "objects")
    assert repository.save().id == ""


def test_a_git_that_is_a_link_or_a_file_is_none(project, repository):
    (repository.folder / ".git").rename(repository.folder.parent / "moved")
    (repository.folder / ".git").symlink_to(repository.folder.parent / "moved")
    assert repository.save() == Committed()
    (repository.folder / ".git").unlink()
    repository.write(".git", "gitdir: ../moved\n")
    assert repository.save() == Committed()


def test_without_git_there_is_nothing_to_do(project):
    assert project.save() == Committed()


def test_nothing_is_done_for_a_root_owner(repository):
    files = ProjectFiles(repository.files.root, repository.files.parts, 0, 0)
    done = commit_file(files, "recipe.yaml", RECIPE, "ada", "x")
    assert "can do it safely" in done.reason


def test_the_desk_keeps_a_recipe_in_git_and_the_builds_log_says_so(repository, tmp_path):
    asked = []
    runner = SimpleNamespace(
        images=SimpleNamespace(list=lambda: ()),
        store=Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}"),
        submit=lambda r, room: asked.append(r) or "b",
    )
    identity = SimpleNamespace(uid=UID, gid=UID)
    workspace = SimpleNamespace(path=repository.folder, identity=identity)
    workspaces = SimpleNamespace(
        root=repository.folder.parent,
        prepare=lambda user, project, admit: workspace,
        find=lambda user, project: workspace,
    )
    env_service = EnvironmentService(SimpleNamespace(workspaces=workspaces), runner, lambda: NOW)
    limits = resolve(parse_policy("version: 1", tmp_path), ADA, NOW)
    env_service.build(ADA, limits, [LAB], "p", parse_recipe({"pip": ["six"]}))
    head = repository.git("rev-parse", "HEAD")
    assert asked[0].notes == (f"recipe.yaml: committed to the project's git repository as {head[:10]}",)
    env_service.build(ADA, limits, [LAB], "p", parse_recipe({"pip": ["six"]}))
    assert asked[1].notes == ()
    env_service.keep_packages(ADA, limits, "p", "lab", PackageDiff(added=("attrs==24.1.0",)))
    assert "attrs==24.1.0" in repository.git("show", "HEAD:recipe.yaml")
    repository.write(".git/MERGE_HEAD", "x")
    env_service.build(ADA, limits, [LAB], "p", parse_recipe({"pip": ["pluggy"]}))
    assert "not committed to the project's git repository: git is in the middle" in asked[2].notes[0]
    assert "pluggy" in (repository.folder / "recipe.yaml").read_text()
    runner.store.close()

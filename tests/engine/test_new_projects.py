"""A new project from a repository or a template, on a real engine: all of its files, or no project."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from support.git_server import git_server
from typer.testing import CliRunner

from ds01spawner.cli import build_app
from ds01spawner.core import installation
from ds01spawner.engines.docker.fetching import sweep
from ds01spawner.engines.docker.network import ensure_network
from ds01spawner.hub import attempts
from ds01spawner.hub.http_errors import SessionRefused


@pytest.fixture(scope="module")
def server(engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a git server that sessions can reach."""
    gateway = ensure_network(engine.api, "ds01-test", "test-network").gateway
    with git_server(gateway, tmp_path_factory.mktemp("git")) as address:
        yield address


@pytest.fixture
def start(spawner: Callable[..., Any], lab_image: str) -> Callable[..., Any]:
    """A spawner whose sessions have git, and whose site takes repositories by http."""

    def make(user: str, **options: Any) -> Any:
        traits = {
            "c_image": lab_image,
            "c_cmd": ["python3", "-m", "http.server", "8888"],
            "c_start_timeout": 60,
            "c_git_schemes": ["https", "http"],
        }
        return spawner(user, **{**traits, **options})

    return make


def ours(engine: docker.DockerClient, hub_id: str) -> list[Any]:
    filters = {"label": f"ds01.hub={hub_id}"}
    return engine.containers.list(all=True, filters=filters, ignore_removed=True)


def home(spawner: Any) -> Path:
    return Path(spawner.workspace_root) / spawner.user.name


async def test_a_repository_becomes_a_project_of_its_owner(start, server, engine, hub_id):
    one = start("alice", project="thesis", project_source=f"{server}/good.git#week-2")
    await one.start()
    folder = home(one) / "thesis"
    assert (folder / "src" / "train.py").read_text() == "print(1)\n"
    assert "week-2" in (folder / ".git" / "HEAD").read_text()
    uid = folder.stat().st_uid
    assert uid >= 20000
    assert {p.lstat().st_uid for p in folder.rglob("*")} == {uid}
    assert os.listdir(home(one)) == ["thesis"]
    said = [e["message"] for e in one.progress_log.events]
    assert f"Fetching {server}/good.git#week-2" in said
    assert f"Project thesis ready at /workspace, from {server}/good.git#week-2" in said
    assert len(ours(engine, hub_id)) == 1  # the session, and nothing that fetched
    assert "project_source" not in one.user_options
    assert one.orm_spawner.user_options == one.user_options


async def test_what_is_there_already_is_opened_as_it_is(start, server):
    folder = None
    for text in ("mine", "changed"):
        one = start("alice", project="thesis", project_source=f"{server}/good.git")
        await one.start()
        folder = home(one) / "thesis"
        (folder / "README.md").write_text(text)
        await one.stop()
    last = start("alice", project="thesis", project_source="https://gone.invalid/x")
    await last.start()
    assert (folder / "README.md").read_text() == "changed"
    assert any(
        "it has files already, so nothing was fetched" in e["message"] for e in last.progress_log.events
    )


async def test_an_empty_project_is_filled_and_stays_the_very_folder(start, server):
    one = start("alice", project="thesis")
    await one.start()
    before = (home(one) / "thesis").stat().st_ino
    await one.stop()
    two = start("alice", project="thesis", project_source=f"{server}/good.git")
    await two.start()
    assert (home(two) / "thesis").stat().st_ino == before
    assert (home(two) / "thesis" / "README.md").exists()


async def test_the_container_that_fetches_is_locked_up_as_a_session_is(start, server, engine, hub_id):
    one = start("alice", project="thesis", project_source=f"{server}/slow/x.git")
    task = asyncio.ensure_future(one.start())
    try:
        while not (found := [c for c in ours(engine, hub_id) if c.status == "running"]):
            await asyncio.sleep(0.05)
        inspected = engine.api.inspect_container(found[0].id)
        is_locked_up(inspected, home(one))
        (mount,), (staged,) = inspected["HostConfig"]["Mounts"], home(one).glob(".ds01-new-*")
        await is_same(Path(mount["Source"]), staged)
        assert hub_id not in {r.labels.hub for r in one.site.engine.look(0).sessions}
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await one.starting.discarding
    assert ours(engine, hub_id) == []
    assert os.listdir(home(one)) == []


def is_locked_up(inspected: dict[str, Any], folder: Path) -> None:
    host, config = inspected["HostConfig"], inspected["Config"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Privileged"] is False
    assert (host["NetworkMode"], host["PidsLimit"], host["Memory"]) == ("ds01-test", 64, 64 * 2**20)
    assert config["User"] == f"{folder.stat().st_uid}:{folder.stat().st_gid}"
    env = dict(line.split("=", 1) for line in config["Env"])
    assert (env["GIT_TERMINAL_PROMPT"], env["GIT_ALLOW_PROTOCOL"]) == ("0", "https:http")
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "JUPYTERHUB_API_TOKEN" not in env
    assert "ds01.session" not in config["Labels"]


async def is_same(held: Path, folder: Path, patience: float = 30) -> None:
    """What is held for the engine leads to the folder: as a mount, and once it is let go as a link. Between
    the two it is an empty folder and then nothing, for a moment."""
    end = time.monotonic() + patience
    while True:
        with contextlib.suppress(FileNotFoundError):
            if held.samefile(folder):
                return
        assert time.monotonic() < end, f"{held} is not {folder}"
        await asyncio.sleep(0.05)


REFUSED = [
    ("{server}/none.git", 424, "there is no such repository, or it is private"),
    ("{server}/good.git#week-9", 424, "it has no such branch or tag"),
    ("http://no-such-host.invalid/x", 424, "its host is not known here"),
    ("template:none", 400, "there is no such template"),
]


@pytest.mark.parametrize(("source", "status", "words"), REFUSED)
async def test_what_cannot_be_had_is_said_and_leaves_nothing(
    start, server, engine, hub_id, source, status, words
):
    one = start("alice", project="thesis", project_source=source.format(server=server))
    with pytest.raises(SessionRefused) as refused:
        await one.start()
    assert refused.value.status_code == status, str(refused.value)
    assert words in str(refused.value).lower()
    assert ours(engine, hub_id) == []
    assert not home(one).exists() or os.listdir(home(one)) == []
    assert attempts.choices("alice")["project_source"] == source.format(server=server)


async def test_the_next_try_works(start, server):
    one = start("alice", project="thesis", project_source=f"{server}/none.git")
    with pytest.raises(SessionRefused):
        await one.start()
    one.user_options = {"project": "thesis", "project_source": f"{server}/good.git"}
    await one.start()
    assert (home(one) / "thesis" / "README.md").exists()


async def test_schemes_and_hosts_are_the_sites_to_allow(start, server):
    for traits, words in (
        ({"c_git_schemes": ["https"]}, "begin with https://"),
        ({"c_git_schemes": []}, "no repositories"),
        ({"c_git_hosts": ["*.example.org"]}, "*.example.org"),
    ):
        one = start("alice", project="thesis", project_source=f"{server}/good.git", **traits)
        with pytest.raises(SessionRefused) as refused:
            await one.start()
        assert words in str(refused.value)


async def test_an_environment_without_git_says_so(start, server, busybox_image):
    one = start("alice", project="p", project_source=f"{server}/good.git", c_image=busybox_image)
    with pytest.raises(SessionRefused) as refused:
        await one.start()
    assert "has no git" in str(refused.value)
    assert refused.value.status_code == 409


async def test_too_slow_and_too_large_end_at_the_sites_limits(start, server, engine, hub_id):
    slow = start("alice", project="p", project_source=f"{server}/slow/x.git", c_git_time=1)
    with pytest.raises(SessionRefused) as refused:
        await slow.start()
    assert refused.value.status_code == 504
    assert "longer than 1s" in str(refused.value)
    large = start("bob", project="p", project_source=f"{server}/large.git", c_git_size=2**20)
    with pytest.raises(SessionRefused) as refused:
        await large.start()
    assert refused.value.status_code == 413, str(refused.value)
    assert ours(engine, hub_id) == []
    assert os.listdir(home(large)) == []


async def test_a_hostile_repository_is_the_users_own_and_harms_nobody(start, server, engine, hub_id):
    one = start("alice", project="p", project_source=f"{server}/hostile.git")
    await one.start()
    folder = home(one) / "p"
    assert os.readlink(folder / "passwd") == "/etc/passwd"
    assert Path("/etc/passwd").stat().st_uid == 0
    assert not (folder / "x" / ".git").exists()
    assert engine.containers.get(one.object_id).exec_run(["test", "-e", "/tmp/pwned"])[0] == 1
    assert {p.lstat().st_uid for p in folder.iterdir()} == {folder.stat().st_uid}


async def test_two_starts_of_one_new_project_fetch_it_once(start, server, spawner):
    source = f"{server}/good.git"
    one = start("alice", project="p", project_source=source)
    two = spawner(
        "alice", "s2", project="p", project_source=source,
        c_image=one.image, c_cmd=one.cmd, c_start_timeout=60, c_git_schemes=["http"],
    )  # fmt: skip
    await asyncio.gather(one.start(), two.start())
    said = [e["message"] for s in (one, two) for e in s.progress_log.events if "ready at" in e["message"]]
    assert sorted(m.partition(",")[2] for m in said) == [
        " as it was: it has files already, so nothing was fetched",
        f" from {source}",
    ]
    assert os.listdir(home(one)) == ["p"]


async def test_what_a_dead_hub_left_is_swept(start, server, engine, hub_id):
    one = start("alice", project="p", project_source=f"{server}/slow/x.git")
    task = asyncio.ensure_future(one.start())
    while not [c for c in ours(engine, hub_id) if c.status == "running"]:
        await asyncio.sleep(0.05)
    site, now = one.site, one.clock()
    assert sweep(site, now) == []
    later = now.replace(year=now.year + 1)
    assert await asyncio.to_thread(sweep, site, later) == [one.session_id]
    assert ours(engine, hub_id) == []
    with pytest.raises(SessionRefused):
        await task
    assert os.listdir(home(one)) == []


async def test_a_template_is_copied_as_the_owners(start, tmp_path):
    template = tmp_path / "templates" / "python"
    (template / "src").mkdir(parents=True)
    (template / "README.md").write_text("# A Python project\n")
    (template / "src" / "run.sh").write_text("true\n")
    (template / "src" / "run.sh").chmod(0o755)
    (template / "out").symlink_to("/etc/passwd")
    (template / "in").symlink_to("README.md")
    (template / "secret").write_text("x")
    (template / "secret").chmod(0o600)
    one = start(
        "alice", project="p", project_source="template:python",
        c_project_templates=str(tmp_path / "templates"),
    )  # fmt: skip
    await one.start()
    folder = home(one) / "p"
    assert sorted(os.listdir(folder)) == ["README.md", "in", "src"]
    assert {p.lstat().st_uid for p in folder.rglob("*")} == {folder.stat().st_uid}
    assert (folder / "src" / "run.sh").stat().st_mode & 0o100
    assert "project_source" not in one.user_options


def test_the_command_fetches_a_repository(server, engine, hub_id, lab_image, tmp_path, monkeypatch):
    (tmp_path / "workspaces").mkdir()
    settings = {
        "workspace_root": str(tmp_path / "workspaces"),
        "image": lab_image,
        "hub_id": hub_id,
        "network": "ds01-test",
        "git_schemes": ["http"],
    }
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))

    def init(name: str, address: str) -> tuple[int, dict[str, Any]]:
        command = ["project", "init", name, "--user", "alice", "--git", address, "--json"]
        result = CliRunner().invoke(build_app(), command)
        return result.exit_code, json.loads(result.stdout)

    code, said = init("thesis", f"{server}/good.git")
    assert code == 1
    assert "holds no installation" in said["message"]  # and a command makes none
    assert os.listdir(tmp_path / "workspaces" / "alice") == []
    installation.make(tmp_path)
    code, said = init("thesis", f"{server}/good.git")
    assert (code, said["created"]) == (0, True)
    assert (tmp_path / "workspaces" / "alice" / "thesis" / "README.md").stat().st_uid == said["uid"] >= 20000
    code, said = init("other", f"{server}/none.git")
    assert code == 1
    assert "no such repository" in said["message"].lower()
    assert os.listdir(tmp_path / "workspaces" / "alice") == ["thesis"]
    assert ours(engine, hub_id) == []

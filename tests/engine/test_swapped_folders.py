"""A folder that is exchanged for a link while a session starts is never mounted, or its session is ended."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from ds01spawner.core.errors import Refused
from ds01spawner.core.installation import Installation
from ds01spawner.engines.docker import launch, mount_sources
from ds01spawner.engines.docker.fetching import _begin, spec_for
from ds01spawner.engines.docker.mount_sources import MountSources, hold_of, shares_mounts, sweep
from ds01spawner.hub.http_errors import SessionRefused
from ds01spawner.policy.sources import GitSource
from ds01spawner.workspace import staging

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="folders are given to other accounts")


@pytest.fixture
def secret(tmp_path) -> Path:
    folder = tmp_path / "host-only"
    folder.mkdir()
    (folder / "key").write_text("HOST-FILE")
    return folder


@pytest.fixture
def swap_after(monkeypatch, secret):
    """Exchanges a folder for a link to the host's after a step: ``swap_after("prepare", folder)``."""

    def arrange(step: str, folder: Path) -> threading.Event:
        real, done = getattr(launch, step), threading.Event()

        def then_swap(*args, **kwargs):
            answer = real(*args, **kwargs)
            if not done.is_set():
                folder.rename(folder.with_name("moved-away"))
                folder.symlink_to(secret)
                done.set()
            return answer

        monkeypatch.setattr(launch, step, then_swap)
        return done

    return arrange


def content(engine, spawner) -> str:
    return engine.containers.get(spawner.container_id).exec_run(["ls", "/workspace"]).output.decode()


@pytest.mark.parametrize("step", ["claim", "prepare"])
async def test_a_swap_after_create_changes_nothing_for_the_session(
    spawner, engine, swap_after, tmp_path, step
):
    alice = spawner("alice", project="thesis")
    folder = tmp_path / "workspaces/alice/thesis"
    alice.site.workspaces.prepare("alice", "thesis")
    (folder / "mine.txt").write_text("mine")
    swapped = swap_after(step, folder)
    assert shares_mounts()  # this machine's engine sees what we mount
    await alice.start()
    assert swapped.is_set()
    assert content(engine, alice).split() == ["mine.txt"]
    await alice.stop(now=True)
    assert (tmp_path / "workspaces/alice/moved-away/mine.txt").exists()


@pytest.mark.parametrize("step", ["claim", "prepare"])
async def test_where_folders_cannot_be_held_the_session_is_ended(
    spawner, engine, swap_after, tmp_path, monkeypatch, secret, step, hub_id
):
    monkeypatch.setattr(launch, "shares_mounts", lambda _: False)
    alice = spawner("alice", project="thesis")
    alice.site.workspaces.prepare("alice", "thesis")
    swap_after(step, tmp_path / "workspaces/alice/thesis")
    with pytest.raises(SessionRefused, match="exchanged for another one"):
        await alice.start()
    left = engine.containers.list(all=True, filters={"label": f"ds01.hub={hub_id}"})
    assert left == []
    assert (secret / "key").read_text() == "HOST-FILE"


async def test_a_link_that_is_there_before_create_is_refused(spawner, swap_after, tmp_path, monkeypatch):
    alice = spawner("alice", project="thesis")
    folder = tmp_path / "workspaces/alice/thesis"
    alice.site.workspaces.prepare("alice", "thesis")
    real = launch.spec_of

    def swap_first(*args):
        folder.rename(folder.with_name("moved-away"))
        folder.symlink_to(tmp_path)
        return real(*args)

    monkeypatch.setattr(launch, "spec_of", swap_first)
    with pytest.raises(SessionRefused, match="exchanged for another one"):
        await alice.start()


async def test_course_data_that_is_swapped_is_not_mounted(
    spawner, engine, swap_after, tmp_path, monkeypatch, secret
):
    data = tmp_path / "data/set"
    data.mkdir(parents=True)
    (data / "rows.csv").write_text("1")
    alice = spawner("alice", project="thesis")
    mount = {"Type": "bind", "Source": str(data), "Target": "/data", "ReadOnly": True}
    monkeypatch.setattr("ds01spawner.hub.image_stage.data_mounts", lambda *_: (mount,))
    swap_after("claim", data)
    await alice.start()
    listing = engine.containers.get(alice.container_id).exec_run(["ls", "/data"]).output.decode()
    assert listing.split() == ["rows.csv"]
    await alice.stop(now=True)


async def test_a_staging_folder_that_is_swapped_is_not_filled(spawner, engine, tmp_path, monkeypatch, secret):
    alice = spawner("alice", project="thesis")
    site, offered = alice.site, alice.site.environments
    wanted = offered.choose(alice.person, site.limits(alice.person, alice.clock()), "")
    image, token = offered.resolve(wanted, alice.person), "a" * 32
    staged = staging.begin(site.workspaces, "alice", token)
    source = GitSource("https://192.0.2.1/x.git", "")
    spec = spec_for(
        site, alice.person, "thesis", source, staged, image, token, alice.clock(),
        network="none",
    )  # fmt: skip
    staged.path.rename(staged.path.with_name("moved"))
    staged.path.symlink_to(secret)
    with pytest.raises(Refused, match="exchanged"):
        _begin(site.engine.client, site, spec, staged.path)


@pytest.fixture
def hold(tmp_path):
    yield tmp_path / "hold"
    for place in (tmp_path / "hold").glob("*/*"):
        mount_sources._release(place)


def test_what_was_held_is_let_go_and_nothing_of_a_persons_is_deleted(tmp_path, hold):
    (tmp_path / "root/alice/p").mkdir(parents=True)
    (tmp_path / "root/alice/p/file").write_text("kept")
    sources = MountSources("s1", shares_mounts=True, hold=hold)
    place = Path(
        sources.below(tmp_path / "root", ("alice", "p"), "/workspace", str(tmp_path / "root/alice/p"))
    )
    assert place.parent.parent == hold
    assert (place / "file").read_text() == "kept"
    assert sweep([], hold) == 0  # a start is under way
    sources.close()
    sources.close()
    assert place.is_symlink()  # `docker cp` finds the folder by it
    assert sweep(["s1"], hold) == 0
    assert sweep([], hold) == 1
    assert not list(hold.iterdir())
    assert (tmp_path / "root/alice/p/file").read_text() == "kept"


def test_a_mount_of_a_hub_that_was_killed_is_taken_away(tmp_path, hold):
    (tmp_path / "root/alice/p").mkdir(parents=True)
    (tmp_path / "root/alice/p/file").write_text("kept")
    sources = MountSources("s1", shares_mounts=True, hold=hold)
    sources.below(tmp_path / "root", ("alice", "p"), "/workspace", "")
    (hold / f"{os.getpid()}-s1").rename(hold / "4194999-s1")  # no process has that number
    assert sweep([], hold) == 1
    assert not list(hold.iterdir())
    assert (tmp_path / "root/alice/p/file").read_text() == "kept"
    shutil.rmtree(hold)


def test_another_hubs_start_is_not_disturbed_by_a_sweep(tmp_path, monkeypatch):
    """A hub with process numbers of its own took the folders of starts that were under way elsewhere."""
    monkeypatch.setattr(mount_sources, "HOLD", tmp_path / "hold")
    mine, theirs = (Installation(i, b"") for i in ("one", "two"))
    (tmp_path / "root/alice/p").mkdir(parents=True)
    (tmp_path / "root/alice/p/file").write_text("kept")
    sources = MountSources("s1", shares_mounts=True, hold=hold_of(theirs))
    place = Path(sources.below(tmp_path / "root", ("alice", "p"), "/workspace", ""))
    foreign = place.parent.with_name("4194999-s1")  # as the other hub numbers it; no process here has that
    place.parent.rename(foreign)
    assert sweep([], hold_of(mine)) == 0
    assert (foreign / place.name / "file").read_text() == "kept"
    assert sweep([], hold_of(theirs)) == 1


@pytest.mark.parametrize("parts", [("link",), ("alice", "link"), ("alice", "file"), ("none",)])
def test_links_and_files_are_not_held(tmp_path, hold, parts):
    (tmp_path / "root/alice").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to(tmp_path)
    (tmp_path / "root/alice/link").symlink_to("/etc")
    (tmp_path / "root/alice/file").write_text("x")
    with pytest.raises(OSError):  # noqa: PT011
        MountSources("s1", shares_mounts=False, hold=hold).below(tmp_path / "root", parts, "/w", "")


def test_a_path_inside_a_container_is_not_followed_out_of_it(tmp_path):
    (tmp_path / "inside/real").mkdir(parents=True)
    (tmp_path / "inside/workspace").symlink_to("/real")
    (tmp_path / "inside/out").symlink_to("../../../../etc")
    root = os.open(tmp_path / "inside", os.O_PATH)
    found = mount_sources._open_in(root, "/workspace")
    assert os.fstat(found).st_ino == (tmp_path / "inside/real").stat().st_ino
    with pytest.raises(FileNotFoundError):
        mount_sources._open_in(root, "/out")
    (tmp_path / "inside/loop").symlink_to("/loop")
    with pytest.raises(OSError, match="too many links"):
        mount_sources._open_in(root, "/loop")

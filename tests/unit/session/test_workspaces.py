"""Folders on disk: made with the right owner, and no link below the root is ever followed."""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ds01spawner.workspace import safefs
from ds01spawner.workspace.identity import IdentityError, fixed_identity, next_uid, uid_range
from ds01spawner.workspace.projects import WorkspaceError, Workspaces

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="gives folders to other accounts")


def own() -> str:
    return f"{os.getuid() or 1000}:{os.getgid() or 1000}"


@pytest.fixture
def places(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    return Workspaces(root, own())


def test_a_project_is_made_and_found_again(places):
    made = places.prepare("alice", "thesis")
    assert made.created
    assert made.path == places.root / "alice" / "thesis"
    assert made.path.stat().st_uid == made.identity.uid
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o2770
    (made.path / "file").write_text("x")
    again = places.prepare("alice", "thesis")
    assert not again.created
    assert [p.name for p in places.projects("alice")] == ["thesis"]
    assert places.projects("bob") == []


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", "/etc", "a\0b", "", "{0}", "A", "x" * 64])
def test_what_is_no_project_touches_nothing(places, name):
    with pytest.raises(WorkspaceError):
        places.prepare("alice", name)
    assert list(places.root.iterdir()) == []


@pytest.mark.parametrize("user", ["..", "../bob", "a/b", "Ali ce", "{username}", "-rf", "ü", "x" * 200])
def test_any_user_name_gives_one_folder_below_the_root(places, user):
    made = places.prepare(user, "p")
    assert made.path.parent.parent == places.root
    assert made.path.resolve() == made.path


def test_links_are_refused_wherever_they_are(places, tmp_path):
    places.prepare("bob", "secret")
    places.prepare("alice", "own")
    (places.root / "alice" / "stolen").symlink_to(places.root / "bob" / "secret")
    (places.root / "alice" / "file").write_text("x")
    (places.root / "carol").symlink_to(places.root / "bob")
    for user, project in (("alice", "stolen"), ("alice", "file"), ("carol", "secret"), ("carol", "new")):
        with pytest.raises(WorkspaceError):
            places.prepare(user, project)
    assert [p.name for p in places.projects("alice")] == ["own"]
    assert places.projects("carol") == []
    assert not (places.root / "bob" / "new").exists()


def test_a_missing_root_is_said_and_never_made(tmp_path):
    places = Workspaces(tmp_path / "not-mounted", own())
    with pytest.raises(WorkspaceError) as error:
        places.prepare("alice", "p")
    assert error.value.status == 503
    assert not (tmp_path / "not-mounted").exists()


@root_only
def test_another_owners_folder_is_refused(places):
    places.prepare("alice", "own")
    (places.root / "alice" / "foreign").mkdir()
    os.chown(places.root / "alice" / "foreign", 4321, 4321)
    with pytest.raises(WorkspaceError, match="another account"):
        places.prepare("alice", "foreign")


@root_only
def test_uids_of_a_range_are_stable_and_never_shared(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    users = [f"user{n}" for n in range(20)]
    with ThreadPoolExecutor(8) as pool:
        uids = list(
            pool.map(lambda u: Workspaces(root, "range:30000-30100").prepare(u, "p").identity.uid, users)
        )
    assert sorted(uids) == list(range(30000, 30020))
    again = [Workspaces(root, "range:30000-30100").prepare(u, "q").identity.uid for u in users]
    assert again == uids


@root_only
def test_a_folder_owned_outside_the_range_is_not_taken_for_a_users(tmp_path):
    (tmp_path / "alice").mkdir()
    with pytest.raises(WorkspaceError):
        Workspaces(tmp_path, "range:30000-30100").prepare("alice", "p")
    assert list((tmp_path / "alice").iterdir()) == []


@pytest.mark.parametrize(("taken", "uid"), [([], 10), ([10], 11), ([10, 12], 13), ([5, 99], 10)])
def test_the_next_uid(taken, uid):
    assert next_uid(taken, 10, 20) == uid


def test_a_used_up_range_is_an_error():
    with pytest.raises(IdentityError, match="used up"):
        next_uid([20], 10, 20)


@pytest.mark.parametrize("mapping", ["0:0", "root", "range:0-5", "range:9-5", "1000", "-1:5"])
def test_wrong_mappings_are_errors(mapping):
    with pytest.raises(IdentityError):
        fixed_identity(mapping, "alice") or uid_range(mapping)


@root_only
def test_of_two_first_starts_none_sees_the_folder_without_its_owner(tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    places = Workspaces(root, "range:20000-20010")
    places.identity("alice")
    give = safefs._give

    def slowly(*args):
        time.sleep(0.2)
        give(*args)

    monkeypatch.setattr(safefs, "_give", slowly)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: places.prepare("alice", "default"), range(4)))
    assert sorted(m.created for m in made) == [False, False, False, True]
    assert {m.path.stat().st_uid for m in made} == {20000}

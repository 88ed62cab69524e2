"""The layer that touches other people's folders, against folders that fight back."""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import ds01spawner
from ds01spawner.workspace.safefs import BadName, Denied, Folder, NotPlain, Owner, TooLarge, write_whole
from ds01spawner.workspace.safewalk import Bounds, TooMuch, Walk

NOBODY = 65534
ORDERS: list[dict[str, bool]] = [
    {},
    {"in_order": True},
    {"by_level": True},
    {"by_level": True, "in_order": True},
]
REFUSED = "(?i)directory|symbolic|plain|changed"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def place(tmp_path):
    """``theirs`` is the folder of the person who attacks, ``secret`` what they want."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("SECRET")
    (tmp_path / "theirs").mkdir()
    return tmp_path


@pytest.fixture
def theirs(place):
    with Folder.open(place / "theirs") as folder:
        yield folder


@contextmanager
def being(uid):
    """The rights of another user for a moment."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


def names(walk):
    return sorted(entry.path for entry in walk)


def swap(monkeypatch, then):
    """Do something right after the layer has looked at a name, once."""
    look = Folder.look

    def looked(self, name):
        found = look(self, name)
        monkeypatch.setattr(Folder, "look", look)
        then()
        return found

    monkeypatch.setattr(Folder, "look", looked)


# --- names and links ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../secret", "a\0b"])
@pytest.mark.parametrize(
    "act",
    [
        lambda f, n: f.child(n),
        lambda f, n: f.look(n),
        lambda f, n: f.file(n),
        lambda f, n: f.create(n, 0o600),
        lambda f, n: f.replace(n, b"", 0o600),
        lambda f, n: f.make(n, 0o700),
        lambda f, n: f.rename("a", n),
        lambda f, n: f.rename(n, "a"),
        lambda f, n: f.link(n, "x"),
        lambda f, n: f.remove_tree(n),
        lambda f, n: f.descend(["theirs", n]),
    ],
)
def test_a_name_is_the_name_of_one_thing(theirs, name, act):
    os.mkdir("theirs", dir_fd=theirs.fd)
    with pytest.raises(BadName):
        act(theirs, name)


def test_no_link_is_followed(place, theirs):
    (place / "theirs/folder").symlink_to(place / "secret")
    (place / "theirs/file").symlink_to(place / "secret/key")
    for act in (theirs.child, theirs.file, lambda n: theirs.make(n, 0o700), theirs.remove_tree):
        with pytest.raises(OSError, match=REFUSED):
            act("folder")
    with pytest.raises(OSError, match=REFUSED):
        theirs.descend(["folder", "key"])
    with pytest.raises(NotPlain):
        theirs.read("file", 10)
    with pytest.raises(FileExistsError):
        theirs.create("file", 0o600)
    assert names(Walk(theirs, Bounds())) == ["file", "folder"]
    theirs.replace("file", b"mine", 0o600)
    assert (place / "secret/key").read_text() == "SECRET"
    assert (place / "theirs/file").read_text() == "mine"
    with pytest.raises(OSError, match=REFUSED):
        Folder.open(place / "theirs/folder", trusted=False)


def test_an_untrusted_beginning_may_be_no_link(place):
    (place / "way").symlink_to(place / "theirs")
    Folder.open(place / "way").close()
    with pytest.raises(OSError, match=REFUSED):
        Folder.open(place / "way", trusted=False)


# --- what is no plain file ----------------------------------------------------------------------


def test_pipes_sockets_folders_and_devices_are_not_opened(place, theirs):
    os.mkfifo(place / "theirs/pipe")
    (place / "theirs/folder").mkdir()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place / "theirs/socket"))
    for name in ("pipe", "folder", "socket"):
        with pytest.raises(NotPlain):
            theirs.read(name, 10)
    with Folder.open("/dev") as dev, pytest.raises(NotPlain):
        dev.read("zero", 10)


def test_a_file_that_becomes_something_else_while_it_is_opened(place, theirs, monkeypatch):
    file = place / "theirs/file"

    def becomes(make):
        def then():
            file.unlink()
            make()

        return then

    for make in (
        lambda: file.symlink_to(place / "secret/key"),
        lambda: os.mkfifo(file),
        lambda: os.link(place / "secret/key", file),
        file.mkdir,
    ):
        file.write_text("theirs")
        swap(monkeypatch, becomes(make))
        with pytest.raises(OSError, match=REFUSED):
            theirs.read("file", 100)
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()


def test_what_the_caller_does_not_allow_is_not_read(place, theirs):
    os.link(place / "secret/key", place / "theirs/file")
    with pytest.raises(NotPlain, match="not theirs"):
        theirs.read("file", 100, lambda status: status.st_nlink == 1)
    assert theirs.read("file", 100) == b"SECRET"
    with pytest.raises(TooLarge):
        theirs.read("file", 5)


# --- writing ------------------------------------------------------------------------------------


@as_root
def test_what_is_made_is_its_owner_s_or_not_there(place, theirs, monkeypatch):
    owner = Owner(NOBODY, NOBODY)
    folder, made = theirs.make("folder", 0o750, owner)
    with folder:
        status = folder.status()
        assert (made, status.st_uid, stat.S_IMODE(status.st_mode)) == (True, NOBODY, 0o750)
    again, made = theirs.make("folder", 0o700, Owner(1, 1))
    again.close()
    assert (made, (place / "theirs/folder").stat().st_uid) == (False, NOBODY)
    with theirs.create("file", 0o640, owner) as file:
        file.write(b"x")
    theirs.replace("file", b"y", 0o600, owner)
    assert ((place / "theirs/file").stat().st_uid, (place / "theirs/file").read_text()) == (NOBODY, "y")
    theirs.link("link", "/etc/passwd", owner)
    assert (place / "theirs/link").lstat().st_uid == NOBODY

    def fail(*_):
        raise PermissionError(1, "no")

    monkeypatch.setattr(os, "fchown", fail)
    for act in (lambda: theirs.make("new", 0o700, owner), lambda: theirs.create("new", 0o600, owner)):
        with pytest.raises(PermissionError):
            act()
    with pytest.raises(PermissionError):
        theirs.replace("file", b"z", 0o600, owner)
    assert sorted(theirs.names()) == ["file", "folder", "link"]
    assert (place / "theirs/file").read_text() == "y"


def test_a_folder_keeps_the_bit_that_hands_its_group_on(place, theirs):
    os.chmod(place / "theirs", 0o2770)
    folder, _ = theirs.make("below", 0o750)
    with folder:
        assert stat.S_IMODE(folder.status().st_mode) == 0o2750


def test_a_whole_file_or_none(place):
    write_whole(place / "state.json", b"one", 0o600)
    write_whole(place / "state.json", b"two", 0o600)
    assert (place / "state.json").read_bytes() == b"two"
    assert stat.S_IMODE((place / "state.json").stat().st_mode) == 0o600
    (place / "state.json").unlink()
    (place / "state.json").mkdir()
    with pytest.raises(OSError, match=REFUSED):
        write_whole(place / "state.json", b"three", 0o600)
    assert sorted(p.name for p in place.iterdir()) == ["secret", "state.json", "theirs"]


# --- walking ------------------------------------------------------------------------------------


def grow(place):
    for path in ("a/b/c", "d"):
        (place / "theirs" / path).mkdir(parents=True)
    for path in ("a/1", "a/b/2", "a/b/c/3", "4"):
        (place / "theirs" / path).write_text("x")


@pytest.mark.parametrize(
    "how", [{}, {"in_order": True}, {"by_level": True}, {"by_level": True, "in_order": True}]
)
def test_everything_once(place, theirs, how):
    grow(place)
    walk = Walk(theirs, Bounds(), **how)
    assert names(walk) == ["4", "a", "a/1", "a/b", "a/b/2", "a/b/c", "a/b/c/3", "d"]
    assert (walk.complete, walk.seen) == (True, 8)


def test_the_order_of_a_walk(place, theirs):
    grow(place)
    by_branch = [e.path for e in Walk(theirs, Bounds(), in_order=True)]
    assert by_branch == ["4", "a", "a/1", "a/b", "a/b/2", "a/b/c", "a/b/c/3", "d"]
    by_level = [e.path for e in Walk(theirs, Bounds(), in_order=True, by_level=True)]
    assert by_level == ["4", "a", "d", "a/1", "a/b", "a/b/2", "a/b/c", "a/b/c/3"]


def test_a_folder_may_be_left_out(place, theirs):
    grow(place)
    walk = Walk(theirs, Bounds(), in_order=True, admit=lambda entry, status: entry.name != "b")
    found = []
    for entry in walk:
        found.append(entry.path)
        entry.enter = entry.name != "d"
    assert found == ["4", "a", "a/1", "a/b", "d"]
    assert walk.complete


@pytest.mark.parametrize("how", [{}, {"in_order": True}, {"by_level": True}])
@pytest.mark.parametrize(
    ("bounds", "kind"),
    [(Bounds(entries=3), "entries"), (Bounds(depth=1), "depth"), (Bounds(until=0.0), "time")],
)
def test_a_bound_ends_a_walk(place, theirs, how, bounds, kind):
    grow(place)
    walk = Walk(theirs, bounds, **how)
    assert len(names(walk)) < 8
    assert not walk.complete
    with pytest.raises(TooMuch) as error:
        list(Walk(theirs, bounds, strict=True, **how))
    assert error.value.kind == kind


@pytest.fixture
def deep(place):
    """A tree of three thousand levels, which no path reaches."""
    here = os.open(place / "theirs", os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


@pytest.mark.usefixtures("deep")
@pytest.mark.parametrize("by_level", [False, True])
def test_a_deep_tree(theirs, by_level):
    before = len(os.listdir("/proc/self/fd"))
    walk = Walk(theirs, Bounds(depth=64), by_level=by_level)
    assert len(names(walk)) == 65
    assert not walk.complete
    assert len(os.listdir("/proc/self/fd")) == before
    theirs.remove_tree("d")
    assert theirs.names() == []


def test_a_hundred_thousand_entries(place, theirs):
    for i in range(100_000):
        os.mknod(place / f"theirs/{i}")
    for how in ORDERS:
        walk = Walk(theirs, Bounds(entries=1000), **how)
        assert (len(names(walk)), walk.seen, walk.complete) == (1000, 1000, False)
    whole = Walk(theirs, Bounds())
    assert sum(1 for _ in whole) == 100_000
    assert whole.complete


def test_many_folders_are_not_remembered_without_end(place, theirs):
    for i in range(50):
        (place / f"theirs/{i}/x").mkdir(parents=True)
    walk = Walk(theirs, Bounds(waiting=10), by_level=True)
    assert len(names(walk)) == 60
    assert not walk.complete


@as_root
def test_a_folder_that_cannot_be_read_is_named_and_makes_it_incomplete(place, theirs):
    grow(place)
    os.chmod(place, 0o755)
    os.chmod(place / "theirs/a", 0o700)
    with being(NOBODY):
        walk = Walk(theirs, Bounds())
        assert names(walk) == ["4", "a", "d"]
    assert not walk.complete


def test_another_file_system_is_named_and_not_entered():
    with Folder.open("/") as root:
        walk = Walk(root, Bounds(depth=1, entries=100_000))
        found = names(walk)
    assert "proc" in found
    assert "proc" in walk.crossed
    assert not [path for path in found if path.startswith("proc/")]


def test_a_root_that_is_renamed_and_replaced_is_still_the_one_that_was_opened(place, theirs):
    grow(place)
    (place / "theirs").rename(place / "away")
    (place / "theirs").symlink_to(place / "secret")
    assert "key" not in names(Walk(theirs, Bounds()))
    assert theirs.has("a")
    theirs.replace("new", b"x", 0o600)
    assert (place / "away/new").exists()
    assert [p.name for p in (place / "secret").iterdir()] == ["key"]


@pytest.mark.parametrize("by_level", [False, True])
def test_a_folder_that_becomes_a_link_between_two_steps(place, theirs, by_level):
    grow(place)
    found = []
    for entry in Walk(theirs, Bounds(), by_level=by_level):
        found.append(entry.path)
        if entry.path == "a":
            (place / "theirs/a").rename(place / "gone")
            (place / "theirs/a").symlink_to(place / "secret")
    assert sorted(found) == ["4", "a", "d"]


def test_what_goes_away_is_left_out(place, theirs):
    grow(place)
    walk = Walk(theirs, Bounds(), in_order=True)
    found = []
    for entry in walk:
        found.append(entry.path)
        if entry.path == "4":
            (place / "theirs/a/b/c/3").unlink()
        if entry.path == "a":
            (place / "theirs/d").rmdir()
    assert found == ["4", "a", "a/1", "a/b", "a/b/2", "a/b/c"]


def test_an_attacker_who_never_rests(place, theirs):
    """Folder, link and pipe take turns under one name while it is read: the secret is never seen."""
    tree = place / "theirs"
    (place / "honest").mkdir()
    (place / "honest/key").write_text("honest")
    (tree / "x").mkdir()
    (tree / "x/key").write_text("honest")
    stop = threading.Event()

    def attack():
        turns = [lambda p: p.symlink_to(place / "secret"), os.mkfifo, lambda p: p.symlink_to("/")]
        while not stop.is_set():
            for turn in turns:
                with suppress(OSError):
                    (tree / "x").rename(tree / "y")
                    turn(tree / "x")
                    (tree / "x").unlink()
                with suppress(OSError):
                    (tree / "y").rename(tree / "x")

    attacker = threading.Thread(target=attack)
    attacker.start()
    seen, until = set(), time.monotonic() + 3
    try:
        while time.monotonic() < until:
            for by_level in (False, True):
                for entry in Walk(theirs, Bounds(depth=3, entries=200), by_level=by_level):
                    assert entry.parts[0] in ("x", "y")
                    if not entry.is_folder and entry.name == "key":
                        with suppress(OSError):
                            seen.add(entry.folder.read("key", 100))
            with suppress(OSError), theirs.descend(["x"]) as folder:
                seen.add(folder.read("key", 100))
    finally:
        stop.set()
        attacker.join()
    assert seen == {b"honest"}


# --- removing -----------------------------------------------------------------------------------


def test_only_what_is_below_is_removed(place, theirs):
    grow(place)
    (place / "theirs/a/way").symlink_to(place / "secret")
    (place / "theirs/a/b/out").symlink_to("/")
    os.mkfifo(place / "theirs/a/b/pipe")
    theirs.remove_tree("a")
    theirs.remove_tree("a")
    assert sorted(theirs.names()) == ["4", "d"]
    assert (place / "secret/key").read_text() == "SECRET"
    with pytest.raises(NotADirectoryError):
        theirs.remove_tree("4")


def test_two_remove_at_once(place, theirs):
    for i in range(200):
        (place / f"theirs/a/{i}/x").mkdir(parents=True)
    failed = []

    def remove():
        try:
            theirs.remove_tree("a")
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert theirs.names() == []


def test_no_other_module_makes_its_own_way():
    """The engine's adapter holds mount sources by descriptors of another kind, and two programs run alone."""
    package = Path(ds01spawner.__file__).parent
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"dir_fd|O_NOFOLLOW|os\.f?walk\(|rglob\(", path.read_text())
    }
    assert found - {"workspace/safefs.py", "workspace/folder_modes.py"} == {
        "engines/docker/mount_sources.py",
        "engines/docker/reach_program.py",
        "environments/builder/gitchild.py",
        "environments/singleuser/open.py",
        "intents/files.py",
    }


def test_what_this_layer_refuses_is_an_error_of_the_system_to_its_callers():
    for error in (BadName("x"), NotPlain("x"), TooLarge("x", 1), TooMuch("time", "x")):
        assert isinstance(error, Denied)
        assert isinstance(error, OSError)
        assert error.strerror
        assert error.errno

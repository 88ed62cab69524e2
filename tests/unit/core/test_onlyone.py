"""One service of its kind: who gives way to whom, and what is certain before a process is ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from ds01spawner.core.onlyone import Holder, gives_way, only_one
from ds01spawner.core.process import Process

OLD, NEW, MINE = Process(10, 100), Process(11, 200), Process(12, 300)
GONE = Process(2**22 + 1, 1)

HOLD = """
import fcntl, signal, sys, time
from pathlib import Path
from ds01spawner.core.onlyone import Holder, only_one
from ds01spawner.core.process import Process
path, hub, installation, deaf = sys.argv[1:]
if deaf == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with only_one(Path(path), Holder(Process.this(), Process.parse(hub), installation)):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.mark.parametrize(
    ("theirs", "mine", "alive", "installation", "way"),
    [
        (OLD, NEW, False, "here", True),
        (OLD, NEW, True, "here", True),  # the older hub still shuts down
        (NEW, OLD, True, "here", False),
        (NEW, OLD, False, "here", True),
        (OLD, OLD, True, "here", False),
        (None, NEW, False, "here", False),  # started by hand
        (OLD, None, False, "here", False),
        (OLD, NEW, False, "elsewhere", False),
    ],
)
def test_who_gives_way(theirs, mine, alive, installation, way):
    holder = Holder(Process(20, 150), theirs, installation)
    assert gives_way(holder, Holder(MINE, mine, "here"), alive) is way


def test_a_record_is_read_back_and_anything_else_is_none():
    holder = Holder(OLD, NEW, "here")
    assert Holder.parse(holder.dump()) == holder
    for text in ("", "{}", "[]", "null", "12", '{"process": "x", "hub": "", "installation": ""}', "{" * 5000):
        assert Holder.parse(text) is None


def held(path, hub: Process, installation="here", deaf="") -> subprocess.Popen:
    """A process that holds the lock, as started by that hub."""
    made = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(hub), installation, deaf],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None
    assert made.stdout.readline() == "held\n"
    return made


def me(hub: Process = NEW) -> Holder:
    return Holder(Process.this(), hub, "here")


@pytest.mark.parametrize("how", ["", "deaf", "stopped"])
def test_a_newer_hub_takes_over_from_one_that_is_gone(tmp_path, how):
    other = held(tmp_path / "lock", GONE, deaf=how)
    if how == "stopped":
        subprocess.run(["kill", "-STOP", str(other.pid)], check=True)
    with only_one(tmp_path / "lock", me(), ask=1):
        assert other.wait(10) == (-15 if how == "" else -9)
        assert Holder.parse((tmp_path / "lock").read_text()) == me()


@pytest.mark.parametrize(
    "change",
    ["another installation", "no record", "a later process of that id", "the file is not open there"],
)
def test_what_is_not_proven_is_waited_for_and_never_ended(tmp_path, change):
    lock = tmp_path / "lock"
    other = held(lock, GONE, "elsewhere" if change == "another installation" else "here")
    process = Process.of(other.pid)
    assert process is not None
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    if change == "no record":
        lock.write_text("")
    elif change == "a later process of that id":
        lock.write_text(Holder(Process(process.pid, process.started + 1), GONE, "here").dump())
    elif change == "the file is not open there":
        third = Process.of(bystander.pid)
        assert third is not None
        lock.write_text(Holder(third, GONE, "here").dump())
    waits = []

    def wait(_: float) -> None:
        waits.append(other.poll())
        if len(waits) == 3:
            other.kill()
            other.wait()

    with only_one(lock, me(), ask=0.2, wait=wait):
        assert waits == [None, None, None]
        assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_second_one_waits_for_the_end_of_the_first(tmp_path):
    order, waiting = [], threading.Event()

    def second():
        with only_one(tmp_path / "lock", me(), wait=lambda _: waiting.set()):
            order.append("second")

    with only_one(tmp_path / "lock", me()):
        other = threading.Thread(target=second)
        other.start()
        assert waiting.wait(10)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_a_lock_file_that_was_deleted_is_made_again(tmp_path):
    lock = tmp_path / "lock"
    with only_one(lock, me()):
        lock.unlink()
        with only_one(lock, me()):
            assert json.loads(lock.read_text())["process"].startswith(f"{os.getpid()}:")

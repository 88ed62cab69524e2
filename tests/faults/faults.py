"""Each fault: how it is done, and how it is undone. All act from outside, none through the product."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from .engine import ERRORS
from .gate import FAIL, HANG, PASS
from .observe import Observer, Seen
from .plan import Fault
from .stage import Stage

Doing = Callable[["Doer", Fault], Iterator[None]]


class Doer:
    """Carries faults out. ``store_lost`` are the times at which history was taken away from the product,
    ``clock_off`` those at which its clock was wrong, ``no_room`` those at which workspaces were full."""

    def __init__(self, stage: Stage, observer: Observer) -> None:
        self.stage, self.observer = stage, observer
        self.store_lost: list[tuple[float, float]] = []
        self.clock_off: list[tuple[float, float]] = []
        self.no_room: list[tuple[float, float]] = []
        self.engine_killed: list[float] = []
        self.done: dict[str, int] = {}
        self.missed: dict[str, int] = {}

    def begin(self, fault: Fault) -> ExitStack:
        """Do it; close what is returned to undo it."""
        stack = ExitStack()
        kind = ACTS[fault.kind]
        self.stage.log.say("fault", kind=fault.kind, number=fault.number, lasts=fault.lasts)
        try:
            stack.enter_context(contextmanager(kind)(self, fault))
            self.done[fault.kind] = self.done.get(fault.kind, 0) + 1
        except (NoVictim, *ERRORS, subprocess.CalledProcessError) as error:
            self.missed[fault.kind] = self.missed.get(fault.kind, 0) + 1
            self.stage.log.say("fault missed", number=fault.number, kind=fault.kind, why=str(error)[:200])
        return stack

    def victim(self, fault: Fault) -> Seen:
        """A running session, by the fault's chance."""
        live = self.observer.live()
        if not live:
            raise NoVictim("no session runs")
        return live[int(fault.chance * len(live))]


class NoVictim(Exception):
    """There is nothing to do this fault to."""


# --- processes --------------------------------------------------------------------------------------


def kill(name: str, doer: Doer, fault: Fault) -> Iterator[None]:
    if not doer.stage.signal(name, signal.SIGKILL):
        raise NoVictim(f"{name} does not run")
    yield


def stop(name: str, doer: Doer, fault: Fault) -> Iterator[None]:
    stopped = doer.stage.signal(name, signal.SIGSTOP)
    if not stopped:
        raise NoVictim(f"{name} does not run")
    yield
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def kill_engine(keep: bool, doer: Doer, fault: Fault) -> Iterator[None]:
    engine = doer.stage.engine
    if not engine.up:
        raise NoVictim("the engine is down")
    engine.up = False
    engine.keep_containers(keep)
    if not keep:
        doer.observer.mark_all("engine")
    engine.kill()
    doer.engine_killed.append(time.time())
    yield
    engine.start()
    engine.up = True
    if not keep:
        doer.observer.mark_all("engine")
        engine.keep_containers(True)


def gate(mode: str, doer: Doer, fault: Fault) -> Iterator[None]:
    if doer.stage.gate.mode != PASS:
        raise NoVictim("the gate does something already")
    doer.stage.gate.set(mode)
    yield
    doer.stage.gate.set(PASS)


# --- containers and networks ------------------------------------------------------------------------


def container(how: str, doer: Doer, fault: Fault) -> Iterator[None]:
    victim = doer.victim(fault)
    found = doer.stage.engine.client().containers.get(victim.container)
    doer.observer.mark(victim.session, f"outside {how}")
    doer.stage.log.say("victim", session=victim.session, how=how)
    if how == "removed":
        found.remove(force=True)
    elif how == "stopped":
        found.stop(timeout=1)
    elif how == "killed":
        found.kill()
    else:
        found.pause()
    yield
    if how == "paused":
        with suppress(*ERRORS):
            found.unpause()


def network_taken(doer: Doer, fault: Fault) -> Iterator[None]:
    victim = doer.victim(fault)
    network = doer.stage.engine.client().networks.get("ds01-test")
    doer.observer.mark(victim.session, "network")
    network.disconnect(victim.container, force=True)
    yield
    with suppress(*ERRORS):
        network.connect(victim.container)


def network_down(doer: Doer, fault: Fault) -> Iterator[None]:
    network = doer.stage.engine.client().networks.get("ds01-test")
    bridge = f"br-{network.id[:12]}"
    doer.observer.mark_all("network")
    subprocess.run(["ip", "link", "set", bridge, "down"], check=True)
    yield
    subprocess.run(["ip", "link", "set", bridge, "up"], check=False)


# --- the store --------------------------------------------------------------------------------------


def store_locked(doer: Doer, fault: Fault) -> Iterator[None]:
    connection = sqlite3.connect(_store(doer), timeout=5, check_same_thread=False)
    connection.execute("BEGIN EXCLUSIVE")
    yield
    connection.rollback()
    connection.close()


def store_deleted(doer: Doer, fault: Fault) -> Iterator[None]:
    """The whole of it or nothing: where the file itself cannot go, its log of writes must not go alone."""
    began = time.time()
    for path in sorted(doer.stage.hub.state.glob("ds01.sqlite*")):
        path.unlink()
    yield
    doer.store_lost.append((began, time.time()))


def store_read_only(doer: Doer, fault: Fault) -> Iterator[None]:
    """Whoever opens it from now on may read only; those who have it open are made to open it again."""
    path = str(_store(doer))
    subprocess.run(["mount", "--bind", path, path], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
    doer.stage.signal("service", signal.SIGKILL)
    yield
    subprocess.run(["umount", "-l", path], check=True)


def store_corrupt(doer: Doer, fault: Fault) -> Iterator[None]:
    """Its first page is overwritten. An administrator moves it away afterwards, as the message says."""
    began = time.time()
    with _store(doer).open("r+b") as file:
        file.write(b"\xff" * 4096)
    yield
    for path in sorted(doer.stage.hub.state.glob("ds01.sqlite*")):
        path.rename(path.with_name(f"corrupt-{fault.number}-{path.name}"))
    doer.store_lost.append((began, time.time()))


def _store(doer: Doer) -> Path:
    path = doer.stage.hub.state / "ds01.sqlite"
    if not path.exists():
        raise NoVictim("there is no store file")
    return path


# --- disks and locks --------------------------------------------------------------------------------


def disk_full(where: str, doer: Doer, fault: Fault) -> Iterator[None]:
    path = doer.stage.folder / where / "filler"
    if path.exists():
        raise NoVictim("it is full")
    began = time.time()
    with suppress(OSError), path.open("wb") as file:
        while True:
            file.write(b"\0" * 65536)
    yield
    path.unlink()
    if where == "hub/workspaces":
        doer.no_room.append((began, time.time()))


def claim_lock_held(doer: Doer, fault: Fault) -> Iterator[None]:
    with (doer.stage.hub.state / "claim.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def claim_lock_deleted(doer: Doer, fault: Fault) -> Iterator[None]:
    with suppress(FileNotFoundError):
        (doer.stage.hub.state / "claim.lock").unlink()
    yield


# --- driver -----------------------------------------------------------------------------------------


def card_lost(doer: Doer, fault: Fault) -> Iterator[None]:
    doer.stage.lost.add(0)
    doer.stage.draw()
    yield
    doer.stage.lost.discard(0)
    doer.stage.draw()
    doer.stage.card_faulted_at = time.time()


def slices_remade(doer: Doer, fault: Fault) -> Iterator[None]:
    """The driver lets none re-make slices that are in use, so the slices of an unused card are."""
    held = {u for s in doer.observer.there() for u in s.devices}
    if any(u.startswith("MIG-0001") for u in held):
        raise NoVictim("the card's slices are in use")
    doer.stage.generation += 1
    doer.stage.draw()
    yield


def driver_hangs(doer: Doer, fault: Fault) -> Iterator[None]:
    doer.stage.draw(slow=True)
    yield
    doer.stage.draw()
    doer.stage.card_faulted_at = time.time()


# --- clock ------------------------------------------------------------------------------------------


def clock_jumps(seconds: int, doer: Doer, fault: Fault) -> Iterator[None]:
    began = time.time()
    doer.stage.clock.set(seconds)
    yield
    doer.stage.clock.set(0)
    doer.clock_off.append((began, time.time()))


ACTS: dict[str, Doing] = {
    "clock ahead": partial(clock_jumps, 3600),
    "clock behind": partial(clock_jumps, -3600),
    **{f"kill {name}": partial(kill, name) for name in ("hub", "service", "idle", "proxy")},
    **{f"stop {name}": partial(stop, name) for name in ("hub", "service", "idle", "proxy", "engine")},
    "kill engine, sessions live": partial(kill_engine, True),
    "kill engine, sessions end": partial(kill_engine, False),
    "engine answers 500": partial(gate, FAIL),
    "engine hangs": partial(gate, HANG),
    **{f"container {how}": partial(container, how) for how in ("killed", "removed", "stopped", "paused")},
    "network taken from a session": network_taken,
    "network down": network_down,
    "store locked": store_locked,
    "store deleted": store_deleted,
    "store read-only": store_read_only,
    "store corrupt": store_corrupt,
    "state disk full": partial(disk_full, "hub/state"),
    "workspace disk full": partial(disk_full, "hub/workspaces"),
    "engine disk full": partial(disk_full, "engine"),
    "claim lock held": claim_lock_held,
    "claim lock deleted": claim_lock_deleted,
    "card lost": card_lost,
    "slices remade": slices_remade,
    "driver hangs": driver_hangs,
}

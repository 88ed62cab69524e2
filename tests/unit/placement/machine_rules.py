"""The state machine: sessions, strangers, crashes, lost cards and new slices, in any order.

The product's own `claim`, lock, ledger, claims and placement run unchanged, in threads that stop between
any two of their acts. After each act, what they say is compared with the truth of `world`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import ClassVar
from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from stepper import Killed, Stepper
from support.claiming import claim
from support.ours import INSTALLATION
from world import ALIVE, LAYOUTS, Box, Host

from ds01spawner.core.errors import EngineError, LockError, Refused
from ds01spawner.engines.docker import pids
from ds01spawner.engines.docker.ledger import Ledger
from ds01spawner.placement import status
from ds01spawner.placement.devices import Block, GpuRequest

PROFILES = ("auto", "full", "1g.10gb", "2g.20gb", "3g.40gb", "4g.40gb")
KEYS = frozenset({"user:ann"})
EXPECTED = (Refused, LockError, EngineError, Killed)
MOST_BOXES, MOST_STRANGERS, MOST_CLAIMS = 24, 4, 4
STRANGERS = 900_000
"""Numbers from here on are processes outside every container."""

pick = st.integers(0, 10**6)


def asks(*ids: str, count: int = 0, driver: str = "") -> dict:
    """One device request."""
    return {"Driver": driver, "DeviceIDs": list(ids), "Count": count, "Capabilities": [["gpu"]]}


def by(*requests: dict, **truth) -> dict:
    """A container with these device requests, and what it reaches."""
    return {"host": {"DeviceRequests": list(requests)}, **truth}


def runtime(*env: str, name: str = "nvidia", **truth) -> dict:
    """A container of a runtime that obeys the environment."""
    return {"host": {"Runtime": name}, "env": env, **truth}


FORMS = (
    lambda uuid, n, every, card: by(asks(uuid), names=(uuid,)),
    lambda uuid, n, every, card: by(asks(str(n)), cards=(n,)),
    lambda uuid, n, every, card: by(asks(count=n + 1), cards=every[: n + 1]),
    lambda uuid, n, every, card: by(asks(count=-1), cards=every),
    lambda uuid, n, every, card: by(asks(f"nvidia.com/gpu={uuid}", driver="cdi"), names=(uuid,)),
    lambda uuid, n, every, card: by(asks(str(n)), asks(uuid), names=(uuid,), cards=(n,)),
    lambda uuid, n, every, card: by(asks(card), names=(card,)),
    lambda uuid, n, every, card: {"host": {"Devices": [{"PathOnHost": f"/dev/nvidia{n}"}]}, "cards": (n,)},
    lambda uuid, n, every, card: {"host": {"Privileged": True}, "cards": every},
    lambda uuid, n, every, card: runtime("CUDA_VERSION=12.4", cards=every),
    lambda uuid, n, every, card: runtime(f"NVIDIA_VISIBLE_DEVICES={uuid}", names=(uuid,)),
    lambda uuid, n, every, card: runtime("NVIDIA_VISIBLE_DEVICES=all", "CUDA_VERSION=12", name="runc"),
)
"""Every way a stranger's container can get at GPUs (the last one cannot), and what it then reaches."""


class Placing(RuleBasedStateMachine):
    """See the module's text. Subclasses plant a defect by overriding one of the first methods."""

    acts = 0
    seen: ClassVar[Counter] = Counter()
    """How often what happened, over all runs: a test that never grants proves nothing."""

    @staticmethod
    def planted():
        """What is changed in the product while this machine runs; nothing."""
        return nullcontext()

    def claim(self, *args, **kwargs):
        """The claim under test."""
        return claim(*args, **kwargs)

    def ledger(self) -> Ledger:
        """A ledger under test; two are used, as by two processes."""
        return Ledger(lambda: self.host, installation=lambda: INSTALLATION)

    # --- set-up ---------------------------------------------------------------------------------

    @initialize()
    def set_up(self) -> None:
        self.host = Host()
        self.folder = Path(tempfile.mkdtemp(prefix="ds01-machine-"))
        self.ledgers = [self.ledger(), self.ledger()]
        self.claims: list[Stepper] = []
        self.created: list[Box] = []
        self.not_here = mock.patch.object(pids, "in_host_namespace", return_value=False)
        self.not_here.start()

    def teardown(self) -> None:
        if hasattr(self, "host"):
            for one in self.claims:
                one.kill()
            self.not_here.stop()
            shutil.rmtree(self.folder, ignore_errors=True)

    def idle(self) -> bool:
        """Whether no claim is under way: between a claim's read and its create strangers cannot be seen."""
        return not self.claims

    def nth(self, items, number):
        items = list(items)
        return items[number % len(items)] if items else None

    def box(self, number: int, *states: str) -> Box | None:
        found = [b for b in self.host.boxes.values() if not states or b.state in states]
        return self.nth(found, number)

    # --- sessions -------------------------------------------------------------------------------

    @rule(
        profile=st.sampled_from(PROFILES),
        count=st.sampled_from([1, 1, 1, 2]),
        which=pick,
        real=st.booleans(),
        keyed=st.booleans(),
    )
    def begin(self, profile, count, which, real, keyed) -> None:
        self.ask(profile, count, which, real, keyed)

    def ask(self, profile, count, which, real, keyed) -> None:
        if len(self.claims) >= MOST_CLAIMS or len(self.host.boxes) >= MOST_BOXES:
            return
        keys = KEYS if keyed else frozenset()

        def work(stepper: Stepper):
            def gpus():
                stepper.pause("locked")
                return self.host.reading()

            def blocks():
                stepper.pause("read")
                return dict(self.host.blocks)

            def create(placement) -> str:
                stepper.pause("chosen")
                uuids = tuple(d.uuid for d in placement.devices)
                self.check_grant(uuids, profile, count, keys)
                box = self.host.add_session(uuids, real)
                self.created.append(box)
                stepper.pause("created")
                return box.ident

            asked, ledger = GpuRequest(profile, count), self.ledgers[which % 2]
            return self.claim(self.folder / "lock", ledger, gpus, blocks, asked, create, keys=keys, timeout=0)

        self.watch(Stepper(work))

    @precondition(lambda self: self.claims)
    @rule(which=pick)
    def go_on(self, which) -> None:
        one = self.nth(self.claims, which)
        one.step()
        self.watch(one)

    @precondition(lambda self: self.claims)
    @rule(which=pick)
    def finish(self, which) -> None:
        self.end(self.nth(self.claims, which))

    def end(self, one: Stepper) -> None:
        while not one.done:
            one.step()
        self.watch(one)

    @precondition(lambda self: self.claims)
    @rule(which=pick)
    def crash(self, which) -> None:
        one = self.nth(self.claims, which)
        one.kill()
        self.watch(one)

    @rule(profile=st.sampled_from(PROFILES), acts=st.integers(0, 3))
    def claim_and_crash(self, profile, acts) -> None:
        """A claim that dies after so many of its acts."""
        before = list(self.claims)
        self.ask(profile, 1, acts, True, False)
        for one in [c for c in self.claims if c not in before]:
            for _ in range(acts):
                if not one.done:
                    one.step()
            one.kill()
            self.watch(one)

    @rule(profile=st.sampled_from(PROFILES), which=pick)
    def launch(self, profile, which) -> None:
        """A claim that nobody disturbs, and its start."""
        known = set(self.host.boxes)
        self.ask(profile, 1, which, True, False)
        if self.claims:
            self.end(self.claims[-1])
        for ident in set(self.host.boxes) - known:
            self.host.start(self.host.boxes[ident])

    @rule(profile=st.sampled_from(PROFILES), acts=st.integers(1, 3), keyed=st.booleans())
    def race(self, profile, acts, keyed) -> None:
        """Two ask for the same; the first gets some way, the second as far as it can, then the first ends."""
        before = list(self.claims)
        self.ask(profile, 1, 0, True, keyed)
        first = [c for c in self.claims if c not in before]
        for one in first:
            for _ in range(acts - 1):
                if not one.done:
                    one.step()
        self.ask(profile, 1, 1, True, keyed)
        for one in [c for c in self.claims if c not in before + first] + first:
            self.end(one)

    def watch(self, one: Stepper) -> None:
        """Keep track of a claim; anything but a refusal or a typed failure is a fault."""
        if one in self.claims:
            self.claims.remove(one)
        if not one.done:
            self.claims.append(one)
        elif one.error is None:
            self.seen["granted"] += 1
        else:
            at = f" when {one.at}" if isinstance(one.error, Killed) else ""
            self.seen[type(one.error).__name__ + at] += 1
            if not isinstance(one.error, EXPECTED):
                raise one.error
            if isinstance(one.error, Refused):
                assert one.error.refusal.limit, "a refusal without a reason"

    def check_grant(self, uuids, profile, count, keys) -> None:
        """At the moment of create: what is granted exists, is alike, is nobody else's, and may be used."""
        offered = self.host.offered()
        assert len(set(uuids)) == len(uuids) == count
        assert len({offered[u] for u in uuids}) == 1
        assert profile in ("auto", offered[uuids[0]])
        parts = [self.host.parts(u) for u in uuids]
        assert sum(map(len, parts)) == len(frozenset().union(*parts)), "overlapping devices in one grant"
        assert not frozenset().union(*parts) & self.host.taken(), f"double grant of {uuids}"
        assert not any(self.host.blocked(u, keys) for u in uuids), f"{uuids} may not be used"

    @rule(which=pick)
    def start(self, which) -> None:
        box = self.box(which, "created", "exited")
        if box and (self.idle() or box.ours):
            self.host.start(box)

    @rule(which=pick)
    def stop(self, which) -> None:
        box = self.box(which, *ALIVE)
        if box:
            self.host.stop(box)

    @rule(which=pick)
    def pause(self, which) -> None:
        box = self.box(which, *ALIVE)
        if box:
            box.state = "running" if box.state == "paused" else "paused"

    @rule(which=pick)
    def remove(self, which) -> None:
        box = self.box(which)
        if box:
            del self.host.boxes[box.ident]
            self.host.processes.pop(int(box.ident, 16), None)

    @rule(which=pick)
    def compute(self, which) -> None:
        """A process inside a running session works on its device."""
        box = self.box(which, "running")
        if box and box.ours and all(self.host.parts(u) and self.host.visible(u) for u in box.names):
            self.host.processes[int(box.ident, 16)] = box.names[0]

    # --- strangers ------------------------------------------------------------------------------

    @precondition(idle)
    @rule(
        which=pick,
        form=st.sampled_from([5, 5, *range(len(FORMS))]),
        number=st.integers(0, 2),
        started=st.booleans(),
    )
    def stranger(self, which, form, number, started) -> None:
        if sum(not b.ours for b in self.host.boxes.values()) >= MOST_STRANGERS:
            return
        uuid = self.nth([u for u in self.host.offered() if self.host.visible(u)], which)
        every = tuple(range(len(self.host.gpus)))
        if uuid is None:
            return
        box = self.host.add(**FORMS[form](uuid, number, every, self.host.gpus[number].uuid))
        self.seen["stranger"] += 1
        if started:
            self.host.start(box)

    @precondition(idle)
    @rule(which=pick)
    def bare_process(self, which) -> None:
        uuid = self.nth([u for u in self.host.offered() if self.host.visible(u)], which)
        if uuid and len(self.host.processes) < 6:
            self.host.processes[STRANGERS + next(self.host.numbers)] = uuid

    @rule()
    def strangers_go(self) -> None:
        """All strangers leave, so that the others have something to do."""
        self.host.boxes = {i: b for i, b in self.host.boxes.items() if b.ours}
        self.host.processes = {p: u for p, u in self.host.processes.items() if p < STRANGERS}

    @rule()
    def mend(self) -> None:
        """The engine answers, every card is back, no block stands."""
        self.host.engine_down = False
        self.host.blocks.clear()
        for gpu in self.host.gpus:
            gpu.lost = False

    @rule(which=pick)
    def process_ends(self, which) -> None:
        pid = self.nth(self.host.processes, which)
        if pid is not None:
            del self.host.processes[pid]

    # --- the machine ----------------------------------------------------------------------------

    @precondition(idle)
    @rule(card=st.integers(0, 2))
    def lose(self, card) -> None:
        self.host.gpus[card].lost = True

    @rule(card=st.integers(0, 2))
    def come_back(self, card) -> None:
        self.host.gpus[card].lost = False

    @precondition(idle)
    @rule(card=st.integers(1, 2), layout=st.sampled_from(LAYOUTS))
    def cut(self, card, layout) -> None:
        """The driver lets nobody change slices of a card on which something computes."""
        busy = {c for u in self.host.processes.values() for c, _ in self.host.parts(u) or ()}
        if card not in busy and not self.host.gpus[card].lost:
            self.host.cut(card, layout)
            self.seen["cut"] += 1
            self.seen["cut under a living container"] += bool(self.host.stale_cards())

    @precondition(idle)
    @rule(which=pick, state=st.sampled_from(["drained", "reserved", "unready"]), keyed=st.booleans())
    def block(self, which, state, keyed) -> None:
        uuid = self.nth([*self.host.offered(), *(g.uuid for g in self.host.gpus)], which)
        if len(self.host.blocks) < 3:
            self.host.blocks[uuid] = Block(state, "because", exempt=KEYS if keyed else frozenset())

    @rule(which=pick)
    def unblock(self, which) -> None:
        uuid = self.nth(self.host.blocks, which)
        if uuid is not None:
            del self.host.blocks[uuid]

    @rule(down=st.sampled_from([False, False, True]))
    def engine(self, down) -> None:
        self.host.engine_down = down

    # --- what must always hold ------------------------------------------------------------------

    @invariant()
    def sessions_never_share(self) -> None:
        type(self).acts += 1
        if not hasattr(self, "host"):
            return
        seen: dict[tuple[int, int], str] = {}
        for box in self.host.boxes.values():
            if box.ours:
                for part in self.host.reach(box):
                    assert seen.setdefault(part, box.ident) == box.ident, "two sessions reach one device"

    @invariant()
    def free_means_free_and_nothing_leaks(self) -> None:
        if not hasattr(self, "host") or self.claims or self.host.engine_down:
            return
        reading = self.host.reading()
        snapshot = self.ledgers[0].read(reading.inventory, reading.processes, reading.former)
        rows = status(reading.inventory, snapshot.holdings, self.host.blocks)
        shown = {r.uuid for r in rows if r.state == "free"}
        taken = self.host.taken()
        truly = {
            u for u in self.host.offered() if not self.host.parts(u) & taken and not self.host.blocked(u)
        }
        self.seen["compared"] += 1
        self.seen["compared with something free and something taken"] += bool(truly and taken)
        stale = self.host.stale_cards()
        careful = {u for u in truly if {c for c, _ in self.host.parts(u)} & stale}
        assert shown <= truly, f"shown as free but not free: {shown - truly}"
        assert truly - careful <= shown, f"leaked: {truly - careful - shown}"

"""A site, an engine and a hub that exist in memory; store, policy and decisions are the real ones."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

from ds01spawner.admission.maintenance import Maintenance
from ds01spawner.core.errors import EngineError
from ds01spawner.core.hub_client import HubError, read_user
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.base import EngineSession, EngineState, Retired
from ds01spawner.gpu import GpuReading
from ds01spawner.intents.files import Intents
from ds01spawner.notify.channels import Notifier
from ds01spawner.placement import merge_blocks
from ds01spawner.placement.devices import Card, Device, GpuRequest, Holding, Inventory
from ds01spawner.placement.place import place
from ds01spawner.policy.load import PolicyWatcher
from ds01spawner.policy.options import parse_options
from ds01spawner.policy.plan import SessionUse, Usage
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.queue import joining
from ds01spawner.queue.pace import Pace
from ds01spawner.queue.queue_pass import near
from ds01spawner.queue.runner import Runner
from ds01spawner.queue.ticket_notifier import TicketNotifier
from ds01spawner.store import Store

START = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)


class Clock:
    """A clock that only moves when told."""

    def __init__(self):
        self.now = START

    def __call__(self):
        return self.now

    def pass_seconds(self, seconds):
        self.now += timedelta(seconds=seconds)


class FakeSite:
    """Six slices (or so) on one card, and who holds them."""

    def __init__(self, store, devices=6):
        self._store, self.fail = store, None
        self.settings = SimpleNamespace(strategy="best-fit", hub_id="hub")
        self.inventory = Inventory(
            "simulated",
            tuple(Device(f"M{i}", "A100", "1g.10gb", 10240, 1, "G", i) for i in range(devices)),
            (Card("G", "A100", 81920, True),),
        )
        self.held: dict[str, tuple[str, str]] = {}
        self.cpu: set[tuple[str, str]] = set()
        self.preemptible: set[tuple[str, str]] = set()
        self.policy = PolicyWatcher(None)
        self.maintenance = Maintenance(self.store)
        self.engine = self
        self.intents = Intents(Path(tempfile.mkdtemp()) / "intents")
        self.ends: list[tuple[str, str, str]] = []
        self.endings = SimpleNamespace(ended=self._ended)

    def _ended(self, ended, labels):
        self.ends.append((labels.user, ended.reason, ended.kind))
        return SimpleNamespace(result=lambda: None)

    def store(self):
        return self._store

    def exposure(self):
        return ()

    def answers(self):
        pass

    def retire(self, target, session, grace):
        return Retired(None)

    def look(self):
        if self.fail:
            raise EngineError(self.fail)
        sessions = {*self.held.values(), *self.cpu}
        holdings = tuple(
            Holding(u, f"{user}/{server}", "session", user, server, f"{user}-{server}")
            for u, (user, server) in self.held.items()
        )
        records = tuple(
            EngineSession(self._labels(user, server), "c", "n", "running", "Up") for user, server in sessions
        )
        return EngineState(holdings, records, reading=GpuReading(self.inventory))

    def _labels(self, user, server):
        uuids = tuple(u for u, who in self.held.items() if who == (user, server))
        return SessionLabels(
            user,
            server,
            "p",
            "hub",
            f"{user}-{server}",
            gpu_uuids=uuids,
            gpu_equivalents=len(uuids) / 7,
            created_at=START.isoformat(),
            preemptible=(user, server) in self.preemptible,
        )

    def limits(self, person, now):
        return resolve(self.policy.current(), person, now)

    def usage_of(self, person, snapshot, now, limits):
        mine = [r.labels for r in snapshot.sessions if r.labels.user == person.name]
        return Usage(tuple(SessionUse.from_labels(labels) for labels in mine))


class FakeHub:
    """Starts servers by the rules of placement: never a device that is held or kept for others."""

    def __init__(self, site, clock):
        self.site, self.clock = site, clock
        self.servers: dict[tuple[str, str], dict] = {}
        self.asked: list[tuple[str, str]] = []
        self.gone: set[str] = set()
        self.answer: dict[str, HubError] = {}
        self.slow = False
        self.down = False

    async def person(self, name, max_age=30):
        return (await self.user(name)).person

    async def user(self, name, max_age=30):
        if self.down:
            raise HubError(0, "the hub did not answer")
        if name in self.gone:
            raise HubError(404, "no such user")
        return read_user({"name": name, "servers": {s: m for (u, s), m in self.servers.items() if u == name}})

    async def start(self, user, server, options):
        if self.down:
            raise HubError(0, "the hub did not answer")
        if user in self.answer:
            raise self.answer[user]
        if (user, server) in self.servers:
            raise HubError(400, f"{user} is already running")
        self.claim(user, server, options.get("gpu", "none"))
        self.asked.append((user, server))
        self.servers[user, server] = {"ready": not self.slow, "pending": "spawn" if self.slow else None}
        await asyncio.sleep(0)

    async def stop(self, user, server):
        self.end(user, server)
        return "stopped"

    def claim(self, user, server, profile):
        """What the spawner does under its lock."""
        if profile == "none":
            self.site.cpu.add((user, server))
            return
        blocks = merge_blocks(self.site.store().blocks.at(self.clock(), []), near(self.site, self.clock()))
        keys = frozenset({f"user:{user}"})
        found = place(GpuRequest(profile), self.site.inventory, self.site.look().holdings, blocks, keys=keys)
        if not found.ok:
            raise HubError(503, found.refused)
        for device in found.devices:
            assert device.uuid not in self.site.held
            self.site.held[device.uuid] = (user, server)

    def ready(self, user, server=""):
        self.servers[user, server] = {"ready": True, "pending": None}

    def end(self, user, server=""):
        self.servers.pop((user, server), None)
        self.site.held = {u: who for u, who in self.site.held.items() if who != (user, server)}
        self.site.cpu.discard((user, server))


class World:
    def __init__(self, path, devices=6, width=16):
        self.store = Store.open(f"sqlite:///{path / 'ds01.sqlite'}")
        self.clock = Clock()
        self.site = FakeSite(self.store, devices)
        self.hub = FakeHub(self.site, self.clock)
        self.width, self.channels = width, ()
        self.restart()

    def restart(self):
        """As after ``kill -9``: only store, engine and hub are left."""
        pace = Pace(self.width, most=self.width)
        self.announcer = TicketNotifier(self.site.store, self.clock, Notifier(self.channels), self.link)
        self.runner = Runner(self.site, self.hub, clock=self.clock, pace=pace, announcer=self.announcer)

    @staticmethod
    def link(user, server):
        return f"https://hub.example.org/user/{user}/{server}"

    def join(self, user, gpu="1g.10gb", server="", **options):
        person = Person(user)
        limits = self.site.limits(person, self.clock())
        asked = parse_options({"gpu": gpu, "wait": True, **options})
        row = joining.join(self.store, person, limits, asked, server, self.clock())
        self.clock.pass_seconds(1)
        return row.id

    async def tick(self, times=1, seconds=2):
        for _ in range(times):
            self.clock.pass_seconds(seconds)
            await self.runner.tick()
            for _ in range(400):
                if not self.runner._starts or self.hub.slow:
                    break
                await asyncio.sleep(0.005)

    def state(self, ticket):
        return self.store.tickets.get(ticket).state

"""A site in memory for the idle service: hub, sensors, clock; the store is a real one on SQLite."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from idle_rows import QUIET, STUDENT, TEN

from ds01spawner.core.errors import DS01Error
from ds01spawner.core.hub_client import HubError, HubServer
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.engine_reader import Running
from ds01spawner.idle.case import Parts, Settled
from ds01spawner.idle.idle_store import Book
from ds01spawner.idle.observe import Look
from ds01spawner.idle.retirements import KINDS
from ds01spawner.idle.service import IdleService
from ds01spawner.idle.state import IdleFiles
from ds01spawner.intents.files import Intents
from ds01spawner.intents.intent import intend
from ds01spawner.notify.channels import BannerChannel, FileChannel, Notifier
from ds01spawner.store import SessionRecord, Store
from ds01spawner.workspace.session_files import ProjectFolder


class Clock:
    def __init__(self) -> None:
        self.now = TEN

    def __call__(self) -> datetime:
        return self.now


class Hub:
    def __init__(self, site) -> None:
        self.site, self.down, self.answer, self.pending = site, False, "stopped", set()

    def _server(self, user: str) -> HubServer:
        return HubServer(
            user,
            "",
            f"/user/{user}/",
            started=self.site.started.get(user),
            ready=True,
            pending="stop" if user in self.pending else "",
            last_activity=self.site.clock.now,
        )

    async def servers(self):
        if self.down:
            raise HubError(0, "the hub did not answer")
        return {(u, ""): self._server(u) for u in self.site.up}

    async def server(self, user, name):
        return self._server(user) if user in self.site.up else None

    async def stop(self, user, server, remove=False):
        if self.answer == "error":
            raise HubError(0, "the hub answered 500")
        self.site.log.append(f"remove {user}" if remove else f"stop {user}")
        self.site.steps.append(f"stop {user}")
        self.site.up.discard(user)
        return self.answer


class PlayedRetirements:
    """Intents in a folder, and an engine that ends what it is told to end."""

    def __init__(self, site) -> None:
        self.site, self.intents, self.engine_down = site, Intents(site.folder / "intents"), False

    def open(self):
        return {i.session: i for i in self.intents.open()}

    def ask(self, running, decision, now):
        self.site.steps.append(f"ask {running.labels.user}")
        kind = KINDS[decision.cause or "idle"]
        self.intents.ask(
            intend(
                running.labels,
                now,
                reason=decision.reason,
                kind=kind,
                by="idle service",
                container=running.container,
            )
        )

    def end(self, running, decision, now):
        if self.engine_down:
            return False
        self.site.steps.append(f"end {running.labels.user}")
        self.site.lost.discard(running.labels.user)
        self.intents.done(running.labels.session)
        return True

    def go_on(self, now):
        self.site.steps.append("go on")


class Sensors:
    """Says for each user what ``site.signals`` says; ``recheck`` overrides it for looks at one session."""

    def __init__(self, site) -> None:
        self.site = site

    async def look(self, running, servers):
        found = {}
        for r in running:
            user = r.labels.user
            signals = self.site.signals.get(user, QUIET)
            if len(running) == 1 and user in self.site.recheck:
                signals = self.site.recheck[user]
            found[r.labels.session] = Look(signals, self.site.touched.get(user))
        return found

    def keep_only(self, sessions):
        pass


class LoggedBook(Book):
    def __init__(self, store, site) -> None:
        super().__init__(store)
        self.site = site

    def retiring(self, session, decision, now):
        super().retiring(session, decision, now)
        self.site.log.append(f"reason {session.user}")


class Site:
    """Users ``up``, each with one session; `passes` lives through minutes."""

    def __init__(self, folder, users=("alice",), rules=STUDENT, **settled) -> None:
        self.folder, self.rules = folder, rules
        self.clock, self.log, self.steps = Clock(), [], []
        self.lost: set[str] = set()  # sessions that run though the hub does not list them
        self.up = set(users)
        self.started = dict.fromkeys(users, TEN - timedelta(hours=2))
        self.ids = {u: f"s-{u}" for u in users}
        self.signals, self.recheck, self.touched, self.uuids = {}, {}, {}, {}
        self.hub, self.engine_down, self.store_down, self.share = Hub(self), False, False, 0.0
        self.root = folder / "workspaces"
        for user in users:
            (self.root / user / "p").mkdir(parents=True)
        self.store = Store.open(f"sqlite:///{folder / 'store.sqlite'}")
        for r in self.running():
            self.store.sessions.started(SessionRecord.from_labels(r.labels, TEN))
        self.settled = Settled(poll=60, **settled)
        self.retirements = PlayedRetirements(self)
        self.restart()

    def restart(self) -> None:
        """A new process of the service with what the old one left on disk."""
        channels = [BannerChannel(self._store), FileChannel(lambda u, p: ProjectFolder(self.root, u, p))]
        parts = Parts(
            hub=self.hub,
            observer=Sensors(self),
            running=self.running,
            rules=lambda server, now: self.rules,
            book=LoggedBook(self._store, self),
            notifier=Notifier(channels),
            files=IdleFiles(self.folder),
            clock=self.clock,
            share=lambda running: self.share,
            retirements=self.retirements,
        )
        self.service = IdleService(parts, self.settled)

    def _store(self) -> Store:
        if self.store_down:
            raise DS01Error("the store is down")
        return self.store

    def running(self) -> list[Running]:
        if self.engine_down:
            raise DS01Error("the engine is down")
        labels = [
            SessionLabels(
                user=u,
                server="",
                project="p",
                hub="hub",
                session=self.ids[u],
                gpu_uuids=self.uuids.get(u, ()),
                created_at=self.started[u].isoformat(),
            )
            for u in sorted(self.up | self.lost)
        ]
        return [Running(f"c-{x.session}", x) for x in labels]

    async def passes(self, count: int, minutes: float = 1.0) -> dict[str, str]:
        """``count`` passes, one every ``minutes``; the last one's state by user."""
        states = {}
        for _ in range(count):
            self.clock.now += timedelta(minutes=minutes)
            try:
                cases = await self.service.one_pass()
            except DS01Error:
                states = {}
                continue
            await self.service.settle()
            states = {c.session.user: c.decision.state for c in cases}
        return states

    def notices(self, user: str = "alice") -> list[str]:
        return [n.text for n in self.store.notices.of(user, self.clock.now)]

    def file(self, user: str = "alice") -> str:
        path = self.root / user / "p/.ds01/notices"
        return path.read_text() if path.exists() else ""


__all__ = ["Site", "replace"]

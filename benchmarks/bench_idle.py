"""How long until 100 idle sessions whose time has come are stopped: the stock culler, and ours.

A stub of the hub's API (real HTTP, 100 users, a DELETE that takes one second, as a container's stop and
removal does) is given to ``jupyterhub_idle_culler.cull_idle`` with our arbiter, and to `IdleService`. The
sensors are stubs that say "quiet", so what is measured is the loop. Prints one JSON line for each.

    python benchmarks/bench_idle.py [--sessions 100] [--stop-seconds 1.0]

``tests/engine/test_signals_scale.py`` measures the cost of the real sensors on real containers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from jupyterhub_idle_culler import cull_idle
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from ds01spawner.core.hub_client import HubClient
from ds01spawner.core.labels import SessionLabels
from ds01spawner.engines.docker.engine_reader import Running
from ds01spawner.idle.arbiter import Arbiter
from ds01spawner.idle.case import Parts, Settled
from ds01spawner.idle.idle_store import Facts
from ds01spawner.idle.model import Kernels, Memory, Signals, Warned, Work, known, unsupported
from ds01spawner.idle.observe import Look
from ds01spawner.idle.rules import from_policy
from ds01spawner.idle.service import IdleService
from ds01spawner.idle.state import IdleFiles
from ds01spawner.notify.channels import Notifier
from ds01spawner.policy.model import Idle

PLAIN = replace(from_policy(Idle(), "the built-in policy", poll=100), start_grace=0)
RULES = replace(PLAIN, timeout=1800, warn_lead=600, max_gap=300)
NO_GPU = unsupported("the session has no GPU")
QUIET = Signals(
    hub=known(datetime.now(timezone.utc)),
    kernels=known(Kernels(open=1)),
    work=known(Work()),
    saved=unsupported("empty"),
    cpu=known(0.0),
    network=known(0.0),
    gpu=NO_GPU,
    gpu_change=NO_GPU,
)


@dataclass
class StubHub:
    """The part of the hub's API both loops use."""

    sessions: int
    stop_seconds: float
    alive: set[str] = field(default_factory=set)
    at_once: int = 0
    most_at_once: int = 0
    lists: int = 0

    def __post_init__(self) -> None:
        self.alive = {f"user{i:03d}" for i in range(self.sessions)}

    def model(self, user: str) -> dict:
        started = "2026-02-23T08:00:00Z"
        server = {"name": "", "full_name": f"{user}/", "ready": True, "pending": None, "started": started}
        server |= {"url": f"/user/{user}/", "last_activity": started}
        servers = {"": server} if user in self.alive else {}
        return {"name": user, "groups": [], "admin": False, "kind": "user", "servers": servers}

    def app(self) -> Application:
        hub = self

        class Root(RequestHandler):
            def get(self) -> None:
                self.write({"version": "6.1.1"})

        class Users(RequestHandler):
            def get(self) -> None:
                hub.lists += 1
                first, limit = int(self.get_argument("offset", "0")), 50
                users = sorted(hub.alive)
                url = (
                    f"{self.request.protocol}://{self.request.host}/users?state=ready&offset={first + limit}"
                )
                following = {"url": url, "offset": first + limit} if first + limit < len(users) else None
                items = [hub.model(u) for u in users[first : first + limit]]
                self.write({"items": items, "_pagination": {"next": following}})

        class User(RequestHandler):
            def get(self, user: str) -> None:
                self.write(hub.model(user))

        class Server(RequestHandler):
            async def delete(self, user: str) -> None:
                hub.at_once += 1
                hub.most_at_once = max(hub.most_at_once, hub.at_once)
                await asyncio.sleep(hub.stop_seconds)
                hub.at_once -= 1
                hub.alive.discard(user)
                self.set_status(204)

        return Application(
            [(r"/", Root), (r"/users", Users), (r"/users/(\w+)", User), (r"/users/(\w+)/server", Server)]
        )


class StubEyes:
    """Sensors that see quiet sessions."""

    async def look(self, running, servers):
        return {r.labels.session: Look(QUIET) for r in running}

    def keep_only(self, sessions) -> None:
        pass


class StubBook:
    """A store with nothing in it that counts the reasons recorded."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def facts(self, sessions, now) -> Facts:
        return Facts()

    def retiring(self, session, decision, now) -> None:
        self.reasons.append(decision.reason)

    def warned(self, session, decision, now) -> None:
        pass

    def over(self, sessions, now) -> None:
        pass


def running(hub: StubHub) -> list[Running]:
    return [
        Running(user, SessionLabels(user=user, server="", project="p", hub="h", session=f"s-{user}"))
        for user in sorted(hub.alive)
    ]


class StubRetirements:
    """Decisions that the stub hub carries out at once."""

    def open(self) -> dict:
        return {}

    def ask(self, *_: object) -> None:
        pass

    def end(self, *_: object) -> bool:
        return False

    def go_on(self, *_: object) -> None:
        pass


def service(hub: StubHub, url: str, folder: Path, parallel: int = 16) -> tuple[IdleService, StubBook]:
    """A service that remembers every session as idle and warned long enough."""
    book, now = StubBook(), datetime.now(timezone.utc)
    parts = Parts(
        hub=HubClient(url, "token"),
        observer=StubEyes(),
        running=lambda: running(hub),
        rules=lambda server, at: RULES,
        book=book,
        notifier=Notifier([]),
        files=IdleFiles(folder),
        clock=lambda: datetime.now(timezone.utc),
        retirements=StubRetirements(),
    )
    made = IdleService(parts, Settled(poll=60, parallel=parallel))
    warned = (Warned("idle", now - timedelta(minutes=11), now - timedelta(minutes=11)),)
    for user in hub.alive:
        made.memory[f"s-{user}"] = Memory(f"s-{user}", now - timedelta(seconds=30), 1800.0, None, warned)
    return made, book


async def serve(hub: StubHub) -> tuple[HTTPServer, str]:
    socket, port = bind_unused_port()
    server = HTTPServer(hub.app())
    server.add_sockets([socket])
    return server, f"http://127.0.0.1:{port}"


async def stock(sessions: int, stop_seconds: float) -> dict:
    """jupyterhub-idle-culler 2's loop with our arbiter."""
    hub = StubHub(sessions, stop_seconds)
    server, url = await serve(hub)
    with tempfile.TemporaryDirectory() as folder:
        made, book = service(hub, url, Path(folder))
        began = time.monotonic()
        quiet = logging.getLogger("stock")
        quiet.setLevel(logging.ERROR)
        await cull_idle(url, "token", 1800, quiet, concurrency=10, cull_arbiter=Arbiter(made))
        seconds = time.monotonic() - began
    server.stop()
    return result("stock culler", hub, book, seconds)


async def ours(sessions: int, stop_seconds: float, parallel: int = 16) -> dict:
    """Our loop."""
    hub = StubHub(sessions, stop_seconds)
    server, url = await serve(hub)
    with tempfile.TemporaryDirectory() as folder:
        made, book = service(hub, url, Path(folder), parallel)
        began = time.monotonic()
        await made.one_pass()
        await made.settle()
        seconds = time.monotonic() - began
    server.stop()
    return result(f"ds01 idle service, {parallel} stops at once", hub, book, seconds)


def result(loop: str, hub: StubHub, book: StubBook, seconds: float) -> dict:
    return {
        "loop": loop,
        "sessions": hub.sessions,
        "stop_seconds": hub.stop_seconds,
        "seconds": round(seconds, 1),
        "left": len(hub.alive),
        "reasons_recorded": len(book.reasons),
        "stops_at_once": hub.most_at_once,
        "hub_list_pages": hub.lists,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--stop-seconds", type=float, default=1.0)
    args = parser.parse_args()
    for loop in (ours, stock):
        print(json.dumps(asyncio.run(loop(args.sessions, args.stop_seconds))), flush=True)


if __name__ == "__main__":
    main()

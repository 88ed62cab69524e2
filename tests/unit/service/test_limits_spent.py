"""Each counted thing is counted where it is spent: thirty at once get what one after another would."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from support.service_world import NOW, POLICY, make_world, serving

from ds01spawner import messages
from ds01spawner.core.errors import Refused
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.options import parse_options
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.queue import joining
from ds01spawner.store import Store
from ds01spawner.workspace import staging

MANY = 30
TIGHT = """\
version: 1
defaults:
  images: {max: 4, builds: {queued: 3}}
  storage: {projects: 5}
  queue: {max_tickets: 2}
  idle: {keep_alive: {per_session: 4h, per_day: 8h}}
"""
WISH = {"options": {"gpu": "1g.10gb"}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    (tmp_path / "ws").mkdir()
    return make_world(tmp_path, monkeypatch, TIGHT, workspace_root=tmp_path / "ws")


@pytest.fixture
async def call(world):
    async with serving(world) as client:
        yield client


async def together(call, count, make):
    """``count`` requests side by side; how many came to each status."""
    answers = await asyncio.gather(*(call(*make(i)) for i in range(count)))
    return sorted(a.code for a in answers)


def expected(good, count, no, total=MANY):
    return sorted([good] * count + [no] * (total - count))


async def test_places_in_the_queue(call, world):
    codes = await together(call, MANY, lambda i: ("api/queue", "alice", "POST", {**WISH, "server": f"s{i}"}))
    assert codes == expected(202, 2, 409)
    assert len(world.store.tickets.find(user="alice")) == 2


async def test_further_tags(call, world):
    image = "ds01-alice/thesis:latest"
    world.images.add(image, "sha256:" + "a" * 64)
    act = f"api/environments/{image}/tag"
    codes = await together(call, MANY, lambda i: (act, "alice", "POST", {"tag": f"t{i}"}))
    assert codes == expected(200, 3, 403), "the one that is there and three more are four"
    assert len([t for t in world.images.list() for t in t.tags if t.startswith("ds01-alice/")]) == 4
    assert len(world.store.environments.find(owner="alice", kind="mine")) == 3
    assert (await call(act, "alice", "POST", {"tag": "t-1"})).code == 403


async def test_a_tag_that_fails_is_not_counted(call, world):
    image = "ds01-alice/thesis:latest"
    world.images.add(image, "sha256:" + "a" * 64)
    world.images.add("ds01-alice/thesis:taken", "sha256:" + "b" * 64)
    for _ in range(5):
        answer = await call(f"api/environments/{image}/tag", "alice", "POST", {"tag": "taken"})
        assert (answer.code, "taken by another image" in answer.text) == (400, True)
    assert world.store.environments.find(owner="alice") == []
    assert (await call(f"api/environments/{image}/tag", "alice", "POST", {"tag": "mine"})).code == 200


async def test_builds_waiting(call, world):
    body = {"recipe": {"pip": ["six"]}}
    codes = await together(
        call, MANY, lambda i: ("api/builds", "alice", "POST", {**body, "project": "p", "tag": f"t{i}"})
    )
    assert codes == expected(202, 3, 409)
    assert len(world.store.builds.find(owner="alice")) == 3
    assert (await call("api/builds", "bob", "POST", {**body, "project": "p"})).code == 202


async def test_environments_that_builds_will_make_count(call, world):
    """With four there, nothing new may be queued; what is there may be built again."""
    for tag in "abcd":
        reference = f"ds01-alice/p:{tag}"
        world.store.environments.put(reference, "alice", "mine", "ready", {"current": "x"}, NOW)
    body = {"recipe": {"pip": ["six"]}, "project": "p"}
    answer = await call("api/builds", "alice", "POST", {**body, "tag": "e"})
    assert (answer.code, json.loads(answer.text)["code"]) == (403, "too-many-environments")
    assert "requests?key=images.max" in json.loads(answer.text)["ask_url"]
    assert (await call("api/builds", "alice", "POST", {**body, "tag": "a"})).code == 202


async def test_projects(call, world):
    codes = await together(
        call,
        MANY,
        lambda i: ("api/builds", "alice", "POST", {"recipe": {"pip": ["six"]}, "project": f"p{i}"}),
    )
    assert set(codes) <= {202, 409, 403}
    made = world.site.workspaces.projects("alice")
    assert len(made) == 5, [p.name for p in made]
    answer = await call("api/builds", "alice", "POST", {"recipe": {"pip": ["six"]}, "project": "one-more"})
    assert json.loads(answer.text)["code"] == "projects-max"
    assert (await call(f"environments/edit?project={made[0].name}", "alice")).code == 200


async def test_requests_for_more(call, world):
    body = {"wanted": {"session.max": 9}, "reason": "for the experiment", "until": "2026-04-01T00:00+00:00"}
    codes = await together(call, MANY, lambda i: ("api/requests", "alice", "POST", body))
    assert codes == expected(201, 5, 400)
    assert len(world.store.requests.find("alice", "asked")) == 5


async def test_keeping_a_session_alive(call, world):
    world.ledger.add("alice", "s1")
    path = "api/sessions/s1/keep-alive"
    answers = await asyncio.gather(
        *(call(path, "alice", "POST", {"seconds": 3600 * (i % 9 + 1)}) for i in range(MANY))
    )
    assert {a.code for a in answers} <= {200, 403}
    assert world.store.extensions.total("s1") <= 4 * 3600


async def test_shares(call, world, monkeypatch):
    monkeypatch.setattr("ds01spawner.environments.builder.room.MAX_SHARES", 2)
    world.hub.people["alice"] = Person("alice", frozenset(f"g{i}" for i in range(MANY)))
    image = "ds01-alice/thesis:latest"
    world.images.add(image, "sha256:" + "a" * 64)
    act = f"api/environments/{image}/share"
    codes = await together(call, MANY, lambda i: (act, "alice", "POST", {"group": f"g{i}"}))
    assert codes == expected(200, 2, 409)


async def test_courses(call, world, monkeypatch):
    monkeypatch.setattr("ds01spawner.courses.publication.MAX_COURSES", 3)
    world.hub.scopes["alice"] = ["custom:ds01:course:teach"]

    def course(i):
        return json.dumps({"course": f"c{i}", "title": "T", "roster": ["g"], "recipe": {"pip": ["six"]}})

    codes = await together(call, MANY, lambda i: ("api/courses", "alice", "POST", {"text": course(i)}))
    assert codes == expected(200, 3, 409)
    assert len(world.store.courses.find()) == 3


async def test_a_course_that_two_begin_at_once_has_one_owner_who_may_change_it(call, world):
    world.hub.scopes = {n: ["custom:ds01:course:teach!group=g"] for n in ("alice", "bob")}
    text = json.dumps({"course": "c", "title": "T", "roster": ["g"], "recipe": {"pip": ["six"]}})
    await together(call, 10, lambda i: ("api/courses", ("alice", "bob")[i % 2], "POST", {"text": text}))
    assert len(world.store.courses.find()) == 1


async def test_what_is_withdrawn_at_once_counts_for_the_day(call, world, monkeypatch):
    monkeypatch.setattr("ds01spawner.admission.limit_requests.ASKED_A_DAY", 3)
    monkeypatch.setattr("ds01spawner.queue.joining.JOINS_A_DAY", 3)
    monkeypatch.setattr("ds01spawner.environments.builder.room.BUILDS_A_DAY", 3)
    body = {"wanted": {"session.max": 9}, "reason": "for the experiment", "until": "2026-04-01T00:00+00:00"}
    build = {"recipe": {"pip": ["six"]}, "project": "p"}
    for path, wish, key, no in (
        ("api/requests", body, "id", 429),
        ("api/queue", WISH, "id", 429),
        ("api/builds", build, "build", 429),
    ):
        for _ in range(3):
            made = await call(path, "alice", "POST", wish)
            assert made.code in (201, 202), made.text
            number = json.loads(made.text)[key]
            assert (await call(f"{path}/{number}", "alice", "DELETE")).code == 200
        answer = await call(path, "alice", "POST", wish)
        assert (answer.code, json.loads(answer.text)["code"]) == (no, "too-many-a-day"), path


# ------------------------------------------------------------------------------ processes and threads


def _join(url: str, policy: str, start, index: int, results) -> None:
    store, person = Store(url), Person("alice")
    limits = resolve(parse_policy(policy, Path("policy.yaml")), person, NOW)
    start.wait()
    try:
        joining.join(store, person, limits, parse_options({"gpu": "1g.10gb"}), f"s{index}", NOW)
        results.put("place")
    except Refused as refused:
        results.put(refused.refusal.code)


def test_places_from_processes(tmp_path):
    """As hub and service join: each has a connection of its own."""
    url = f"sqlite:///{tmp_path / 'x.sqlite'}"
    Store.open(url).close()
    context = multiprocessing.get_context("fork")  # spawning imports everything anew
    start, results = context.Event(), context.Queue()
    workers = [context.Process(target=_join, args=(url, TIGHT, start, i, results)) for i in range(6)]
    for worker in workers:
        worker.start()
    start.set()
    found = sorted(results.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(60)
    assert found == ["place"] * 2 + ["queue-places"] * 4


def test_projects_from_threads(world):
    """A start, a build and the page make projects; two ways to make one share the lock."""
    places, barrier = world.site.workspaces, threading.Barrier(MANY)

    def admit(count: int) -> None:
        if count >= 5:
            raise Refused(messages.ticket_unknown())

    def make(i: int) -> bool:
        token = f"{i:08x}"
        if i % 2:
            staging.begin(places, "alice", token)
        barrier.wait(60)
        try:
            if i % 2:
                return staging.adopt(places, "alice", token, f"p{i}", admit)
            return places.prepare("alice", f"p{i}", admit).created
        except Refused:
            return False

    with ThreadPoolExecutor(MANY) as pool:
        made = sum(pool.map(make, range(MANY)))
    assert (made, len(places.projects("alice"))) == (5, 5)


class Seen:
    """Whether a decision was asked inside the transaction that writes: another writer waits meanwhile."""

    def __init__(self, store: Store) -> None:
        self.store, self.during, self.threads = store, [], []

    def __call__(self, *_: object) -> None:
        done = threading.Event()

        def write() -> None:
            Store(self.store.db.url).facts.set("other", 1, NOW)
            done.set()

        self.threads.append(threading.Thread(target=write))
        self.threads[-1].start()
        self.during.append(done.wait(0.5))


@pytest.mark.parametrize(
    "spend",
    [
        lambda s, admit: s.tickets.add({"id": "a", "user": "u"}, NOW, admit),
        lambda s, admit: s.requests.add("u", {}, "", NOW, None, admit),
        lambda s, admit: s.shares.add("e", "g", "u", "u", NOW, admit),
        lambda s, admit: s.builds.claim("b", "u", "e", {}, NOW, admit),
        lambda s, admit: s.environments.claim("e", "u", {}, NOW, admit),
        lambda s, admit: s.courses.apply("c", NOW, lambda *a: admit(*a)),
    ],
    ids=["ticket", "request", "share", "build", "environment", "course"],
)
def test_the_decision_is_asked_under_the_lock_of_the_writer(tmp_path, spend):
    """A limit that is checked outside its lock fails here: another writer would get in between."""
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    seen = Seen(store)
    spend(store, seen)
    for thread in seen.threads:
        thread.join(60)
    assert seen.during == [False]
    store.close()


def test_a_refused_claim_leaves_nothing(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")

    def no(*_: object) -> None:
        raise Refused(messages.ticket_unknown())

    for spend in (
        partial(store.tickets.add, {"id": "a", "user": "u"}, NOW, no),
        partial(store.requests.add, "u", {}, "", NOW, None, no),
        partial(store.shares.add, "e", "g", "u", "u", NOW, no),
        partial(store.builds.claim, "b", "u", "e", {}, NOW, no),
        partial(store.environments.claim, "e", "u", {}, NOW, no),
        partial(store.courses.apply, "c", NOW, no),
    ):
        with pytest.raises(Refused):
            spend()
    later = NOW + timedelta(days=1)
    assert (store.tickets.find(None), store.requests.find(), store.shares.find(), store.builds.find()) == (
        [],
        [],
        [],
        [],
    )
    assert (store.environments.find(), store.courses.find(), store.events.find(since=NOW - timedelta(1))) == (
        [],
        [],
        [],
    )
    assert later > NOW
    store.close()


def test_defaults_are_as_documented(tmp_path):
    limits = resolve(parse_policy(POLICY, Path("policy.yaml")), Person("u"), NOW)
    assert (limits.images.max, limits.images.builds.queued, limits.storage.projects) == (10, 5, 200)

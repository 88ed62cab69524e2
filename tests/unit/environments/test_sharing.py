"""Sharing own environments: who may, who sees them then, and that the store alone says so."""

import json
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from ds01spawner.core.errors import Refused, StoreError
from ds01spawner.core.settings import Settings
from ds01spawner.engines.docker.image_store import ImageMissing
from ds01spawner.environments import sharing
from ds01spawner.environments.catalogue import Share, discover
from ds01spawner.environments.environment_service import EnvironmentService
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.offered import Environments
from ds01spawner.environments.resolver import Resolver
from ds01spawner.environments.rights import Reader
from ds01spawner.policy.load import parse_policy
from ds01spawner.policy.resolve import Person, resolve
from ds01spawner.store import Store

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
ALICE, BOB = Person("alice", frozenset({"nlp", "cv"})), Person("bob", frozenset({"nlp"}))
EVE, ADMIN = Person("eve", frozenset({"other"})), Person("root", frozenset(), admin=True)
MINE, TAGGED = "ds01-alice/p:latest", "ds01-alice/p:experiment-42"


class FakeImages:
    """Two tags of one image of alice's on an engine."""

    def __init__(self):
        self.tags, self.used = {MINE: "sha256:1", TAGGED: "sha256:1"}, {}

    def list(self):
        return tuple(ImageFacts(i, (tag,)) for tag, i in self.tags.items())

    def inspect(self, reference):
        if reference not in self.tags:
            raise ImageMissing(reference)
        return ImageFacts(self.tags[reference], (reference,), size=7)

    def in_use(self):
        return self.used

    def remove(self, reference):
        self.tags.pop(reference, None)


@pytest.fixture
def store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    yield store
    store.close()


@pytest.fixture
def env_service(store):
    document = {"reference": MINE, "current": "sha256:1", "previous": []}
    store.environments.put(MINE, "alice", "mine", "ready", document, NOW)
    images = FakeImages()
    runner = SimpleNamespace(store=store, images=images, resolver=Resolver(images, lambda: store))
    return EnvironmentService(SimpleNamespace(), runner, lambda: NOW)


def limits(person, **images):
    policy = parse_policy(json.dumps({"version": 1, "defaults": {"images": images}}), Path("policy.yaml"))
    return resolve(policy, person, NOW)


@pytest.mark.parametrize(
    ("person", "images", "group", "code", "words"),
    [
        (ALICE, {}, "nlp", None, ""),
        (ADMIN, {}, "anything", None, ""),
        (ALICE, {"share": False}, "nlp", "may-not-share", "do not let you share environments ("),
        (ADMIN, {"share": False}, "nlp", "may-not-share", "do not let you share"),
        (ALICE, {}, "other", "not-your-group", "one of your groups (cv, nlp)"),
        (Person("x"), {}, "nlp", "not-your-group", "Ask an administrator"),
        (ADMIN, {}, "", "bad-group", "is not the name of a group"),
        (ADMIN, {}, "a,b", "bad-group", "is not the name of a group"),
        (ADMIN, {}, "a b", "bad-group", "is not the name of a group"),
        (ADMIN, {}, "x" * 101, "bad-group", "is not the name of a group"),
    ],
)
def test_who_may_share_with_whom(person, images, group, code, words):
    found = sharing.refusal(person, limits(person, **images), MINE, group)
    assert (found.code if found else None) == code
    assert words in (str(Refused(found)) if found else "")


def test_only_the_store_says_that_an_image_is_shared():
    images = [
        ImageFacts("sha256:1", (MINE,), labels={"ds01.image.owner": "mallory"}),
        ImageFacts("sha256:2", ("ds01-alice/secret:latest",), labels={"ds01.image.groups": "nlp"}),
    ]
    shares = [Share(MINE, "alice", frozenset({"nlp"})), Share("ds01-gone/p:1", "gone", frozenset({"nlp"}))]
    (seen,) = discover(images, "bob", ["nlp"], shares=shares)
    assert (seen.id, seen.kind, seen.owner, seen.groups) == (MINE, "shared", "alice", frozenset({"nlp"}))
    assert discover(images, "eve", ["other"], shares=shares) == ()
    own = {e.id: (e.kind, e.groups) for e in discover(images, "alice", ["nlp"], shares=shares)}
    assert own == {MINE: ("mine", frozenset({"nlp"})), "ds01-alice/secret:latest": ("mine", frozenset())}


def test_share_and_unshare(env_service):
    assert env_service.share(ALICE, limits(ALICE), MINE, "nlp") == ["nlp"]
    assert env_service.share(ALICE, limits(ALICE), MINE, "nlp") == ["nlp"], "twice is as good as once"
    assert env_service.share(ALICE, limits(ALICE), MINE, "cv") == ["cv", "nlp"]
    assert env_service.unshare(ALICE, MINE, "nlp") == ["cv"]
    assert env_service.unshare(ALICE, MINE, "nlp") == ["cv"]
    events = [(e.action, e.data["group"], e.user) for e in env_service.store.events.find(topic="environment")]
    assert events == [("shared", "nlp", "alice"), ("shared", "cv", "alice"), ("unshared", "nlp", "alice")]


def test_one_who_left_the_group_can_still_stop_sharing(env_service):
    env_service.share(ALICE, limits(ALICE), MINE, "nlp")
    assert env_service.unshare(Person("alice"), MINE, "nlp") == []


def test_others_environments_are_not_shared(env_service):
    for person in (BOB, EVE, ADMIN):
        with pytest.raises(Refused, match="of yours"):
            env_service.share(person, limits(person), MINE, "nlp")
        with pytest.raises(Refused, match="of yours"):
            env_service.unshare(person, MINE, "nlp")
    assert env_service.store.shares.find() == []


def test_deleting_says_with_whom_it_was_shared_and_ends_it(env_service):
    env_service.share(ALICE, limits(ALICE), MINE, "nlp")
    env_service.images.used = {"sha256:1": ("bobs-session",)}
    with pytest.raises(Refused, match="in use is kept"):
        env_service.delete(ALICE, MINE)
    assert env_service.shared_with(MINE) == ["nlp"]
    env_service.images.used = {}
    assert env_service.delete(ALICE, MINE) == ["nlp"]
    assert env_service.store.shares.find() == []
    assert MINE not in env_service.images.tags


def test_a_further_tag_is_shared_and_deleted_like_an_environment(env_service):
    assert env_service.share(ALICE, limits(ALICE), TAGGED, "nlp") == ["nlp"]
    assert env_service.delete(ALICE, TAGGED) == ["nlp"]
    assert list(env_service.images.tags) == [MINE]
    with pytest.raises(Refused, match="of yours"):
        env_service.share(ALICE, limits(ALICE), "ds01-alice/never:built", "nlp")
    with pytest.raises(Refused, match="of yours"):
        env_service.delete(BOB, MINE)


def seen(store, person, down=False):
    def open_store():
        if down:
            raise StoreError("down")
        return store

    site = Environments(Settings(image="ds01/lab:latest"), FakeImages(), open_store)
    found = {i.environment.id: i for i in site.listed(person, limits(person))}

    def start():
        return site.choose(person, limits(person), MINE)

    return found, start


def test_a_member_of_the_group_starts_it_and_nobody_else(store):
    store.shares.add(MINE, "nlp", "alice", "alice", NOW)
    found, start = seen(store, BOB)
    assert (found[MINE].environment.kind, found[MINE].allowed) == ("shared", True)
    assert TAGGED not in found
    assert start().image == MINE
    for person in (EVE, Person("root", frozenset(), admin=True)):
        found, start = seen(store, person)
        assert MINE not in found
        with pytest.raises(Refused, match="not one of yours"):
            start()
    store.shares.end(MINE, "alice", NOW)
    with pytest.raises(Refused, match="not one of yours"):
        seen(store, BOB)[1]()


def test_nothing_is_shared_while_nobody_can_say_with_whom(store):
    store.shares.add(MINE, "nlp", "alice", "alice", NOW)
    assert MINE not in seen(store, BOB, down=True)[0]
    assert MINE in seen(store, ALICE, down=True)[0]


def test_the_policy_may_leave_shared_environments_out(store):
    store.shares.add(MINE, "nlp", "alice", "alice", NOW)
    site = Environments(Settings(image="ds01/lab:latest"), FakeImages(), lambda: store)
    for use, allowed in ((["lab"], False), (["lab", "shared"], True), (["shared/ds01-alice/*"], True)):
        found = {i.environment.id: i.allowed for i in site.listed(BOB, limits(BOB, use=use))}
        assert found[MINE] is allowed


@pytest.mark.parametrize("recorded", [False, True])
def test_an_own_name_that_leads_to_anothers_image_passes_nothing_on(env_service, recorded):
    """However it came about: neither a further tag nor a share makes it the person's own."""
    theirs = "ds01-alice/p:theirs"
    env_service.images.tags[theirs] = "sha256:b"
    bobs = {"reference": "ds01-bob/p:latest", "current": "sha256:b", "previous": []}
    env_service.store.environments.put("ds01-bob/p:latest", "bob", "mine", "ready", bobs, NOW)
    if recorded:  # an own record of an older image under that name
        old = {"reference": theirs, "current": "sha256:old", "previous": []}
        env_service.store.environments.put(theirs, "alice", "mine", "ready", old, NOW)
    for act in (
        lambda: env_service.tag(ALICE, limits(ALICE), theirs, "kept"),
        lambda: env_service.share(ALICE, limits(ALICE), theirs, "nlp"),
    ):
        with pytest.raises(Refused, match="belongs to others"):
            act()
    assert env_service.store.shares.find() == []
    assert not env_service.runner.resolver.readable(env_service.images.inspect(theirs), Reader("alice"))

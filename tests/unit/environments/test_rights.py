"""Who may read an image, by everything that is known of its id; and the one way from a name to it."""

from datetime import datetime, timezone

import pytest

from ds01spawner.core.errors import StoreError
from ds01spawner.engines.docker.image_store import ImageMissing
from ds01spawner.environments.catalogue import Environment
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.reference import carries, parse
from ds01spawner.environments.registries import Registries
from ds01spawner.environments.resolver import NotReadable, Resolver
from ds01spawner.environments.rights import CourseUse, Known, Reader, may_read
from ds01spawner.store import Store

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
ID = "sha256:" + "4" * 64
ALICE, BOB, EVE = (
    Reader("alice", frozenset({"nlp"})),
    Reader("bob", uid=1001),
    Reader("eve", frozenset({"x"})),
)
ROOT = Reader("root", admin=True)
STAFF = CourseUse("nlp", staff=frozenset({"bob"}), roster=frozenset({"nlp"}))
GIVEN = CourseUse("nlp", staff=frozenset({"bob"}), roster=frozenset({"nlp"}), published=True)


def known(*names, **changes):
    return Known(ID, names, **changes)


@pytest.mark.parametrize(
    ("image", "readers"),
    [
        # alice (group nlp), bob (uid 1001), eve (group x), root (administrator)
        (known("python:3.12"), "abe r"),
        (known("python@" + ID), "abe r"),
        (known("registry.example/team/x:1"), "abe r"),
        (known(), ""),
        (known("<none>:<none>"), ""),
        (known("ds01-bob/priv:latest"), "b r"),
        (known("docker.io/ds01-bob/priv:latest"), "b r"),
        (known("registry.example/ds01-bob/priv:latest"), "b r"),
        (known("ds01-bob/priv@" + ID), "b r"),
        (known("registry.example/ds01-tools:1"), "abe r"),
        (known("ds01-1001/priv:latest"), "b r"),
        (known("ds01-bob/priv:latest", "ds01-1001/priv:latest"), "b r"),
        (known("ds01-bob/priv:latest", "ds01-eve/innocent:latest"), "r"),
        (known("ds01-bob/priv:latest", "ds01-eve/innocent:latest", owners=frozenset({"bob"})), "b r"),
        (known("ds01-bob/priv:latest", "python:3.12"), "b r"),
        (known("ds01-bob/priv:latest", "python:3.12", owners=frozenset({"bob"})), "b r"),
        (known("ds01-eve/innocent:latest", owners=frozenset({"bob"})), "b r"),
        (known("python:3.12", owners=frozenset({"bob"})), "b r"),
        (known(owners=frozenset({"bob"})), "b r"),
        (known("python:3.12", labelled="bob"), "r"),
        (known("ds01-bob/priv:latest", labelled="bob"), "b r"),
        (known("ds01-eve/x:latest", labelled="bob"), "r"),
        (known("ds01-kept/bob/p:012345678901"), "b r"),
        (known("ds01-kept/1001/p:012345678901"), "b r"),
        (known("ds01-building/b-1:project"), ""),
        (known("ds01-pin/012345678901:latest"), ""),
        (known("ds01-building/b-1:project", labelled="bob"), ""),
        (known("ds01-pin/012345678901:latest", "python:3.12"), "abe r"),
        (known("ds01-course/nlp:candidate"), ""),
        (known("ds01-course/nlp:candidate", courses=(STAFF,)), "b r"),
        (known("ds01-course/nlp:release-1", courses=(GIVEN,)), "ab r"),
        (known("ds01-course/nlp:release-1", courses=(GIVEN,), labelled="carol"), "ab r"),
        (known("ds01-kept/course/nlp:012345678901"), ""),
        (known("ds01-course/nlp:release-1", "ds01-carol/own:1", courses=(GIVEN,)), "ab r"),
        (known("ds01-course/nlp:release-1", "python:3.12", courses=(STAFF,)), "abe r"),
        (known("ds01-carol/own:1", shared_with=frozenset({"nlp"})), "a r"),
        (known("ds01-carol/own:1", shared_with=frozenset({"other"})), "r"),
        (known("ds01-bob/priv:latest", listed_for=frozenset()), "abe r"),
        (known("licensed/matlab:1", listed_for=frozenset({"nlp"})), "a r"),
        (known("ds01-lab/x:1"), "r"),
        (known("ds01-course-x/y:1"), "r"),
    ],
)
def test_who_may_read(image, readers):
    people = {"a": ALICE, "b": BOB, "e": EVE, "r": ROOT}
    assert {p for p, reader in people.items() if may_read(image, reader)} == set(readers) - {" "}


def test_a_person_called_like_a_uid_does_not_own_what_that_uid_made():
    assert not may_read(known("ds01-1001/priv:latest"), Reader("1001"))


class OneImage:
    """An engine with one image, that answers to the beginning of its id as engines do."""

    def __init__(self, facts):
        self.facts, self.pulled = facts, []

    def inspect(self, text):
        if not carries(parse(text), self.facts.id, self.facts.tags, self.facts.digests):
            raise ImageMissing(text)
        return self.facts

    def pull(self, text, progress):
        self.pulled.append(text)
        raise ImageMissing(text)


@pytest.fixture
def store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    yield store
    store.close()


def resolver(store, *tags, listed=(), **changes):
    return Resolver(OneImage(ImageFacts(ID, tags, **changes)), lambda: store, lambda: listed)


def test_what_is_missing_and_what_is_not_theirs_is_told_in_the_same_words(store):
    there, not_there = resolver(store, "ds01-bob/priv:latest"), resolver(store)
    for ask in ("resolve", "fetch", "check"):
        told = set()
        for each in (there, not_there):
            with pytest.raises(NotReadable) as refused:
                getattr(each, ask)("ds01-bob/priv", EVE)
            told.add(str(refused.value))
        assert len(told) == 1
    assert there.images.pulled == not_there.images.pulled == []
    assert there.resolve("ds01-bob/priv", BOB).id == ID


@pytest.mark.parametrize("name", ["4", "44", "444", "444444444444", "sha256:44", "44:latest", "4" * 64])
def test_part_of_an_id_is_no_name_even_of_an_own_image(store, name):
    with pytest.raises(NotReadable):
        resolver(store, "ds01-bob/priv:latest").resolve(name, BOB)


def test_a_full_id_has_the_rights_of_its_image(store):
    assert resolver(store, "ds01-bob/priv:latest").resolve(ID, BOB).id == ID
    for ask in ("resolve", "fetch", "check"):
        with pytest.raises(NotReadable):
            getattr(resolver(store, "ds01-bob/priv:latest"), ask)(ID, EVE)


def test_a_public_name_is_asked_of_the_registry_and_none_of_ours(store):
    lists = Registries(("public", "127.0.0.1:*"), lambda host: ())
    each = Resolver(OneImage(ImageFacts(ID, ())), lambda: store, lambda: (), lists)
    each.check("python:3.12", EVE)
    each.check("127.0.0.1:5000/ds01-tools:1", EVE)
    for name in ("python:3.12", "ds01-bob/x", "ds01-pin/x", "registry.example/ds01-bob/x", ID):
        with pytest.raises(NotReadable):
            each.fetch(name, EVE)
    assert each.images.pulled == ["python:3.12"]


def test_nothing_is_read_by_a_name_of_our_book_keeping(store):
    each = resolver(store, "python:3.12", "ds01-pin/444444444444:latest", "ds01-building/b-1:project")
    assert each.resolve("python:3.12", EVE).id == ID
    for name in ("ds01-pin/444444444444", "ds01-building/b-1:project"):
        for reader in (EVE, ROOT):
            with pytest.raises(NotReadable):
                each.resolve(name, reader)


def test_the_records_say_whose_it_is(store):
    each = resolver(store, "ds01-eve/innocent:latest", "team/x:1")
    data = {"current": ID, "previous": []}
    store.environments.put("ds01-bob/priv:latest", "bob", "mine", "ready", data, NOW)
    assert each.known(each.images.facts).owners == {"bob"}
    assert each.readable(each.images.facts, BOB)
    assert not each.readable(each.images.facts, EVE)
    former = {"current": "sha256:" + "5" * 64, "previous": [ID]}
    store.environments.put("ds01-bob/priv:latest", "bob", "mine", "ready", former, NOW)
    assert not each.readable(each.images.facts, EVE)


def test_a_share_reaches_its_group_as_long_as_the_name_leads_to_the_image(store):
    store.shares.add("ds01-bob/p:latest", "nlp", "bob", "bob", NOW)
    each = resolver(store, "ds01-bob/p:latest")
    assert each.readable(each.images.facts, ALICE)
    assert not each.readable(each.images.facts, EVE)
    moved = resolver(store, "ds01-kept/bob/p:444444444444")
    assert not moved.readable(moved.images.facts, ALICE)


def test_a_course_gives_what_it_publishes_and_its_staff_what_it_built(store):
    each = resolver(store, "ds01-course/nlp:candidate")
    data = {"staff": ["bob"], "roster": ["nlp"]}
    store.courses.put("nlp", "carol", "draft", data, NOW)
    seen = [each.readable(each.images.facts, r) for r in (ALICE, BOB, EVE, Reader("carol"))]
    assert seen == [False, True, False, True]
    store.courses.put("nlp", "carol", "published", {**data, "pinned": ID}, NOW)
    assert each.readable(each.images.facts, ALICE)
    store.courses.put("nlp", "carol", "closed", {**data, "pinned": ID}, NOW)
    assert not each.readable(each.images.facts, ALICE)
    assert not each.readable(each.images.facts, EVE)


def test_a_name_in_a_courses_file_gives_its_staff_no_right(store):
    """It may have been applied before the image was there, or lead elsewhere since."""
    listed = (Environment("m", "lab", "licensed/matlab:1", groups=frozenset({"nlp"})),)
    each = resolver(store, "licensed/matlab:1", listed=listed)
    data = {"staff": ["eve"], "roster": ["x"], "image": "licensed/matlab:1"}
    store.courses.put("nlp", "eve", "draft", data, NOW)
    assert not each.readable(each.images.facts, EVE)


def test_the_sites_list_opens_an_image_to_those_it_is_listed_for(store):
    def readable(image, *groups):
        listed = (Environment("lab", "lab", image, groups=frozenset(groups)),)
        each = resolver(store, "licensed/matlab:1", listed=listed)
        return [each.readable(each.images.facts, r) for r in (ALICE, EVE)]

    assert readable("docker.io/licensed/matlab:1") == [True, True]
    assert readable("licensed/matlab:1", "nlp") == [True, False]
    assert readable(ID, "nlp") == [True, False]
    assert readable("other:1", "nlp") == [True, True]


def test_without_the_store_names_decide_and_open_less():
    def broken():
        raise StoreError("down")

    facts = ImageFacts(ID, ("ds01-bob/p:latest",))
    each = Resolver(OneImage(facts), broken)
    assert each.readable(facts, BOB)
    assert not each.readable(facts, ALICE)

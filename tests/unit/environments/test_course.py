"""Courses: the file, what applying changes, who may, and what students see of it."""

from datetime import datetime, timezone

import pytest

from ds01spawner.core.errors import Refused
from ds01spawner.core.yaml_reader import FileProblems
from ds01spawner.courses import publication as courses
from ds01spawner.courses.spec import load_course, needs_build
from ds01spawner.engines.docker.image_store import ImageMissing
from ds01spawner.environments.catalogue import visible
from ds01spawner.environments.course_cards import course_environments
from ds01spawner.environments.facts import ImageFacts
from ds01spawner.environments.resolver import NotReadable
from ds01spawner.store import Store

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
FILE = """version: 1
course: nlp
title: Language
staff: [prof]
roster: nlp-s26
recipe:
  base: lab
  pip: [transformers]
"""


class FakeImages:
    """Images by reference, with tags that move."""

    def __init__(self, **known):
        self.known = {k.replace("__", ":"): v for k, v in known.items()}

    def inspect(self, reference):
        for name, image in self.known.items():
            if reference in (name, image):
                return ImageFacts(image)
        raise ImageMissing(reference)

    def tag(self, image, reference):
        self.known[reference] = image


def apply(store, course, by, now, check=lambda name: None, **options):
    return courses.apply(store, course, by, now, check=check, **options)


def publish(store, images, *args, **options):
    return courses.publish(store, images, *args, **{"resolve": images.inspect, **options})


def step_back(store, images, *args, **options):
    return courses.step_back(store, images, *args, resolve=images.inspect, **options)


@pytest.fixture
def store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    yield store
    store.close()


def load(tmp_path, text=FILE):
    path = tmp_path / "course.yaml"
    path.write_text(text)
    return load_course(path)


def test_apply_is_idempotent_and_shows_the_difference(tmp_path, store):
    wanted = load(tmp_path)
    assert [c.key for c in apply(store, wanted, "root", NOW, dry_run=True)]
    assert store.courses.get("nlp") is None
    first = apply(store, wanted, "root", NOW)
    assert needs_build(first)
    assert apply(store, wanted, "root", NOW) == []
    changed = load(tmp_path, FILE.replace("title: Language", "title: NLP"))
    assert [str(c) for c in apply(store, changed, "root", NOW)] == ["~ title: Language → NLP"]


def test_publish_and_step_back(tmp_path, store):
    apply(store, load(tmp_path), "root", NOW)
    images = FakeImages()
    with pytest.raises(Refused, match="candidate is not on this machine"):
        publish(store, images, "nlp", "root", NOW)
    images.known["ds01-course/nlp:candidate"] = "sha256:aaaa"
    assert publish(store, images, "nlp", "prof", NOW, admin=False) == "sha256:aaaa"
    images.known["ds01-course/nlp:candidate"] = "sha256:bbbb"
    assert store.courses.get("nlp").data["pinned"] == "sha256:aaaa"
    assert publish(store, images, "nlp", "prof", NOW, admin=False) == "sha256:bbbb"
    assert step_back(store, images, "nlp", "prof", NOW, admin=False) == "sha256:aaaa"
    assert [p.image for p in store.courses.publications("nlp")] == [
        "sha256:aaaa",
        "sha256:bbbb",
        "sha256:aaaa",
    ]
    # Applying the file again neither publishes nor forgets what is published.
    assert apply(store, load(tmp_path), "root", NOW) == []
    assert store.courses.get("nlp").data["pinned"] == "sha256:aaaa"


def test_who_sees_the_card(tmp_path, store):
    apply(store, load(tmp_path), "root", NOW)

    def sees(person, *groups):
        return bool(visible(course_environments(store.courses.find()), person, groups))

    assert [sees("prof"), sees("alice", "nlp-s26"), sees("eve", "other")] == [True, False, False]
    publish(store, FakeImages(**{"ds01-course/nlp__candidate": "sha256:a"}), "nlp", "prof", NOW)
    assert [sees("prof"), sees("alice", "nlp-s26"), sees("eve", "other")] == [True, True, False]
    courses.close(store, "nlp", "prof", NOW, admin=False)
    assert [sees("prof"), sees("alice", "nlp-s26"), sees("eve", "other")] == [False, False, False]


@pytest.mark.parametrize("act", [
    lambda s, c: apply(s, c, "eve", NOW, admin=False),
    lambda s, c: publish(s, FakeImages(), "nlp", "eve", NOW, admin=False),
    lambda s, c: step_back(s, FakeImages(), "nlp", "eve", NOW, admin=False),
    lambda s, c: courses.close(s, "nlp", "eve", NOW, admin=False),
])  # fmt: skip
def test_others_change_nothing(tmp_path, store, act):
    wanted = load(tmp_path)
    apply(store, wanted, "root", NOW)
    publish(store, FakeImages(**{"ds01-course/nlp__candidate": "sha256:a"}), "nlp", "root", NOW)
    before = store.courses.get("nlp")
    with pytest.raises(Refused):
        act(store, wanted)
    assert store.courses.get("nlp") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("data: [{source: /etc, target: /data/x}]\n", "/etc is not below /srv/data/"),
        ("data: [{source: /srv/data2, target: /data/x}]\n", "not below /srv/data/"),
        ("data: [{source: /srv/data/nlp, target: /data/x}]\n", ""),
    ],
)
def test_staff_hand_out_only_what_is_theirs(tmp_path, store, change, words):
    apply(store, load(tmp_path), "root", NOW)
    wanted = load(tmp_path, FILE + change)
    if not words:
        assert apply(store, wanted, "prof", NOW, admin=False, data_roots=["/srv/data"])
        return
    with pytest.raises(Refused, match=words):
        apply(store, wanted, "prof", NOW, admin=False, data_roots=["/srv/data"])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (FILE.replace("roster: nlp-s26\n", ""), 1, "roster: is missing"),
        (FILE + "image: x\n", 1, "either a `recipe` or an `image`"),
        (FILE.replace("transformers", "-e x"), 8, "option of pip"),
        (FILE.replace("title:", "titel:"), 3, "titel: is not a known key"),
        (FILE + "data: [{source: /srv/../etc, target: /data/x}]\n", 9, "not a plain absolute path"),
        (FILE + "data: [{source: '/srv:ro', target: /data/x}]\n", 9, "not a plain absolute path"),
        (FILE + "data: [{source: /srv/x, target: /etc}]\n", 9, "below /data or /course"),
        (FILE + "starter: ../x\n", 9, "not a path inside"),
        (FILE.replace("[prof]", "['a b']"), 4, "is not the name of a person"),
        (FILE.replace("course: nlp", "course: N L P"), 2, "course"),
        (
            FILE.replace("  pip: [transformers]", "  dockerfile: D").replace("  base: lab\n", ""),
            6,
            "no files of a project",
        ),
    ],
)
def test_wrong_files(tmp_path, text, line, words):
    with pytest.raises(FileProblems) as problems:
        load(tmp_path, text)
    assert words in str(problems.value)
    assert line in {p.line for p in problems.value.problems}


def test_no_such_course(store):
    with pytest.raises(Refused, match="There is no course"):
        publish(store, FakeImages(), "none", "root", NOW)


IMAGE = FILE.partition("recipe:")[0]


def no_right(name):
    raise NotReadable(f"there is no image {name!r} that you may use: it does not exist, or belongs to others")


def test_an_image_that_is_not_theirs_is_neither_applied_nor_published(tmp_path, store):
    wanted = load(tmp_path, IMAGE + "image: site/nlp:1\n")
    with pytest.raises(Refused, match="belongs to others"):
        apply(store, wanted, "prof", NOW, check=no_right)
    assert store.courses.get("nlp") is None
    apply(store, wanted, "root", NOW)
    images = FakeImages(**{"site/nlp__1": "sha256:a"})
    with pytest.raises(Refused, match="not on this machine"):
        publish(store, images, "nlp", "prof", NOW, resolve=no_right)
    assert publish(store, images, "nlp", "root", NOW) == "sha256:a"
    renamed = load(tmp_path, IMAGE.replace("title: Language", "title: NLP") + "image: site/nlp:1\n")
    assert apply(store, renamed, "prof", NOW, admin=False, check=no_right), "the image is as it was approved"
    assert pinned_of(store) == "sha256:a"


def pinned_of(store):
    return store.courses.get("nlp").data["pinned"]


@pytest.mark.parametrize("name", ["49 3", "'x'", "Site/NLP", "x:y:z", "0" * 64, "a@sha256:00"])
def test_an_image_is_named_plainly(tmp_path, name):
    with pytest.raises(FileProblems):
        load(tmp_path, IMAGE + f"image: {name!r}\n")

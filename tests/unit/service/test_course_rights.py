"""Who may do what to a course: every role at every endpoint, and what a file may make of a stored course."""

from __future__ import annotations

import json

import pytest
from support.service_world import NOW, make_world, serving

from ds01spawner.core.yaml_reader import Document
from ds01spawner.courses import publication as courses
from ds01spawner.courses.spec import parse_course
from ds01spawner.policy.resolve import Person
from ds01spawner.store import Store

TEACH = "custom:ds01:course:teach"
FILE = {"course": "nlp", "title": "NLP", "roster": ["nlp"], "recipe": {"pip": ["six"]}}


@pytest.fixture
def world(tmp_path, monkeypatch):
    world = make_world(tmp_path, monkeypatch)
    names = ("inside", "outside", "owner", "staff", "everywhere", "student")
    world.hub.people |= {n: Person(n) for n in names}
    world.hub.people["student"] = Person("student", frozenset({"nlp"}))
    world.hub.scopes = {
        "inside": [f"{TEACH}!group=nlp"],
        "outside": [f"{TEACH}!group=vision"],
        "everywhere": [TEACH],
    }
    data = {**FILE, "staff": ["staff"], "image": "ds01/lab:latest", "recipe": None, "data": []}
    world.store.courses.put("nlp", "owner", "draft", data, NOW)
    return world


@pytest.fixture
async def call(world):
    async with serving(world) as client:
        yield client


MAY = {
    "owner": True, "staff": True, "inside": True, "everywhere": True, "root": True,
    "outside": False, "student": False, "alice": False, "": False,
}  # fmt: skip
ENDPOINTS = {
    "look": ("api/courses/nlp", "GET", None, None, 200),
    "page": ("courses/nlp", "GET", None, None, 200),
    "class": ("courses/nlp/class", "GET", None, None, 200),
    "pull": ("courses/nlp/pull", "GET", None, None, 200),
    "prepull": ("api/courses/nlp/prepull", "POST", {}, None, 200),
    "publish": ("api/courses/nlp/publish", "POST", {}, None, 200),
    "back": ("api/courses/nlp/back", "POST", {}, None, 409),
    "close": ("api/courses/nlp/close", "POST", {}, None, 200),
    "page: close": ("courses/nlp", "POST", None, {"act": "close"}, 302),
    "page: publish": ("courses/nlp", "POST", None, {"act": "publish"}, 302),
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("who", MAY)
async def test_each_role_at_each_endpoint(call, world, monkeypatch, endpoint, who):
    monkeypatch.setattr(
        world.site.environments, "preflight", lambda facts: type("Fit", (), {"ok": True, "reason": ""})()
    )
    path, method, body, form, good = ENDPOINTS[endpoint]
    answer = await call(path, who, method, body, form=form)
    if MAY[who]:
        assert answer.code == good, answer.text
    else:
        page = not who and endpoint == "page"  # a reader without log-in is sent to log in
        assert answer.code == (302 if page else 403 if not who else 404)
        assert "NLP" not in answer.text
        assert world.store.courses.get("nlp").state == "draft"


@pytest.mark.parametrize("path", ["api/reservations", "admin/drain", "admin/retire"])
@pytest.mark.parametrize("who", ["inside", "outside", "owner", "staff", "everywhere", "student"])
async def test_what_teaching_does_not_give(call, path, who):
    assert (await call(path, who, "POST", {}, form=None if "api" in path else {})).code == 403


# who applies, roster and staff stored, roster and staff in the file, refusal (or "" where it is done)
MOVES = [
    ("owner", "nlp", "staff", "nlp", "staff", ""),
    ("owner", "nlp", "staff", "nlp", "staff carol", ""),
    ("owner", "nlp", "staff", "nlp students", "staff", "roster-outside"),
    ("owner", "nlp vision", "staff", "vision", "staff", ""),
    ("staff", "nlp", "staff", "nlp", "staff", ""),
    ("staff", "nlp vision", "staff", "nlp", "staff", ""),
    ("staff", "nlp", "staff carol", "nlp", "staff", ""),
    ("staff", "nlp", "staff", "students", "staff", "roster-outside"),
    ("staff", "nlp", "staff", "nlp", "staff carol", "staff-outside"),
    ("inside", "nlp", "staff", "nlp", "staff", ""),
    ("inside", "nlp", "staff", "nlp", "carol", ""),
    ("inside", "nlp", "staff", "nlp students", "staff", "roster-outside"),
    ("inside", "nlp", "staff", "students", "staff", "roster-outside"),
    ("inside", "nlp vision", "staff", "nlp", "staff", "not-staff"),
    ("inside", "vision", "staff", "nlp", "staff", "not-staff"),
    ("inside", "", "", "nlp", "carol", ""),
    ("inside", "", "", "nlp students", "", "not-staff"),
    ("both", "nlp", "", "nlp vision", "", ""),
    ("both", "nlp vision", "", "vision", "", ""),
    ("both", "nlp", "", "nlp vision students", "", "roster-outside"),
    ("outside", "nlp", "staff", "vision", "staff", "not-staff"),
    ("everywhere", "nlp", "staff", "students", "carol", ""),
    ("root", "nlp", "staff", "students", "carol", ""),
    ("student", "nlp", "staff", "nlp", "staff", "not-staff"),
    ("staffed", "nlp", "staffed", "nlp vision", "staffed", ""),
    ("staffed", "nlp", "staffed", "vision", "staffed carol", ""),
]
SCOPES = {
    "inside": {f"{TEACH}!group=nlp"},
    "outside": {f"{TEACH}!group=vision"},
    "both": {f"{TEACH}!group=nlp", f"{TEACH}!group=vision"},
    "staffed": {f"{TEACH}!group=vision"},
    "everywhere": {TEACH},
}


@pytest.mark.parametrize(("who", "roster", "staff", "to", "to_staff", "refused"), MOVES)
def test_what_a_file_may_make_of_a_course(tmp_path, who, roster, staff, to, to_staff, refused):
    store = Store.open(f"sqlite:///{tmp_path / 'x.sqlite'}")
    if roster:
        stored = {**FILE, "roster": roster.split(), "staff": staff.split()}
        store.courses.put("nlp", "owner", "draft", stored, NOW)
    course = parse_course(
        Document("course.yaml", {**FILE, "roster": to.split(), "staff": to_staff.split()}, {})
    )
    rights = {"admin": who == "root", "scopes": SCOPES.get(who, ())}
    try:
        courses.apply(store, course, who, NOW, check=lambda image: None, **rights)
        code = ""
    except courses.Refused as error:
        code = error.refusal.code
    assert code == refused
    if refused and roster:
        assert store.courses.get("nlp").data["roster"] == roster.split()
    store.close()


async def test_the_move_over_http(call, world):
    text = json.dumps({**FILE, "roster": ["nlp", "students"]})
    answer = await call("api/courses", "inside", "POST", {"text": text})
    assert (answer.code, json.loads(answer.text)["code"]) == (403, "roster-outside")
    for dry in (True, False):
        assert (await call("api/courses", "inside", "POST", {"text": text, "dry_run": dry})).code == 403
    assert world.store.courses.get("nlp").data["roster"] == ["nlp"]


@pytest.mark.parametrize(
    "scope",
    [f"{TEACH}!user=inside", f"{TEACH}!server=x/y", f"{TEACH}!group=nlp,vision", f"{TEACH}!", "custom:x"],
)
def test_scopes_with_other_filters_give_nothing(scope):
    assert not courses.teaches({scope}, ["nlp"])

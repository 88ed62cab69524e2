"""A course's reservation serves those who start the course's environment, and only those on its roster."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from queue_site import START
from support.rows import course

from ds01spawner.admission.accounts import claim_keys, course_named, course_of
from ds01spawner.placement.devices import GpuRequest
from ds01spawner.policy.resolve import Person
from ds01spawner.queue import booking
from ds01spawner.queue.order import line_up
from ds01spawner.queue.ticket import Rules, Ticket, Usage

H = timedelta(hours=1)
COURSE = {"title": "NLP", "roster": ["nlp-s26"], "staff": ["ada"], "pinned": "sha256:1"}
STUDENT = Person("stu", frozenset({"nlp-s26", "ml"}))


def row(state="published", **data):
    return course(state=state, **{**COURSE, **data})


@pytest.mark.parametrize(
    ("environment", "person", "rows", "expected"),
    [
        pytest.param("course/nlp", STUDENT, [row()], "nlp", id="on the roster"),
        pytest.param("course/nlp", Person("eve", frozenset({"ml"})), [row()], "", id="not on the roster"),
        pytest.param("course/nlp", Person("ada"), [row()], "nlp", id="staff"),
        pytest.param("course/nlp:candidate", Person("ada"), [row()], "nlp", id="staff, not published yet"),
        pytest.param("course/nlp:candidate", STUDENT, [row()], "", id="students have no candidates"),
        pytest.param("course/nlp", STUDENT, [row(pinned="")], "", id="a draft is its staff's alone"),
        pytest.param("course/nlp", STUDENT, [row("closed")], "", id="closed"),
        pytest.param("course/nlp", STUDENT, [], "", id="unknown"),
        pytest.param("lab", STUDENT, [row()], "", id="another environment"),
        pytest.param("", STUDENT, [row()], "", id="the default"),
    ],
)
def test_the_course_of_a_start(environment, person, rows, expected):
    assert course_of(environment, person, rows) == expected


@pytest.mark.parametrize(
    ("environment", "named"),
    [("course/nlp", "nlp"), ("course/nlp:candidate", "nlp"), ("lab", ""), ("mine/course/x", ""), ("", "")],
)
def test_the_course_of_a_session(environment, named):
    assert course_named(environment) == named


def test_what_lifts_blocks():
    who = frozenset({"user:stu", "group:nlp-s26", "group:ml"})
    assert claim_keys(STUDENT) == who
    assert claim_keys(STUDENT, "nlp") == who | {"course:nlp"}
    ticket = Ticket("7", "stu", START, groups=("ml",), course="nlp")
    assert ticket.keys == {"user:stu", "group:ml", "course:nlp", "ticket:7", "queue"}


@settings(max_examples=50)
@given(st.text(max_size=30), st.sets(st.sampled_from(["nlp-s26", "ml", "course:nlp"])))
def test_no_made_up_name_opens_a_course(name, groups):
    """Only one of its two ids by one of its roster."""
    found = course_of(name, Person("eve", frozenset(groups)), [row()])
    assert found == ("nlp" if name == "course/nlp" and "nlp-s26" in groups else "")


def test_a_course_s_use_decides_between_equal_people_whatever_their_groups_used():
    def ticket(name, ago, course):
        arrived = START - timedelta(minutes=ago)
        return Ticket(name, name, arrived, GpuRequest("1g.10gb"), groups=("all",), course=course)

    tickets = [ticket("first", 9, "big"), ticket("second", 1, "small")]
    usage = Usage(groups={"all": 500.0, "course:big": 100.0, "course:small": 1.0})
    assert [t.id for t in line_up(tickets, usage, START, Rules())] == ["second", "first"]


async def test_a_reservation_for_a_course_serves_its_students_places(world, monkeypatch):
    people = {"stu": STUDENT, "eve": Person("eve", frozenset({"ml"}))}

    async def person(name, max_age=30):
        return people[name]

    monkeypatch.setattr(world.hub, "person", person)
    world.store.courses.put("nlp", "prof", "published", COURSE, START)
    wish = {
        "subject": "course:nlp",
        "profile": "1g.10gb",
        "count": 6,
        "start": START.isoformat(),
        "end": (START + 2 * H).isoformat(),
    }
    booking.reserve(world.store, booking.parse(wish), world.site.inventory, "root", world.clock())
    await world.tick()
    assert len(world.store.blocks.at(world.clock())) == 6
    eve = world.join("eve", environment="course/nlp")
    own = world.join("stu", server="own")
    await world.tick()
    assert (world.state(eve), world.state(own)) == ("waiting", "waiting")
    assert "reserved for course:nlp" in world.store.tickets.get(own).shown["reason"]
    student = world.join("stu", environment="course/nlp")
    await world.tick()
    assert world.state(student) == "started"
    assert world.site.held == {"M0": ("stu", "")}

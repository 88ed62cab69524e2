"""Reservations: when they hold, what they keep, what they refuse."""

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from support.rows import reservation

from ds01spawner.core.errors import Refused
from ds01spawner.placement.devices import Card, Device, Holding, Inventory
from ds01spawner.queue.reservations import (
    Reservation,
    check,
    choose,
    collisions,
    current,
    from_row,
    no_show,
    occurrences,
    to_row,
)

UTC = timezone.utc
H = timedelta(hours=1)
START = datetime(2026, 3, 23, 13, 0, tzinfo=UTC)  # Monday, 14:00 in Berlin, a week before summer time
CLASS = Reservation(
    "r1",
    "course:nlp",
    START,
    START + 2 * H,
    "Europe/Berlin",
    "FREQ=WEEKLY;COUNT=3",
    profile="1g.10gb",
    count=2,
)
THREE = Inventory(
    "simulated",
    tuple(Device(f"M{i}", "A100", "1g.10gb", 10240, 1, "G", i) for i in range(3)),
    (Card("G", "A100", 81920, True),),
)


def starts(found):
    return [o.start for o in found]


def test_a_class_stays_at_its_hour_when_the_clocks_change():
    found = occurrences(CLASS, START - H, START + timedelta(days=60))
    assert [s.strftime("%m-%d %H:%M") for s in starts(found)] == ["03-23 13:00", "03-30 12:00", "04-06 12:00"]
    assert {o.end - o.start for o in found} == {2 * H}


def test_a_single_one_holds_once():
    once = replace(CLASS, rrule="")
    assert starts(occurrences(once, START + H, START + 5 * H)) == [START]
    assert occurrences(once, START + 2 * H, START + 9 * H) == []


def test_given_back_occurrences_do_not_hold():
    found = occurrences(replace(CLASS, released=frozenset({START})), START - H, START + timedelta(days=8))
    assert [s.strftime("%m-%d") for s in starts(found)] == ["03-30"]


def test_an_endless_rule_is_expanded_only_as_far_as_asked():
    daily = replace(CLASS, rrule="FREQ=DAILY")
    assert len(occurrences(daily, START + timedelta(days=3000, hours=3), START + timedelta(days=3007))) == 7


@pytest.mark.parametrize(
    ("before", "holds"), [(31, False), (30, True), (0, True), (-119, True), (-120, False)]
)
def test_it_holds_from_its_lead_to_its_end(before, holds):
    found = current(CLASS, START - timedelta(minutes=before))
    assert (found is not None) is holds


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"subject": "everybody"}, "it is for nobody"),
        ({"ends_at": START}, "end is not after"),
        ({"ends_at": START + timedelta(days=32)}, "31 days"),
        ({"profile": ""}, "names no devices"),
        ({"count": 0}, "names no devices"),
        ({"zone": "Mars/Olympus"}, "no time zone"),
        ({"zone": "../../etc/passwd"}, "no time zone"),
        ({"rrule": "FREQ=SECONDLY"}, "daily or less often"),
        ({"rrule": "FREQ=HOURLY"}, "daily or less often"),
        ({"rrule": "garbage"}, "daily or less often"),
        ({"rrule": "FREQ=DAILY;BYHOUR=1,2"}, "time of day"),
        ({"rrule": "DTSTART:20200101T000000\nRRULE:FREQ=DAILY"}, "daily or less often"),
        ({"rrule": "FREQ=DAILY;BYDAY=XX"}, "cannot be read"),
        ({"rrule": "FREQ=WEEKLY;UNTIL=20200101T000000"}, "never holds"),
        ({"rrule": "FREQ=DAILY", "ends_at": START + 30 * H}, "before it has ended"),
        ({"devices": ("M9",)}, "no device M9"),
        ({"count": 4}, "has 3 × 1g.10gb"),
    ],
)
def test_what_is_refused(change, why):
    with pytest.raises(Refused, match=f"(?i){why}") as caught:
        check(replace(CLASS, **change), THREE)
    assert caught.value.refusal.status == 400


def test_what_is_allowed():
    check(CLASS, THREE)
    check(replace(CLASS, rrule="", devices=("M1",), profile=""), THREE)


def session(uuid, user="ann", name=""):
    return Holding(uuid, holder=user, kind="session", user=user, session=name or f"s-{uuid}")


@pytest.mark.parametrize(
    ("held", "taken", "ends", "kept", "expected"),
    [
        ((), (), {}, (), ("M0", "M1")),
        (("M0",), (), {}, (), ("M1", "M2")),
        (("M0", "M1"), (), {"M1": START}, (), ("M2", "M1")),
        ((), ("M0",), {}, (), ("M1", "M2")),
        ((), (), {}, ("M2",), ("M2", "M0")),
        (("M2",), (), {}, ("M2",), ("M2", "M0")),
    ],
    ids=["free", "around the busy", "soonest free", "not another's", "what it keeps stays", "also when used"],
)
def test_what_it_keeps(held, taken, ends, kept, expected):
    found = choose(CLASS, THREE, [session(u) for u in held], frozenset(taken), ends, kept)
    assert found == expected


def test_named_devices_are_kept_by_name():
    assert choose(replace(CLASS, devices=("M2",)), THREE, [], frozenset(), {}) == ("M2",)


@pytest.mark.parametrize(
    ("minutes", "kept", "held", "expected"),
    [
        (14, ("M0",), (), False),
        (15, ("M0",), (), True),
        (15, ("M0",), ("M0",), False),
        (15, ("M0",), ("M1",), True),
        (15, (), (), False),
    ],
)
def test_a_no_show_gives_the_devices_back_after_the_grace(minutes, kept, held, expected):
    (occurrence,) = occurrences(CLASS, START, START + H)
    holdings = [session(u) for u in held]
    assert no_show(CLASS, occurrence, kept, holdings, START + timedelta(minutes=minutes)) is expected


def test_sessions_that_would_run_into_it_are_found_early():
    lasts = {"s-M0": START + H, "s-M1": START - H}
    held = [session("M0"), session("M1")]
    found = collisions([CLASS], THREE, held, lasts, START - 3 * H, timedelta(hours=6))
    assert [(c.holding.session, c.sure) for c in found] == [("s-M0", False)]
    everything = [session("M0"), session("M1"), session("M2")]
    found = collisions([CLASS], THREE, everything, {}, START - 3 * H, timedelta(hours=6))
    assert [c.sure for c in found] == [True, True, True]
    mine = replace(CLASS, subject="user:ann")
    assert collisions([mine], THREE, everything, {}, START - 3 * H, timedelta(hours=6)) == []
    courses = {"s-M0": "nlp", "s-M1": "other"}
    found = collisions([CLASS], THREE, everything, {}, START - 3 * H, timedelta(hours=6), courses)
    assert [c.holding.session for c in found] == ["s-M1", "s-M2"]


def test_the_course_s_own_sessions_count_as_what_is_kept_for_it():
    """Who came early is not given a device beyond what was reserved."""
    held = [session("M0"), session("M1")]
    assert choose(CLASS, THREE, held, frozenset(), {}) == ("M2", "M0")
    assert choose(CLASS, THREE, held, frozenset(), {}, courses={"s-M0": "nlp"}) == ("M0", "M2")


def test_course_members_may_take_it_by_course_or_by_its_group():
    assert CLASS.exempt == {"course:nlp", "group:nlp"}
    assert replace(CLASS, subject="user:ann").exempt == {"user:ann"}


def test_rows_and_back():
    row = reservation(**to_row(CLASS, "prof"), released=(START.isoformat(),))
    assert from_row(row) == replace(CLASS, released=frozenset({START}))

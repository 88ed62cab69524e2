"""The campaign's checks bite: each planted lie is found, and what is true passes."""

from __future__ import annotations

from dataclasses import replace
from threading import RLock
from types import SimpleNamespace

import pytest

from faults.history import Row
from faults.observe import Observer, Seen
from faults.pages import home_is_true, strip_is_true
from faults.session import written
from faults.verdict import (
    DeviceSaid,
    accounting_is_right,
    devices_are_free_or_held,
    ends_are_true,
    held_devices,
    untouched_are_not_lost,
    workspaces_are_whole,
)

BEGAN, ENDED, NOW = 1000.0, 1010.0, 2000.0


def seen(*causes: str, **changes) -> Seen:
    base = Seen("s1", "ann", "", "p", ("GPU-1",), "c1", BEGAN, began=BEGAN, ended=ENDED, gone=ENDED, code=0)
    marks = [(BEGAN + 1, "ready"), *((ENDED - 1, c) for c in causes)]
    return replace(base, causes=marks, **changes)


ROW = Row("s1", "ann", "", BEGAN, ENDED, "stopped", "it was retired by its owner", 0.14)


def rules(found) -> set[str]:
    return {v.rule for v in found}


def test_a_true_end_passes():
    assert ends_are_true([seen("owner")], {"s1": ROW}, NOW, set()) == []


@pytest.mark.parametrize(
    ("session", "row", "rule"),
    [
        (seen("owner"), None, "every session is in history"),
        (seen("owner"), replace(ROW, ended=None), "history ends what ended"),
        (seen("owner"), replace(ROW, ended=ENDED - 2.5), "ends are exact"),
        (seen("exit", code=7), ROW, "reasons are true"),
        (seen("exit", code=7), replace(ROW, reason="ended with exit code 8"), "reasons are true"),
        (seen("memory", code=137), replace(ROW, reason="the container was gone"), "reasons are true"),
        (seen("admin"), ROW, "reasons are true"),
    ],
)
def test_a_planted_lie_about_an_end_is_found(session, row, rule):
    told = {"s1": row} if row else {}
    assert rule in rules(ends_are_true([session], told, NOW, set()))


def test_a_record_that_was_taken_away_is_no_lie():
    assert ends_are_true([seen("owner")], {}, NOW, {"s1"}) == []
    assert ends_are_true([seen("owner")], {"s1": replace(ROW, ended=None)}, NOW, {"s1"}) == []
    assert ends_are_true([seen("exit", code=7)], {"s1": ROW}, NOW, {"s1"})


def test_what_ended_before_the_store_was_taken_away_may_be_told_without_its_decision():
    replayed = replace(
        ROW, kind="unknown", reason="why was written in the session store that was removed or replaced"
    )
    assert ends_are_true([seen("owner")], {"s1": replayed}, NOW, set(), store_lost_at=ENDED + 600) == []
    assert ends_are_true([seen("owner")], {"s1": replayed}, NOW, set(), store_lost_at=ENDED - 1)
    outside = replace(ROW, kind="removed", reason="its container was removed from outside")
    assert ends_are_true([seen("owner")], {"s1": outside}, NOW, set(), store_lost_at=ENDED + 600)


def test_what_the_engine_forgot_may_be_lost_and_no_later_than_it_was():
    lost = replace(ROW, kind="lost", reason="its container was gone", ended=ENDED - 20)
    assert ends_are_true([seen("owner")], {"s1": lost}, NOW, set(), forgotten={"s1"}) == []
    assert ends_are_true([seen("owner")], {"s1": lost}, NOW, set())
    assert ends_are_true(
        [seen("owner")], {"s1": replace(lost, ended=ENDED + 20)}, NOW, set(), forgotten={"s1"}
    )
    assert ends_are_true([seen("owner")], {"s1": replace(lost, kind="killed")}, NOW, set(), forgotten={"s1"})


def test_a_session_that_ends_for_nothing_is_found():
    assert rules(untouched_are_not_lost([seen()])) == {"nothing untouched is lost"}
    assert untouched_are_not_lost([seen("owner"), seen(ended=None, gone=None)]) == []


def test_accounting_is_compared_to_one_per_cent():
    assert accounting_is_right([seen("owner")], {"s1": ROW}, set())[2] == []
    assert accounting_is_right([seen("owner")], {"s1": replace(ROW, ended=ENDED - 0.2)}, set())[2]
    assert accounting_is_right([seen("owner")], {}, set())[2]


def test_a_workspace_must_be_whole():
    key, expected = ("ann", "p", "s1"), written()
    assert workspaces_are_whole([seen("owner")], {key: expected}, expected) == []
    assert workspaces_are_whole([seen("owner")], {key: expected[:-1]}, expected)
    assert workspaces_are_whole([seen("owner")], {}, expected)
    assert workspaces_are_whole([seen("owner")], {}, expected, {"s1"}) == []


@pytest.mark.parametrize(
    ("state", "there", "wrong"),
    [("held", True, False), ("free", False, False), ("free", True, True), ("held", False, True)],
)
def test_a_device_is_what_the_engine_says(state, there, wrong):
    found = devices_are_free_or_held([DeviceSaid("GPU-1", state, "ann")], [seen()] if there else [])
    assert bool(found) is wrong


def test_a_strip_shows_as_many_devices_taken_as_are_held():
    page = "".join(f'<li class="ds01-seg ds01-seg-{state}">' for state in ("held", "mine", "free"))
    assert strip_is_true(page, "p", {"a", "b"}, 3) == []
    assert strip_is_true(page, "p", {"a"}, 3)
    assert strip_is_true(page, "p", {"a", "b", "c"}, 3)
    assert strip_is_true(page, "p", {"a", "b"}, 4)


def test_a_card_that_had_a_fault_is_shown_as_kept_back_for_a_while_only():
    page = "".join(f'<li class="ds01-seg ds01-seg-{state}">' for state in ("held", "lost", "free"))
    assert strip_is_true(page, "p", {"a", "b"}, 3)
    assert strip_is_true(page, "p", {"a", "b"}, 3, faulted=True) == []
    assert strip_is_true(page, "p", {"a"}, 3, faulted=True) == []
    assert strip_is_true(page, "p", {"a", "b", "c"}, 3, faulted=True)
    assert strip_is_true(page, "p", set(), 3, faulted=True)


def test_a_page_without_devices_says_why_shortly_after_a_driver_that_hung():
    page = "the NVIDIA driver did not answer in time a moment ago; it is asked again soon"
    assert strip_is_true(page, "p", set(), 3)
    assert strip_is_true("", "p", set(), 3, faulted=True)
    assert strip_is_true(page, "p", set(), 3, faulted=True) == []


def test_home_shows_what_runs_and_nothing_else():
    page = '<a href="/user/ann/">Open</a> <a href="/user/ann/b/">Open</a>'
    runs = [seen(server="", ended=None, gone=None), seen(server="b", ended=None, gone=None)]
    assert home_is_true(page, "ann", runs) == []
    assert home_is_true(page, "ann", runs[:1])
    assert home_is_true(page, "ann", [*runs, seen(server="a")])


def test_a_start_that_goes_on_in_another_container_is_one_session():
    watching = Observer.__new__(Observer)
    watching.sessions, watching.log, watching.lock = {}, SimpleNamespace(say=lambda *_, **__: None), RLock()

    def happens(action, container, at, device="", **facts):
        labels = {"ds01.session": "s1", "ds01.user": "u1", "ds01.gpu.uuids": device, **facts}
        watching._event({"Action": action, "Actor": {"ID": container, "Attributes": labels}}, at)

    happens("create", "c1", 10.0, "MIG-1")
    happens("destroy", "c1", 11.0, "MIG-1")
    assert watching.sessions["s1"].over_at == 11.0
    happens("create", "c2", 11.2, "MIG-2")
    happens("start", "c2", 12.0, "MIG-2")
    happens("destroy", "c1", 12.5, "MIG-1")
    (seen,) = watching.live()
    assert (seen.container, seen.devices, seen.created, seen.began) == ("c2", ("MIG-2",), 10.0, 12.0)
    happens("die", "c2", 20.0, exitCode="3")
    assert (seen.over_at, seen.code) == (20.0, 3)


def test_a_session_on_a_slice_that_was_remade_holds_its_whole_card():
    old, new, other = "MIG-00010000-0000-5", "MIG-00010003-0001-5", "MIG-00000000-0000-5"
    there = [seen(devices=(old,))]
    assert (
        devices_are_free_or_held([DeviceSaid(new, "held", "ann"), DeviceSaid(other, "free", "")], there) == []
    )
    assert devices_are_free_or_held([DeviceSaid(new, "free", "")], there)
    assert devices_are_free_or_held([DeviceSaid(other, "held", "ann")], there)
    assert held_devices([old], [new, other]) == {new}
    assert held_devices([new], [new, other]) == {new}

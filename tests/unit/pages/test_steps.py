"""The pending page's list of steps: what is expected, and what only some starts have."""

from __future__ import annotations

import pytest

from ds01spawner.pages.steps import EXPECTED, steps


def event(step, finished=True, message=""):
    return {"step": step, "finished": finished, "message": message, "progress": 5}


def shown(*events):
    return [(row.name, row.state) for row in steps(events)]


LATER = [("device", ""), ("container", ""), ("started", ""), ("jupyter", "")]


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        ([], [(name, "") for name in EXPECTED]),
        (
            [event("checks")],
            [("checks", "done"), ("image", "now"), ("workspace", ""), *LATER],
        ),
        (
            [event("checks"), event("image", finished=False)],
            [("checks", "done"), ("image", "now"), ("workspace", ""), *LATER],
        ),
        # A step that not every start has is there only when it happens, and where it happens.
        (
            [event("checks"), event("image"), event("fetch", finished=False)],
            [("checks", "done"), ("image", "done"), ("fetch", "now"), ("workspace", ""), *LATER],
        ),
        (
            [event("checks"), event("image"), event("fetch"), event("workspace")],
            [(n, "done") for n in ("checks", "image", "fetch", "workspace")]
            + [("device", "now"), *LATER[1:]],
        ),
        (
            [event(n) for n in EXPECTED if n not in ("started", "jupyter")] + [event("turn", finished=False)],
            [(n, "done") for n in EXPECTED if n not in ("started", "jupyter")]
            + [("turn", "now"), ("started", ""), ("jupyter", "")],
        ),
        ([event(n) for n in EXPECTED], [(n, "done") for n in EXPECTED]),
        ([{"progress": 0, "message": "Server requested"}], [(n, "") for n in EXPECTED]),
    ],
)
def test_rows(events, rows):
    assert shown(*events) == rows


def test_a_row_says_what_its_last_event_said():
    found = {
        r.name: r.title for r in steps([event("turn", False, "3 starts are before yours"), event("odd")])
    }
    assert (found["turn"], found["odd"]) == ("3 starts are before yours", "odd")
    assert found["jupyter"] == "JupyterLab answers"

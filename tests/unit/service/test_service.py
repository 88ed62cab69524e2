"""The service over HTTP: real handlers, real store and policy; the hub and the engine are played."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from support.service_world import NOW, POLICY, PREFIX, SECRET, cookie, make_world, serving

from ds01spawner.core.errors import EngineError
from ds01spawner.core.installation import Standing
from ds01spawner.idle.state import IdleFiles
from ds01spawner.pages import keys
from ds01spawner.service import handlers
from ds01spawner.service.app import modules
from ds01spawner.store import SessionRecord as Kept

__all__ = ["NOW", "PREFIX", "call", "cookie", "world"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A service and what stands around it."""
    return make_world(tmp_path, monkeypatch)


@pytest.fixture
async def call(world):
    """``await call(path, …)``: one request to the service."""
    async with serving(world) as client:
        yield client


PAGES = ["", "gpus", "usage", "start", "retire", "admin"]
APIS = [
    "api/availability",
    "api/devices",
    "api/sessions",
    "api/events",
    "api/notices",
    "api/usage",
    "metrics",
]


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_is_sent_to_log_in(call, path):
    answer = await call(path)
    assert answer.code == 302
    assert answer.headers["Location"].startswith("/x/hub/api/oauth2/authorize?")


@pytest.mark.parametrize("path", [*APIS, "api/openapi.json", "fragments/availability", "fragments/sessions"])
async def test_a_stranger_gets_nothing_from_api_and_fragments(call, path):
    assert (await call(path)).code == 403
    assert (await call(path, who="mallory")).code == 403


@pytest.mark.parametrize("path", ["", "gpus", "usage"])
async def test_pages_for_a_student(call, world, path):
    world.ledger.add("alice", "s1", uuids=world.uuids[:1])
    answer = await call(path, who="alice")
    assert answer.code == 200
    assert "alice" in answer.text
    assert '"/x/hub/static/css/style.min.css"' in answer.text
    assert 'href="/x/services/ds01/usage"' in answer.text
    assert "Admin</a>" not in answer.text


async def test_admin_pages_are_for_admins(call, world):
    world.ledger.add("alice", "s1", uuids=world.uuids[:1])
    assert (await call("admin", who="alice")).code == 403
    page = await call("admin", who="root")
    assert page.code == 200
    assert "alice" in page.text
    assert world.uuids[0] in page.text


async def test_availability_and_devices(call, world):
    world.ledger.add("bob", "s1", uuids=world.uuids[2:3])
    data = json.loads((await call("api/availability", who="alice")).text)
    assert {p["profile"]: (p["free"], p["total"]) for p in data["profiles"]} == {
        "1g.10gb": (1, 2),
        "2g.20gb": (1, 1),
        "3g.40gb": (1, 1),
    }
    devices = json.loads((await call("api/devices", who="alice")).text)
    assert devices["mode"] == "simulated"
    states = {d["uuid"]: (d["state"], d["holder"]) for d in devices["devices"]}
    assert states[world.uuids[2]] == ("held", None), "others are not named"
    named = json.loads((await call("api/devices", who="root")).text)["devices"]
    assert {d["holder"] for d in named} == {"", "bob"}


async def test_when_the_engine_does_not_answer_nothing_is_free(call, world):
    world.ledger.error = EngineError("no route to the engine")
    data = json.loads((await call("api/availability", who="alice")).text)
    assert data["free"] == 0
    assert data["problem"] == "The container engine cannot be asked: no route to the engine"
    page = await call("", who="alice")
    assert page.code == 200
    assert "no route to the engine" in page.text


async def test_fifty_at_once_share_one_reading(call, world):
    import asyncio

    answers = await asyncio.gather(*(call("api/availability", who="alice") for _ in range(50)))
    assert {a.code for a in answers} == {200}
    assert world.ledger.reads == 1


async def test_what_another_hub_or_a_forger_says_is_shown_to_admins_alone(call, world):
    """It counted as the person's own session: on the strip, in the list and for ending it."""
    world.ledger.add("alice", "theirs", server="their", uuids=["MIG-2"], project="elsewhere")
    record, world.ledger.sessions = world.ledger.sessions[-1], world.ledger.sessions[:-1]
    forged = replace(record, labels=replace(record.labels, session="fake", user="alice"), name="hungry_curie")
    world.ledger.others = [
        replace(record, standing=Standing.FOREIGN),
        replace(forged, standing=Standing.FORGED),
    ]
    for path in ("", "gpus", "usage", "api/sessions", "api/availability", "retire?server=their"):
        for who in ("alice", "bob"):
            assert "elsewhere" not in (await call(path, who=who)).text, (path, who)
    for who in ("alice", "root"):
        for session in ("theirs", "fake"):
            assert (await call(f"api/sessions/{session}", who=who)).code == 404
            deleted = await call(f"api/sessions/{session}", who=who, method="DELETE", body={"reason": "x"})
            assert deleted.code == 404
    assert world.hub.stopped == []
    page = (await call("admin", who="root")).text
    assert "of another hub" in page
    assert "hungry_curie" in page
    assert page.count('name="session" value=') == len(world.ledger.sessions), "neither can be retired"
    form = {"session": "fake", "reason": "x"}
    assert (await call("admin/retire", who="root", method="POST", form=form)).code == 404


async def test_sessions_are_own_or_everybodys_for_admins(call, world):
    world.ledger.add("alice", "s1", uuids=world.uuids[:1])
    world.ledger.add("bob", "s2")
    own = json.loads((await call("api/sessions", who="alice")).text)["sessions"]
    assert [(s["session"], s["url"], s["gpu"]["devices"]) for s in own] == [
        ("s1", "/x/user/alice/", ["3g.40gb on GPU 0"])
    ]
    assert (await call("api/sessions?all=1", who="alice")).code == 403
    every = json.loads((await call("api/sessions?all=1", who="root")).text)["sessions"]
    assert [s["session"] for s in every] == ["s1", "s2"]
    assert (await call("api/sessions/s2", who="alice")).code == 404
    assert (await call("api/sessions/s2", who="bob")).code == 200


async def test_retire_by_api(call, world):
    world.ledger.add("alice", "s1")
    world.ledger.add("bob", "s2", server="b")
    world.store.sessions.started(Kept("s2", "bob", NOW, server="b"))
    assert (await call("api/sessions/s2", who="alice", method="DELETE")).code == 404
    assert (await call("api/sessions/s2", who="root", method="DELETE")).code == 400, "an admin says why"
    answer = await call("api/sessions/s2", who="root", method="DELETE", body={"reason": "fan is broken"})
    assert answer.code == 200
    assert world.hub.stopped == [("bob", "b")]
    noted = world.store.sessions.get("s2")
    assert (noted.reason, noted.kind) == ("fan is broken", "admin")
    assert (await call("api/sessions/s1", who="alice", method="DELETE")).code == 200
    assert (await call("api/sessions/gone", who="alice", method="DELETE")).code == 404


async def test_keep_alive_by_api_is_bounded(call, world):
    world.ledger.add("alice", "s1")
    path = "api/sessions/s1/keep-alive"
    for bad in ({}, {"seconds": "3600"}, {"seconds": True}, {"seconds": -1}, {"seconds": 10**12}, []):
        assert (await call(path, who="alice", method="POST", body=bad)).code == 400, bad
    first = json.loads((await call(path, who="alice", method="POST", body={"seconds": 366 * 86400})).text)
    assert first["seconds"] == 4 * 3600
    assert world.store.extensions.total("s1") == 4 * 3600
    again = json.loads((await call(path, who="alice", method="POST", body={"seconds": 3600})).text)
    assert again["seconds"] == 0
    assert (await call(path, who="bob", method="POST", body={"seconds": 3600})).code == 404


async def test_events_and_usage_show_own_things_only(call, world):
    world.store.sessions.started(Kept("s1", "alice", NOW - timedelta(hours=2), equivalents=0.5))
    world.store.sessions.started(Kept("s2", "bob", NOW - timedelta(hours=1), equivalents=1.0))
    mine = json.loads((await call("api/events", who="alice")).text)["events"]
    assert {e["user"] for e in mine} == {"alice"}
    assert (await call("api/events?all=1", who="alice")).code == 403
    usage = json.loads((await call("api/usage?days=7", who="alice")).text)
    assert usage["gpu_hours"] == 1.0
    assert (await call("api/usage?by=user", who="alice")).code == 403
    rows = json.loads((await call("api/usage?by=user", who="root")).text)["rows"]
    assert {r["key"]: r["gpu_hours"] for r in rows} == {"alice": 1.0, "bob": 1.0}
    for bad in ("api/usage?days=0", "api/usage?days=1e3", "api/events?after=-1", "api/usage?by=password"):
        assert (await call(bad, who="root")).code == 400, bad


async def test_notices_are_seen_dismissed_and_private(call, world):
    number = world.store.notices.add("alice", "<b>Warned</b>", NOW, level="warning")
    key = {keys.HEADER: keys.sign(SECRET, "alice", NOW)}
    fragment = await call("fragments/notices", headers=key)
    assert "&lt;b&gt;Warned&lt;/b&gt;" in fragment.text
    assert world.store.notices.of("alice", NOW)[0].seen_at == NOW
    assert (await call(f"api/notices/{number}", who="bob", method="DELETE")).code == 404
    rest = await call(f"fragments/notices/{number}/dismiss", headers=key, method="POST", body={})
    assert "Warned" not in rest.text
    assert json.loads((await call("api/notices", who="alice")).text) == {"notices": []}


async def test_fragments_open_with_their_key_only(call, world):
    world.ledger.add("alice", "s1", uuids=world.uuids[:1])
    good = {keys.HEADER: keys.sign(SECRET, "alice", NOW)}
    old = {keys.HEADER: keys.sign(SECRET, "alice", NOW - timedelta(days=2))}
    forged = {keys.HEADER: keys.sign(b"other" * 8, "alice", NOW)}
    answer = await call("fragments/sessions?dialogs=1", headers=good)
    assert (answer.code, answer.headers["DS01-Fragment"]) == (200, "1")
    assert 'data-ds01-stop="/x/hub/api/users/alice/server"' in answer.text
    strip = await call("fragments/availability", headers=good)
    assert "yours" in strip.text
    assert '<span id="ds01-free-3g-40gb" hx-swap-oob="true">0 of 1 free</span>' in strip.text
    for headers in ({}, old, forged, cookie("alice")):
        assert (await call("fragments/sessions", headers=headers)).code == 403
    world.hub.down = True
    assert (await call("fragments/sessions", headers=good)).code == 503


async def test_the_permalink_opens_the_form_and_never_starts(call, world):
    answer = await call("start?project=nlp&environment=course/nlp:4&gpu=1g.10gb&wait=1", who="alice")
    assert answer.code == 302
    assert answer.headers["Location"] == (
        "/x/hub/spawn/alice/s2?opt-project=nlp&opt-environment=course%2Fnlp%3A4&opt-gpu=1g.10gb&opt-wait=1"
    )
    assert (await call("start", who="bob")).headers["Location"] == "/x/hub/spawn/bob"
    for bad in ("start?project=../etc", "start?image=evil", "start?gpu=all"):
        answer = await call(bad, who="alice")
        assert answer.code == 400, bad
        assert "cannot be used" in answer.text


async def test_a_form_from_elsewhere_does_nothing(call, world):
    world.ledger.add("alice", "s1")
    for headers in (
        cookie("alice"),
        {**cookie("alice"), "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"},
        {**cookie("alice"), "Sec-Fetch-Mode": "no-cors"},
    ):
        answer = await call("retire", method="POST", headers=headers, form={"server": ""})
        assert answer.code == 403
    answer = await call("api/sessions/s1", method="DELETE", headers=cookie("alice"))
    assert answer.code == 403
    assert world.hub.stopped == []


async def test_retire_and_keep_alive_by_their_pages(call, world):
    world.ledger.add("alice", "s1")
    headers = cookie("alice")
    page = await call("retire?server=", headers=headers)
    assert "everything in the project" in page.text
    token = re.search(r'name="_xsrf" value="([^"]+)"', page.text)[1]
    headers["Cookie"] += "; " + page.headers["Set-Cookie"].split(";")[0]
    form = {"server": "", "_xsrf": token}
    kept = await call("keep-alive", method="POST", headers=headers, form={**form, "seconds": "7200"})
    assert kept.code == 200
    assert "Kept alive until 16:00 UTC" in kept.text
    answer = await call("retire", method="POST", headers=headers, form={**form, "then": "cpu"})
    assert answer.headers["Location"] == "/x/hub/spawn/alice?opt-project=thesis&opt-gpu=none"
    assert world.hub.stopped == [("alice", "")]


async def test_admin_acts_need_a_reason(call, world):
    uuid = world.uuids[0]
    acts = {"uuid": uuid, "act": "drain"}
    assert (await call("admin/drain", who="alice", method="POST", form={**acts, "reason": "x"})).code == 403
    assert (await call("admin/drain", who="root", method="POST", form=acts)).code == 400
    assert (await call("admin/drain", who="root", method="POST", form={**acts, "reason": "fan"})).code == 302
    devices = json.loads((await call("api/devices", who="alice")).text)["devices"]
    assert [(d["state"], d["reason"]) for d in devices if d["uuid"] == uuid] == [("drained", "fan")]
    assert (
        await call("admin/drain", who="root", method="POST", form={"uuid": "nope", "act": "undrain"})
    ).code == 404
    back = {"uuid": uuid, "act": "undrain"}
    assert (await call("admin/drain", who="root", method="POST", form=back)).code == 302


async def test_cards_say_when_nobody_looks_after_idleness(call, world):
    world.ledger.add("alice", "s1")
    assert "It was not looked at yet" in (await call("", who="alice")).text
    world.context.decisions._read_at = -100.0
    IdleFiles(world.site.settings.state_dir).publish(NOW - timedelta(hours=1), 60.0, [])
    page = (await call("", who="alice")).text
    assert "The idle service has not looked since Tue 3 Mar 13:00 UTC. No session is retired as idle" in page


async def test_metrics_for_prometheus(call, world):
    world.ledger.add("alice", "s1", uuids=world.uuids[:1])
    answer = await call("metrics", who="prometheus")
    assert answer.code == 200
    assert 'ds01_devices{profile="3g.40gb",state="held"} 1.0' in answer.text
    assert "ds01_reading_ok 1.0" in answer.text
    assert "ds01_idle_" not in answer.text, "nothing is made up before the idle service looked"
    counters = {"passes": 7, "failures": 2, "retired": {"lifetime": 3}, "pass_seconds": 0.25}
    decided = [{"session": "s1", "state": "warned"}]
    IdleFiles(world.site.settings.state_dir).publish(NOW - timedelta(seconds=9), 60.0, decided, counters)
    told = (await call("metrics", who="prometheus")).text.splitlines()
    for line in (
        "ds01_idle_passes_total 7.0",
        "ds01_idle_failures_total 2.0",
        'ds01_idle_retired_total{cause="lifetime"} 3.0',
        'ds01_idle_retired_total{cause="idle"} 0.0',
        'ds01_idle_sessions{state="warned"} 1.0',
        "ds01_idle_pass_seconds 0.25",
        "ds01_idle_age_seconds 9.0",
    ):
        assert line in told, line
    assert (await call("api/sessions", who="prometheus")).code == 403, "a service is nobody's account"


async def test_a_broken_policy_file_is_seen_by_metrics_and_admins_and_stops_nothing(call, world):
    assert "ds01_policy_ok 1.0" in (await call("metrics", who="prometheus")).text
    path = world.site.settings.policy
    path.write_text(POLICY + "defalts: {}\n")
    told = (await call("metrics", who="prometheus")).text
    assert "ds01_policy_ok 0.0" in told
    assert "ds01_policy_generation 1.0" in told
    page = (await call("admin", who="root")).text
    assert "defalts" in page
    assert (await call("", who="alice")).code == 200
    path.write_text(POLICY)
    told = (await call("metrics", who="prometheus")).text
    assert "ds01_policy_ok 1.0" in told


async def test_the_description_lists_every_call(call):
    data = json.loads((await call("api/openapi.json", who="alice")).text)
    assert data["openapi"] == "3.0.3"
    assert data["servers"] == [{"url": "/x/services/ds01"}]
    listed = {(path, method) for path, item in data["paths"].items() for method in item}
    assert listed >= {
        ("/api/availability", "get"),
        ("/api/devices", "get"),
        ("/api/sessions/{id}", "delete"),
        ("/api/sessions/{id}/keep-alive", "post"),
        ("/api/notices/{id}", "delete"),
    }


async def test_no_page_may_be_framed_and_unknown_ones_say_so(call):
    answer = await call("nothing-here", who="alice")
    assert answer.code == 404
    assert "there is no such page" in answer.text
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    static = await call("static/htmx.min.js")
    assert static.code == 200
    assert (await call("static/../app.py")).code in (302, 403, 404)


async def test_the_store_is_down(call, world, monkeypatch):
    from ds01spawner.core.errors import StoreError

    def down():
        raise StoreError("the disk is full")

    monkeypatch.setattr(world.site, "store", down)
    world.ledger.add("alice", "s1")
    for path in ("", "usage", "gpus"):
        assert (await call(path, who="alice")).code == 200, path
    assert (await call("api/events", who="alice")).code == 503
    assert (await call("api/sessions/s1", who="alice", method="DELETE")).code == 200


def test_every_area_of_the_service_is_there():
    """A handler module that is renamed and not listed would leave its pages out without a word."""
    package = Path(handlers.__file__).parent
    told = {p.stem for p in package.glob("*.py") if re.search(r"^def routes\(", p.read_text(), re.M)}
    assert {m.__name__.rpartition(".")[2] for m in modules()} == told

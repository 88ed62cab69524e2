"""Asking for more: over HTTP as people do it, from the command line as admins do it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from test_service import NOW, PREFIX, call, cookie, world  # noqa: F401
from typer.testing import CliRunner

from ds01spawner import messages
from ds01spawner.admission import limit_requests
from ds01spawner.cli import build_app
from ds01spawner.core.errors import Refusal
from ds01spawner.hub.http_errors import SessionRefused
from ds01spawner.policy.key_info import keys
from ds01spawner.policy.requested import ASKABLE
from ds01spawner.policy.resolve import Person
from ds01spawner.store import Store

ASK = {"wanted": {"session.memory": "32g"}, "reason": "a larger model", "until": "2026-03-10T00:00:00Z"}


async def ask(call, who="alice", **changes):  # noqa: F811
    return await call("api/requests", who=who, method="POST", body={**ASK, **changes})


async def decide(call, number, who="root", **body):  # noqa: F811
    return await call(f"api/requests/{number}/decision", who=who, method="POST", body=body)


async def test_a_person_asks_an_admin_approves_and_the_limits_widen(call, world):  # noqa: F811
    answer = await ask(call)
    assert answer.code == 201, answer.text
    number = json.loads(answer.text)["id"]
    mine = json.loads((await call("api/requests", who="alice")).text)["requests"]
    assert [(r["state"], r["text"]) for r in mine] == [("asked", "session.memory: 32g")]
    assert json.loads((await call("api/requests", who="bob")).text) == {"requests": []}
    done = await call(
        f"api/requests/{number}/decision", who="root", method="POST", body={"state": "approved"}
    )
    assert done.code == 200, done.text
    world.site._overrides = (-100.0, ())
    limits = world.site.limits(Person("alice"), NOW)
    assert limits.session.memory == 32 * 2**30
    assert limits.source("session.memory") == f"request {number} approved by root until 2026-03-10 00:00 UTC"
    assert (
        world.site.limits(Person("alice"), datetime(2026, 3, 10, tzinfo=timezone.utc)).session.memory
        == 8 * 2**30
    )
    assert world.site.limits(Person("bob"), NOW).session.memory == 8 * 2**30
    (notice,) = world.store.notices.of("alice", NOW)
    assert notice.text.startswith(
        "Your request for session.memory: 32g was approved by root, until 2026-03-10"
    )
    assert [(e.topic, e.action) for e in world.store.events.find(topic="request")] == [
        ("request", "asked"), ("request", "approved"),
    ]  # fmt: skip


async def test_an_admin_grants_less_and_for_a_shorter_time(call, world):  # noqa: F811
    number = json.loads((await ask(call)).text)["id"]
    body = {"state": "approved", "wanted": {"session.memory": "12g"}, "until": "2026-03-04T00:00:00+00:00"}
    done = await call(f"api/requests/{number}/decision", who="root", method="POST", body=body)
    assert done.code == 200, done.text
    world.site._overrides = (-100.0, ())
    assert world.site.limits(Person("alice"), NOW).session.memory == 12 * 2**30
    assert world.site.limits(Person("alice"), NOW + timedelta(days=1)).session.memory == 8 * 2**30


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wanted": {}}, "It asks for nothing"),
        ({"wanted": {"storage.rescue.enabled": False}}, "'storage.rescue.enabled' cannot be asked for"),
        ({"wanted": {"session.memory": "much"}}, "session.memory"),
        ({"wanted": {"session.memory": "1g"}}, "You already have what it asks for"),
        ({"wanted": {"session.memory": {"a": 1}}}, "session.memory"),
        ({"wanted": []}, "wanted is an object"),
        ({"reason": "please"}, "shorter than 10"),
        ({"reason": 7}, "reason is a text"),
        ({"until": ""}, "no end within the next year"),
        ({"until": "2026-03-01T00:00:00Z"}, "no end within the next year"),
        ({"until": "2036-03-01T00:00:00Z"}, "no end within the next year"),
        ({"until": "2026-03-10"}, "until is a time with zone"),
        ({"user": "bob"}, "'user' is not known here"),
    ],
)
async def test_a_request_that_cannot_be_taken_says_what_to_mend(call, world, changes, said):  # noqa: F811
    answer = await ask(call, **changes)
    assert answer.code == 400
    assert said.lower() in json.loads(answer.text)["message"].lower()
    assert world.store.requests.find() == []


async def test_one_person_has_a_few_open_requests(call, world):  # noqa: F811
    for _ in range(limit_requests.MAX_OPEN):
        assert (await ask(call)).code == 201
    answer = await ask(call)
    assert answer.code == 400
    assert "5 requests of yours are open" in answer.text
    assert (await ask(call, who="bob")).code == 201


async def test_nobody_answers_or_withdraws_what_is_not_theirs(call, world):  # noqa: F811
    number = json.loads((await ask(call)).text)["id"]
    path = f"api/requests/{number}"
    for who in ("alice", "bob"):
        answer = await call(f"{path}/decision", who=who, method="POST", body={"state": "approved"})
        assert answer.code == 403
    assert (await call(path, who="bob", method="DELETE")).code == 404
    assert (await call("api/requests?all=1", who="bob")).code == 403
    assert world.store.requests.find(state="asked")
    assert (await call(path, who="alice", method="DELETE")).code == 200
    assert (await call(f"{path}/decision", who="root", method="POST", body={"state": "approved"})).code == 404


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"state": "denied"}, "a denial without a reason"),
        ({"state": "perhaps"}, "approved or denied"),
        ({"state": "approved", "wanted": {"storage.minimum_free.host": 0}}, "cannot be granted"),
        ({"state": "approved", "wanted": {"session.cpus": "all"}}, "session.cpus"),
        ({"state": "approved", "until": "2026-03-01T00:00:00Z"}, "not within the next year"),
    ],
)
async def test_an_answer_that_cannot_be_given(call, world, body, said):  # noqa: F811
    number = json.loads((await ask(call)).text)["id"]
    answer = await call(f"api/requests/{number}/decision", who="root", method="POST", body=body)
    assert answer.code == 400
    assert said in answer.text
    assert world.store.requests.find(state="asked")
    assert world.store.notices.of("alice", NOW) == []


async def test_the_page_asks_and_answers(call, world):  # noqa: F811
    page = await call("requests?key=session.memory", who="alice", headers=cookie("alice"))
    assert page.code == 200
    assert re.search(r'<option value="session.memory" selected>Memory of a session \(now 8g\)', page.text)
    assert "Open requests of everybody" not in page.text
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.text)[1]
    jar = "; ".join(c.split(";")[0] for c in page.headers.get_list("Set-Cookie"))

    async def post(who, token, cookies, **fields):
        headers = cookie(who)
        headers["Cookie"] += f"; {cookies}"
        return await call(
            "requests", who=who, method="POST", form={"_xsrf": token, **fields}, headers=headers
        )

    asked = {"act": "ask", "key": "session.memory", "value": "32g", "reason": "<b>a larger model</b>"}
    refused = await post("alice", xsrf, jar, **asked, until="")
    assert refused.code == 400
    assert "Say until when you need it" in refused.text
    assert "&lt;b&gt;a larger model" in refused.text
    done = await post("alice", xsrf, jar, **asked, until="2026-03-09")
    assert (done.code, done.headers["Location"]) == (302, f"{PREFIX}requests")
    (row,) = world.store.requests.find("alice")
    assert row.until == datetime(2026, 3, 10, tzinfo=timezone.utc)
    assert (await post("alice", xsrf, jar, act="approved", id=row.id)).code == 403
    page = await call("requests", who="root", headers=cookie("root"))
    assert "&lt;b&gt;a larger model&lt;/b&gt;" in page.text
    assert "<b>a larger" not in page.text
    xsrf = re.search(r'name="_xsrf" value="([^"]+)"', page.text)[1]
    jar = "; ".join(c.split(";")[0] for c in page.headers.get_list("Set-Cookie"))
    assert (await post("root", xsrf, jar, act="denied", id=row.id, answer="buy your own")).code == 302
    assert "buy your own" in (await call("requests", who="alice", headers=cookie("alice"))).text


def test_a_refusal_leads_to_asking_only_where_that_helps():
    examples = {name: make() for name, make in messages.EXAMPLES.items()}
    helped = {r.code for r in examples.values() if limit_requests.ask_url("/s/", r)}
    mended = {code: info.name for info in keys().values() for code in info.key.mends}
    assert helped == set(mended)
    assert set(mended.values()) <= ASKABLE
    assert limit_requests.ask_url("/s/", examples["too_many_sessions"]) == "/s/requests?key=session.max"
    refusal = Refusal("sessions-max", "a", "b", "c")
    assert "Ask for more" not in SessionRefused(refusal).jupyterhub_html_message
    html = SessionRefused(refusal, ask_url="/s/requests?key=a&b='").jupyterhub_html_message
    assert "<a href='/s/requests?key=a&amp;b=&#x27;'>Ask for more</a>" in html


async def test_rest_and_pages_tell_where_to_ask(call, world):  # noqa: F811
    for server in ("a", "b"):
        body = {"options": {"gpu": "1g.10gb"}, "server": server}
        assert (await call("api/queue", "alice", "POST", body)).code == 202
    refused = await call("api/queue", "alice", "POST", {"options": {"gpu": "1g.10gb"}, "server": "c"})
    answer = json.loads(refused.text)
    assert (refused.code, answer["code"]) == (409, "queue-places")
    assert answer["ask_url"] == f"{PREFIX}requests?key=queue.max_tickets"
    bad = json.loads((await call("api/queue", "alice", "POST", {"options": {"gpu": "x"}})).text)
    assert (bad["code"], "ask_url" in bad) == ("bad-options", False)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def ds01(tmp_path, monkeypatch):
    (tmp_path / "policy.yaml").write_text("version: 1\ndefaults: {session: {memory: 8g}}\n")
    monkeypatch.setenv("DS01_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DS01_POLICY", str(tmp_path / "policy.yaml"))

    def run(*words, rc=0):
        result = CliRunner().invoke(build_app(), [*words, "--json"])
        assert result.exit_code == rc, result.output
        return json.loads(result.stdout) if rc < 2 else result.output

    return run


def test_the_command_asks_lists_approves_and_denies(ds01, tmp_path):
    first = ds01("request", "alice", "session.memory=32g", "--reason", "a larger model", "--until", "7d")
    short = ds01("request", "alice", "session.max=9", "--reason", "many runs", "--until", "7d", rc=1)
    assert "shorter than 10" in short["message"]
    second = ds01("request", "bob", "session.max=9", "--reason", "many small runs", "--until", "7d")
    assert {r["id"] for r in ds01("requests")} == {first["id"], second["id"]}
    assert [r["text"] for r in ds01("requests", "--user", "alice")] == ["session.memory: 32g"]
    done = ds01("approve", first["id"][:8], "--value", "session.memory=16g", "--until", "2d")
    assert (done["state"], done["wanted"]) == ("approved", {"session.memory": "16g"})
    assert ds01("deny", second["id"], "--reason", "the machine is full")["state"] == "denied"
    assert ds01("requests") == []
    assert [r["answer"] for r in ds01("requests", "--state", "denied")] == ["the machine is full"]
    values = ds01("limits", "alice")["values"]
    assert values["session.memory"]["text"] == "16g"
    assert f"request {first['id']} approved by" in values["session.memory"]["source"]
    store = Store.open(f"sqlite:///{tmp_path / 'ds01.sqlite'}")
    assert [e.action for e in store.events.find(topic="request")] == [
        "asked",
        "asked",
        "approved",
        "denied",
    ]


def test_the_command_refuses_what_is_not_there(ds01):
    assert "no such open request" in ds01("approve", "abc", rc=1)["message"]
    assert "KEY=VALUE" in ds01("request", "a", "x", "--reason", "r", "--until", "1d", rc=2)
    assert "none of" in ds01("requests", "--state", "odd", rc=2)

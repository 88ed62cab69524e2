"""Whatever is sent to whichever address: an answer of ours, never a failure, never a traceback in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time

import pytest
from support.service_world import NOW, PREFIX, SECRET, cookie, make_world, raw_request, serving

from ds01spawner.pages import keys
from ds01spawner.service.app import make_app

TEACH = "custom:ds01:course:teach"
DEEP = b'{"options":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
MANY = b'{"wanted":{"a":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}}"


@pytest.fixture
def world(tmp_path, monkeypatch):
    (tmp_path / "ws").mkdir()
    world = make_world(tmp_path, monkeypatch, workspace_root=tmp_path / "ws")
    world.hub.scopes = {"alice": [TEACH], "root": [TEACH]}
    world.ledger.add("alice", "s1", uuids=world.uuids[:1])
    return world


@pytest.fixture
async def call(world):
    async with serving(world) as client:
        yield client


@pytest.mark.parametrize("body", [DEEP, MANY], ids=["thirty thousand deep", "nine hundred deep"])
@pytest.mark.parametrize(
    "path", ["api/queue", "api/requests", "api/builds", "api/courses", "api/reservations"]
)
async def test_a_nested_body_is_refused_in_words(call, path, body):
    answer = await call(path, "root", "POST", raw=body)
    assert (answer.code, "message" in json.loads(answer.text)) == (400, True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"server":"\\ud800","options":{}}',
        b'{"server":"a\\u0000b","options":{}}',
        b'{"options":{"lifetime":1e999}}',
        b'{"options":{"lifetime":NaN}}',
        b'{"options":{"lifetime":' + b"9" * 4000 + b"}}",
        b"[" + b"1," * 100 + b"1]",
        b"\xff\xfe{}",
        b'"text"',
    ],
)
async def test_what_json_allows_and_nothing_here_can_keep(call, body):
    assert (await call("api/queue", "alice", "POST", raw=body)).code == 400


@pytest.mark.parametrize("ticket", ["%0d%0aX-Evil:%201", "%0a", "a%00b", "%F0%9F%98%80", "../..", "x" * 5000])
async def test_a_place_that_a_link_names_never_reaches_a_header_as_it_is(call, ticket):
    await call("api/queue", "alice", "POST", {"options": {"gpu": "1g.10gb"}})
    answer = await call(f"queue?ticket={ticket}", "alice")
    assert answer.code == 200
    assert "X-Evil" not in answer.headers
    assert re.fullmatch(rf"5; url={PREFIX}queue\?ticket=[0-9a-f]+", answer.headers["Refresh"])


@pytest.mark.parametrize("path", ["fragments/builds/b-1", "fragments/builds/b-2"])
async def test_the_live_part_of_anothers_build_is_not_there(call, world, path, caplog):
    world.store.builds.put("b-1", "bob", "ds01-bob/p:latest", "queued", {}, NOW)
    answer = await call(path, headers={keys.HEADER: keys.sign(SECRET, "alice", NOW)})
    assert (answer.code, "bob" in answer.text) == (404, False)
    assert not [r for r in caplog.records if r.exc_info]


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("api/queue", "PUT", "GET, POST"),
        ("api/queue", "FOO", "GET, POST"),
        ("api/notices", "POST", "GET"),
        ("queue/leave", "GET", "POST"),
        ("fragments/notices", "POST", "GET, OPTIONS"),
        ("metrics", "DELETE", "GET"),
    ],
)
async def test_a_method_that_is_not_there_says_which_are(call, path, method, allow):
    headers = {keys.HEADER: keys.sign(SECRET, "alice", NOW)}
    answer = await call(path, "root", method, headers=headers)
    assert (answer.code, answer.headers["Allow"]) == (405, allow)


async def test_nothing_is_at_an_address_that_is_not_there_whatever_the_method(call):
    for method in ("GET", "POST", "DELETE", "PUT"):
        assert (await call("no/such/page", "alice", method)).code == 404


@pytest.mark.parametrize(
    "server",
    ["../../bob/server", "a/b", "Ä", "A", "a--b", "-a", "a-", "9a", "w" * 31, "a b", "a%2Fb", "\u202e", "."],
)
async def test_servers_that_the_hub_cannot_have_get_no_place(call, world, server):
    answer = await call("api/queue", "bob", "POST", {"server": server, "options": {"gpu": "1g.10gb"}})
    assert (answer.code, world.store.tickets.find()) == (400, [])


async def test_a_server_of_an_older_hub_keeps_its_name(call, world):
    world.hub.servers["bob"] = {"Old Server": {"ready": False}}
    body = {"server": "Old Server", "options": {"gpu": "1g.10gb"}}
    assert (await call("api/queue", "bob", "POST", body)).code == 202


VALUES = {
    "b-": "b-0123456789ab",
    "ds01-": "ds01-alice/thesis:latest",
    "0-9a-f": "0123456789ab",
    "0-9": "7",
    "A-Z": "s1",
    "a-z0-9": "nlp",
}
TEXTS = [
    "\x00",
    "\ud800",
    "\u202e",
    "a" * 3000,
    "%00",
    "../../etc/passwd",
    "'; drop table",
    "{{7*7}}",
    "\r\nX: 1",
]
QUERIES = [
    "?all=1&after=-1&limit=99999999999999999999&days=NaN&by=x&topic=%ff",
    "?project=../x&tag=%00&base=%0d%0a&ticket=%0d%0a&said=x&environment=%F0%9F",
    "?project=x&tag=a%0d%0ab&server=..%2f..&server=x&known=1&dialogs=1&after=%D9%A3",
    "?environment=" + "a" * 2000 + "&gpu=all&gpu_count=-1&key=gpu.profiles&state=x&then=cpu",
    "?project=a&project=b&project_source=template:x&wait=1&lifetime=9999999999&opt-gpu=none",
]


def bodies():
    """Bodies of every kind: what JSON can say, forms, files, and what is none of them."""
    keys_ = (
        "options",
        "server",
        "recipe",
        "project",
        "tag",
        "text",
        "wanted",
        "reason",
        "until",
        "group",
        "to",
    )
    keys_ += ("seconds", "state", "answer", "subject", "start", "end", "profile", "count", "devices", "rrule")
    odd = [None, True, -1, 2**62, 1.5, "", [], {}, [[]], {"a": {"b": []}}, *TEXTS]
    made = [json.dumps(dict.fromkeys(keys_, value)).encode() for value in odd]
    made += [json.dumps({k: odd[(i + n) % len(odd)] for n, k in enumerate(keys_)}).encode() for i in range(6)]
    found = [(b, "application/json") for b in [b"", b"{", b"null", DEEP, MANY, b"\xff", *made]]
    form = "act=apply&environment=ds01-alice/p:latest&tag=%00&text=%3a%3a&project=..&number=x"
    form += "&id=0123456789ab&uuid=x"
    found += [
        (f.encode(), "application/x-www-form-urlencoded") for f in (form, form + "&act=tag", "%", "a=%ff")
    ]
    multipart = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n\xff: [\r\n--x--\r\n'
    )
    found += [(multipart, "multipart/form-data; boundary=x"), (multipart, "multipart/form-data"), (b"x", "x")]
    return found


def addresses(world):
    for pattern, handler in make_app(world.context).settings["ds01_routes"]:
        path = pattern
        while group := re.search(r"\((?:[^()]|\([^()]*\))*\)", path):
            inside = group[0][1:-1]
            value = next((v for k, v in VALUES.items() if k in inside), inside.split("|")[0])
            path = path[: group.start()] + value + path[group.end() :]
        yield path, handler


async def test_no_request_makes_it_fail(call, world, caplog):
    """Every address × method × body and query, by a teacher who is an admin: whoever may reach most."""
    caplog.set_level(logging.ERROR)
    known, slowest, asked = [], 0.0, 0

    async def send(path, method, body=None, kind="", who="root"):
        nonlocal slowest, asked
        began = time.monotonic()
        headers = {"Content-Type": kind} if kind else {}
        headers[keys.HEADER] = keys.sign(SECRET, "alice", NOW)
        answer = await call(path, who, method, raw=body, headers=headers)
        asked, slowest = asked + 1, max(slowest, time.monotonic() - began)
        if answer.code >= 500:
            known.append((method, path[:120], (body or b"")[:160], answer.code, answer.text[:160]))

    for path, handler in addresses(world):
        for method in ("PUT", "PATCH", "HEAD", "OPTIONS", "FOO"):
            await send(path, method, b"{}", "application/json")
        for query in QUERIES:
            await send(path + query, "GET")
        for method in ("POST", "DELETE"):
            if hasattr(handler, method.lower()):
                await asyncio.gather(*(send(path, method, *body) for body in bodies()))
    assert known == []
    assert [r.getMessage() for r in caplog.records if r.exc_info] == []
    assert asked > 2000
    assert slowest < 30, "one request held up all others"


async def test_requests_that_are_no_http(call):
    """Bytes that a proxy would not send: each is answered or dropped, and the next caller is served."""
    for data in (
        b"GET "
        + PREFIX.encode()
        + b"queue HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST "
        + PREFIX.encode()
        + b"api/queue HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ):
        answer = await asyncio.to_thread(raw_request, call.port, data)
        assert b" 500 " not in answer.partition(b"\r\n")[0]
    assert (await call("api/availability", "alice")).code == 200


async def test_a_page_with_a_cookie_answers_hostile_queries(call):
    for query in QUERIES:
        for path in ("", "environments/edit", "start", "requests", "retire", "keep-alive", "courses"):
            assert (await call(path + query, headers=cookie("alice"))).code < 500

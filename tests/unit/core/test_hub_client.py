"""The client of the hub's API against a real HTTP server that behaves and misbehaves."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timezone

import pytest
from support.answering_site import AnsweringSite

from ds01spawner.core import hub_client
from ds01spawner.core.hub_client import HubClient, HubError, read_user
from ds01spawner.core.person import Person

STARTED = datetime(2026, 2, 23, 9, tzinfo=timezone.utc)


@pytest.fixture
async def site():
    made = AnsweringSite()
    yield made
    made.server.stop()


@pytest.fixture
def hub(site):
    return HubClient(site.url, "secret")


def user(name: str, **server: object) -> dict:
    model = {"name": "", "url": f"/user/{name}/", "ready": True, "pending": None}
    times = {"started": "2026-02-23T09:00:00Z", "last_activity": "2026-02-23T09:59:00.5Z"}
    servers = {"": {**model, **times, **server}}
    return {"name": name, "groups": ["students"], "admin": False, "servers": servers}


def pages(site, names, most):
    """The list of users as JupyterHub hands it out: never more than ``most`` at once."""

    async def users(handler):
        assert handler.request.headers["Accept"] == "application/jupyterhub-pagination+json"
        first = int(handler.get_argument("offset", "0"))
        limit = min(most, int(handler.get_argument("limit", str(most))))
        after = first + limit
        following = {"offset": after, "limit": limit, "url": "http://elsewhere.invalid/"}
        return 200, {
            "items": [user(n) for n in names[first:after]],
            "_pagination": {"offset": first, "next": following if after < len(names) else None},
        }

    site.answers["/users"] = users


async def test_what_the_hub_tells_of_a_server(site, hub):
    pages(site, ["alice"], 50)
    alice = (await hub.servers())["alice", ""]
    assert (alice.path, alice.groups, alice.started, alice.ready) == (
        "/user/alice/",
        {"students"},
        STARTED,
        True,
    )
    assert [h["Authorization"] for _, _, h, _ in site.asked] == ["token secret"]
    assert site.asked[0][1] == "/users?state=ready"


@pytest.mark.parametrize("most", [1, 7, 50])
@pytest.mark.parametrize("page_size", [0, 3, 200])
async def test_everybody_is_listed_however_few_the_hub_hands_out_at_once(site, most, page_size):
    names = [f"u{i:03}" for i in range(20)]
    pages(site, names, most)
    hub = HubClient(site.url, "t", page_size=page_size)
    assert [u.name async for u in hub.users()] == names
    assert sorted(u for u, _ in await hub.servers()) == names


async def test_a_list_without_an_end_is_an_error(site, hub):
    page = {"items": [user("alice")], "_pagination": {"next": {"offset": 0}}}
    site.answers["/users"] = (200, page)
    with pytest.raises(HubError, match="does not end"):
        await hub.servers()


@pytest.mark.parametrize(
    "answer", [(500, ""), (200, "no json"), (200, []), (200, {"items": [{"servers": {"": {}}}]})]
)
async def test_a_hub_that_answers_badly_is_an_error(site, hub, answer):
    site.answers["/users"] = answer
    with pytest.raises(HubError):
        await hub.servers()


@pytest.mark.parametrize(
    "model", [None, [], {}, {"name": "a", "servers": {"": "x"}}, {"name": "a", "servers": ["x"]},
              {"name": "a", "servers": 1}, {"name": "a", "servers": {"": {"started": "yesterday"}}}],
)  # fmt: skip
def test_what_is_no_user_is_an_error(model):
    with pytest.raises(HubError, match="odd"):
        read_user(model)


async def test_a_hub_that_is_away_or_slow_is_an_error(site):
    async def slow(handler):
        await asyncio.sleep(1)
        return 200, []

    site.answers["/users"] = slow
    with pytest.raises(HubError, match="did not answer") as error:
        await HubClient(site.url, "t", timeout=0.1).servers()
    assert error.value.status == 0
    with pytest.raises(HubError, match="did not answer"):
        await HubClient("http://127.0.0.1:1", "t").servers()


async def test_an_answer_that_is_too_large_is_an_error(site, monkeypatch):
    monkeypatch.setattr(hub_client, "MAX_BODY", 1000)
    monkeypatch.setattr(hub_client, "PAUSES_S", (0.0,))
    site.answers["/users/alice"] = (200, {**user("alice"), "more": "x" * 2000})
    with pytest.raises(HubError, match="did not answer"):
        await HubClient(site.url, "t").user("alice")


def breaks(site, times, then):
    """A connection that breaks so often before there is an answer."""
    left = [times]

    async def answer(handler):
        if left[0]:
            left[0] -= 1
            handler.request.connection.stream.close()
            await asyncio.sleep(0)
        return then

    return answer


@pytest.mark.parametrize(("times", "well"), [(0, True), (2, True), (3, False)])
async def test_questions_and_stops_are_repeated_after_a_broken_connection(
    site, hub, monkeypatch, times, well
):
    monkeypatch.setattr(hub_client, "PAUSES_S", (0.0, 0.0))
    site.answers["/users/alice"] = breaks(site, times, (200, user("alice")))
    site.answers["DELETE", "/users/alice/server"] = breaks(site, times, (204, ""))
    if well:
        assert (await hub.user("alice")).name == "alice"
        assert await hub.stop("alice", "") == "stopped"
    else:
        with pytest.raises(HubError):
            await hub.user("alice")
        with pytest.raises(HubError):
            await hub.stop("alice", "")


async def test_a_start_is_asked_for_once(site, hub):
    site.answers["/"] = (200, {"version": "6.0.0"})
    site.answers["POST", "/users/alice/server"] = breaks(site, 1, (201, ""))
    with pytest.raises(HubError) as error:
        await hub.start("alice", "", {"gpu": "none"})
    assert error.value.status == 0
    assert [m for m, *_ in site.asked].count("POST") == 1


@pytest.mark.parametrize(
    ("version", "body"), [("5.4.0", {"gpu": "none"}), ("6.1.1", {"user_options": {"gpu": "none"}})]
)
async def test_the_options_of_a_start_are_as_the_hub_takes_them(site, hub, version, body):
    site.answers["/"] = (200, {"version": version})
    site.answers["POST", "/users/alice/servers/big"] = (201, "")
    await hub.start("alice", "big", {"gpu": "none"})
    assert json.loads(site.asked[-1][3]) == body


@pytest.mark.parametrize(
    ("status", "outcome"), [(204, "stopped"), (202, "pending"), (404, "gone"), (400, "gone")]
)
async def test_stopping(site, hub, status, outcome):
    site.answers["DELETE", "/users/a%40b/server"] = (status, "")
    site.answers["DELETE", "/users/alice/servers/big"] = (status, "")
    assert await hub.stop("a@b", "") == outcome
    assert await hub.stop("alice", "big") == outcome
    assert site.asked[-1][3] == b""
    await hub.stop("alice", "big", remove=True)
    assert json.loads(site.asked[-1][3]) == {"remove": True}


async def test_a_stop_that_fails_and_a_server_that_is_gone(site, hub):
    site.answers["DELETE", "/users/alice/server"] = (500, {"message": "the image is broken"})
    with pytest.raises(HubError, match="the image is broken"):
        await hub.stop("alice", "")
    assert await hub.server("nobody", "") is None
    site.answers["/users/alice"] = (200, {**user("alice"), "servers": {}})
    assert await hub.server("alice", "") is None


async def test_a_user_is_asked_for_again_when_the_answer_is_too_old(site, hub):
    site.answers["/users/alice"] = (200, user("alice"))
    assert await hub.person("alice") == Person("alice", frozenset({"students"}))
    await hub.user("alice")
    assert len(site.asked) == 1
    await hub.user("alice", max_age=0)
    assert len(site.asked) == 2
    site.answers["DELETE", "/users/alice/server"] = (204, "")
    await hub.stop("alice", "")
    await hub.user("alice")
    assert len(site.asked) == 4


async def test_a_redirect_takes_the_token_nowhere(site, hub):
    other = AnsweringSite()

    async def away(handler):
        handler.set_header("Location", f"{other.url}/users/alice")
        return 302, ""

    site.answers["/users/alice"] = away
    with pytest.raises(HubError):
        await hub.user("alice")
    assert other.asked == []
    other.server.stop()

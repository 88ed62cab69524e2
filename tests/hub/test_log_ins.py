"""What a log-in, and the token in a session, may do on a real hub; and what ends with the log-out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing

import docker
import httpx
import pytest
from bs4 import BeautifulSoup
from support.browse import log_in
from support.running_hub import RunningHub, running_hub

from ds01spawner.pages.keys import HEADER, NEXT

FRAGMENT = "services/ds01/fragments/sessions"


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient, lab_image: str
) -> Iterator[RunningHub]:
    """A hub with the service."""
    folder, name = tmp_path_factory.mktemp("hub"), f"test-{os.getpid()}-logins"
    with running_hub(folder, name, lab_image, arguments=", idle=False") as running:
        yield running


def opened(hub: RunningHub, user: str) -> httpx.Client:
    """A browser in which somebody is logged in."""
    browser = httpx.Client(base_url=hub.url, follow_redirects=True, timeout=60)
    log_in(browser, user)
    return browser


def key_of(browser: httpx.Client) -> dict[str, str]:
    """The header with which an open page's live parts refresh themselves."""
    page = BeautifulSoup(browser.get("services/ds01/").text, "html.parser").find(id="ds01-sessions")
    assert page is not None
    return dict(json.loads(page["hx-headers"]))


def test_a_log_out_ends_the_keys_of_open_pages(hub):
    alice, bob = opened(hub, "alice"), opened(hub, "bob")
    with closing(alice), closing(bob), httpx.Client(base_url=hub.url) as bare:
        hers, his = key_of(alice), key_of(bob)
        answer = bare.get(FRAGMENT, headers=hers)
        assert answer.status_code == bare.get(FRAGMENT, headers=his).status_code == 200
        renewed = {HEADER: answer.headers[NEXT]}
        assert bare.get(FRAGMENT, headers=renewed).status_code == 200
        assert alice.get("hub/logout").status_code == 200
        for key in (hers, renewed):
            assert bare.get(FRAGMENT, headers=key).status_code == 403
        assert bare.get(FRAGMENT, headers=his).status_code == 200
    with closing(opened(hub, "alice")) as alice:
        assert httpx.get(hub.url + FRAGMENT, headers=key_of(alice)).status_code == 200


@pytest.fixture(scope="module")
def token(hub: RunningHub, engine: docker.DockerClient) -> Iterator[str]:
    """What code in alice's session finds in its environment, while one of bob's runs too."""
    for name in ("alice", "bob"):
        hub.start_session(name, {"project": "p", "gpu": "none"})
    env = engine.containers.get(f"{hub.hub_id}--alice").attrs["Config"]["Env"]
    yield dict(line.split("=", 1) for line in env)["JUPYTERHUB_API_TOKEN"]
    for name in ("alice", "bob"):
        hub.retire(name)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "hub/api/users"),
        ("GET", "hub/api/users/bob"),
        ("POST", "hub/api/users/alice/servers/more"),
        ("DELETE", "hub/api/users/alice/server"),
        ("DELETE", "hub/api/users/bob/server"),
        ("POST", "hub/api/users/alice/tokens"),
        ("GET", "hub/api/services"),
        ("GET", "services/ds01/api/sessions"),
        ("DELETE", "services/ds01/api/sessions/any"),
        ("POST", "services/ds01/api/builds"),
    ],
)
def test_a_sessions_token_is_no_log_in_of_its_owner(hub, token, method, path):
    given = {"Authorization": f"token {token}"}
    assert httpx.get(f"{hub.url}hub/api/user", headers=given).json()["name"] == "alice"
    answer = httpx.request(method, hub.url + path, headers=given, json={} if method == "POST" else None)
    assert answer.status_code in (403, 404), answer.text
    for name in ("alice", "bob"):
        assert hub.server(name)["ready"]


def test_a_sessions_token_opens_no_other_session(hub, token, engine):
    box = engine.containers.get(f"{hub.hub_id}--bob")
    (address,) = [n["IPAddress"] for n in box.attrs["NetworkSettings"]["Networks"].values()]
    inside = f"http://{address}:8888/user/bob/api/contents"
    given = {"Authorization": f"token {token}"}
    assert httpx.get(f"{hub.url}user/alice/api/contents", headers=given).status_code == 200
    for url in (f"{hub.url}user/bob/api/contents", inside):
        assert httpx.get(url, headers=given).status_code == 403
    assert httpx.get(inside).status_code in (302, 403)

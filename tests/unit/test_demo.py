"""The demo's accounts never serve anyone but this machine."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jupyterhub.app import JupyterHub

from ds01spawner.demo import DemoAuthenticator, is_loopback


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("", False),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("::ffff:192.168.1.5", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    "url", ["http://:8000", "http://0.0.0.0:8000", "http://192.168.1.5:8000", "http://hub"]
)
def test_a_hub_for_others_does_not_start(url):
    with pytest.raises(ValueError, match="must not listen at"):
        DemoAuthenticator(parent=JupyterHub(bind_url=url))


def test_a_hub_on_loopback_starts():
    assert (
        DemoAuthenticator(parent=JupyterHub(bind_url="http://127.0.0.1:8000"), password="x").password == "x"
    )


@pytest.mark.parametrize(
    ("name", "given", "ip", "host", "expected"),
    [
        ("alice", "open sesame", "127.0.0.1", "127.0.0.1:8000", "alice"),
        ("alice", "open sesame", "::1", "localhost:8000", "alice"),
        ("alice", "wrong", "127.0.0.1", "127.0.0.1:8000", None),
        ("alice", "", "127.0.0.1", "127.0.0.1:8000", None),
        ("mallory", "open sesame", "127.0.0.1", "127.0.0.1:8000", None),
        ("alice", "open sesame", "10.0.0.7", "127.0.0.1:8000", None),
        ("alice", "open sesame", "127.0.0.1", "hub.example.org", None),
    ],
)
async def test_who_may_log_in(name, given, ip, host, expected):
    authenticator = DemoAuthenticator(password="open sesame")
    handler = SimpleNamespace(request=SimpleNamespace(remote_ip=ip, host=host))
    assert await authenticator.authenticate(handler, {"username": name, "password": given}) == expected


async def test_without_a_password_nobody_may():
    handler = SimpleNamespace(request=SimpleNamespace(remote_ip="127.0.0.1", host="localhost"))
    assert await DemoAuthenticator().authenticate(handler, {"username": "alice", "password": ""}) is None

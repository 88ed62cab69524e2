"""What is refused, in words, and that a refusal leaves nothing behind: on disk, in Docker, in the hub."""

from __future__ import annotations

import os

import pytest

HOSTILE = [
    ({"project": "../../etc"}, "project"),
    ({"project": "/etc"}, "project"),
    ({"project": ".."}, "project"),
    ({"project": "a..b"}, "project"),
    ({"project": ["list"]}, "project"),
    ({"project": {"a": 1}}, "project"),
    ({"project": "{0}"}, "project"),
    ({"project": "{username.__class__}"}, "project"),
    ({"project": "x" * 10_000}, "project"),
    ({"project": "a\x00b"}, "project"),
    ({"project": "-rf"}, "project"),
    ({"project": "a:b"}, "project"),
    ({"project": 7}, "project"),
    ({"gpu": "all"}, "gpu"),
    ({"gpu": "0"}, "gpu"),
    ({"gpu": "MIG-1"}, "gpu"),
    ({"gpu_count": -1}, "gpu_count"),
    ({"gpu_count": "2"}, "gpu_count"),
    ({"gpu_count": 10**9}, "gpu_count"),
    ({"lifetime": "forever"}, "lifetime"),
    ({"environment": "$(id)"}, "environment"),
    ({"image": "evil"}, "image"),
    ({"volumes": {"/": "/host"}}, "volumes"),
    ({"privileged": True}, "privileged"),
    ({"k" * 10_000: 1}, "kkkk"),
    (["a", "list"], None),
    ("text", None),
]


@pytest.mark.parametrize(("options", "name"), HOSTILE)
def test_hostile_options_get_a_clear_400_and_leave_nothing(hub, sessions_of, options, name):
    answer = hub.launch("alice", options)
    # Hub 5 stumbles over what is no mapping itself, before a spawner is asked.
    expected = 500 if hub.version < 6 and not isinstance(options, dict) else 400
    assert answer.status_code == expected, answer.text
    message = answer.json()["message"]
    assert len(message) < 600
    if name:
        assert name in message
        assert "nothing was created" in message
    assert sessions_of(hub) == []
    assert list(hub.workspaces.iterdir()) == []


def test_policy_refusals_say_limit_rule_and_what_to_do(hub, sessions_of):
    answer = hub.launch("alice", {"project": "p", "gpu": "3g.40gb"})
    assert answer.status_code == 403
    message = answer.json()["message"]
    assert "3g.40gb" in message
    assert "1g.10gb" in message
    assert "group students (policy.yaml:" in message
    assert sessions_of(hub) == []


def test_an_unknown_environment_is_refused(hub, sessions_of):
    answer = hub.launch("alice", {"project": "p", "environment": "ds01-bob/secret:latest"})
    assert answer.status_code == 404
    assert "ds01-bob/secret" in answer.json()["message"]
    assert sessions_of(hub) == []


def test_another_users_project_through_a_symlink_is_refused(hub, sessions_of, tmp_path):
    hub.start_session("bob", {"project": "secret"})
    hub.retire("bob")
    secret = hub.workspaces / "bob" / "secret"
    hub.start_session("alice", {"project": "own"})
    hub.retire("alice")
    os.symlink(secret, hub.workspaces / "alice" / "stolen")
    os.symlink("/etc", hub.workspaces / "alice" / "etc")
    for project in ("stolen", "etc"):
        answer = hub.launch("alice", {"project": project})
        assert answer.status_code == 400, answer.text
        assert project in answer.json()["message"]
    assert sessions_of(hub) == []


def test_a_folder_of_another_owner_is_refused(hub, sessions_of):
    hub.start_session("alice", {"project": "own"})
    hub.retire("alice")
    folder = hub.workspaces / "alice" / "foreign"
    folder.mkdir()
    os.chown(folder, 1234, 1234)
    answer = hub.launch("alice", {"project": "foreign"})
    assert answer.status_code == 400, answer.text
    assert "another account" in answer.json()["message"]
    assert folder.stat().st_uid == 1234
    assert sessions_of(hub) == []


def test_a_link_opens_the_form_and_starts_nothing(hub, sessions_of):
    import httpx
    from support.browse import log_in

    with httpx.Client(base_url=hub.url, follow_redirects=True, timeout=30) as browser:
        log_in(browser, "alice")
        for query in ("opt-project=evil&opt-gpu=1g.10gb", "project=evil"):
            page = browser.get(f"hub/spawn?{query}", headers={"Sec-Fetch-Site": "cross-site"})
            assert "<form" in page.text
            assert "link" in page.text
    assert not hub.server("alice").get("ready")
    assert sessions_of(hub) == []


def test_the_third_student_is_told_why_not_and_what_to_do(hub, sessions_of):
    hub.start_session("alice", {"project": "p", "gpu": "1g.10gb"})
    hub.start_session("bob", {"project": "p", "gpu": "1g.10gb"})
    held = [c.labels["ds01.gpu.uuids"] for c in sessions_of(hub)]
    assert len(set(held)) == 2
    answer = hub.launch("teacher", {"project": "p", "gpu": "1g.10gb"})
    assert answer.status_code == 503
    message = answer.json()["message"]
    assert "1g.10gb was asked for" in message
    assert "none is free" in message
    assert "start without one" in message
    assert int(answer.headers["Retry-After"]) > 0
    assert len(sessions_of(hub)) == 2
    for user in ("alice", "bob"):
        hub.retire(user)
    hub.start_session("teacher", {"project": "p", "gpu": "1g.10gb"})
    hub.retire("teacher")


def test_stored_options_are_validated_at_every_start(hub, sessions_of):
    """Hub 6 can plant options without a start; they are checked when they are used."""
    hub.http.patch(hub.server_path("admin", "planted"), json={"user_options": {"project": "../../etc"}})
    answer = hub.launch("admin", None, "planted")
    assert answer.status_code in (400, 201, 202), answer.text
    if answer.status_code != 400:
        hub.wait_ready("admin", "planted")
        assert [c.labels["ds01.project"] for c in sessions_of(hub)] == ["default"]
        hub.retire("admin", "planted")

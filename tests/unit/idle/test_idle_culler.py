"""The service as jupyterhub-idle-culler's application: what its own options, files and hook do here."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
from idle_rows import STUDENT, TEN, at, replace
from idle_site import Site
from jupyterhub_idle_culler import IdleCuller, cull_idle
from support.answering_site import AnsweringSite

from ds01spawner.core.errors import DS01Error
from ds01spawner.idle.arbiter import Arbiter
from ds01spawner.idle.case import Settled
from ds01spawner.idle.culler import SessionCuller


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """The configuration file is looked for where the service was started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://127.0.0.1:1/hub/api")


def culler(*arguments, file=None, tmp_path=None):
    if file is not None:
        (tmp_path / "idle_culler_config.py").write_text(file)
    app = SessionCuller()
    app.initialize(list(arguments))
    app.read_config_file()
    return app


def test_nothing_of_the_culler_s_command_line_is_missing():
    assert IdleCuller.aliases.items() <= SessionCuller.aliases.items()
    assert IdleCuller.flags.keys() <= SessionCuller.flags.keys()
    assert "c.IdleCuller.cull_every" in SessionCuller().generate_config_file()


def test_what_it_is_without_options():
    app = culler()
    assert app.settled() == Settled()
    assert app.url == "http://127.0.0.1:1/hub/api"


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--cull-every=30", {"poll": 30.0}),
        ("--concurrency=3", {"parallel": 3}),
        ("--concurrency=0", {"parallel": 0}),
        ("--cull-named-servers=false", {"cull_named": False}),
        ("--cull-default-servers=false", {"cull_default": False}),
        ("--remove-named-servers=true", {"remove_named": True}),
        ("--api-page-size=50", {"page_size": 50}),
        ("--IdleCuller.cull_every=30", {"poll": 30.0}),
        ("--window=5", {"window": 5.0}),
        ("--port=8889", {"port": 8889}),
        ("--dry-run", {"dry_run": True}),
        ("--poll=5", {"poll": 5.0}),
        ("--parallel=2", {"parallel": 2}),
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_each_option(argument, expected, apart):
    words = argument.split("=") if apart else [argument]
    assert culler(*words).settled() == replace(Settled(), **expected)


def test_options_that_may_be_there_twice():
    found = culler("--hook", "a:b", "--hook", "c:d", "--webhook", "https://chat.invalid/x").settled()
    assert (found.hooks, found.webhooks) == (("a:b", "c:d"), ("https://chat.invalid/x",))


def test_the_request_timeout_of_the_environment(monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_REQUEST_TIMEOUT", "7")
    assert culler().settled().timeout == 7.0


FILE = "c.IdleCuller.cull_every = 30\nc.IdleCuller.concurrency = 4\nc.SessionCuller.webhooks = ['smtp://m']\n"


def test_the_configuration_file_counts_and_the_command_line_more(tmp_path):
    found = culler("--concurrency=5", file=FILE, tmp_path=tmp_path).settled()
    assert (found.poll, found.parallel, found.webhooks) == (30.0, 5, ("smtp://m",))
    (tmp_path / "idle_culler_config.py").rename(tmp_path / "other.py")
    assert culler().settled().poll == 60.0
    assert culler("--config=other.py").settled().poll == 30.0


def test_a_file_that_is_broken_or_missing_is_not_left_out_in_silence(tmp_path):
    with pytest.raises(NameError):
        culler(file="c.IdleCuller.cull_every = thirty", tmp_path=tmp_path)
    with pytest.raises(DS01Error, match=r"nowhere\.py is not there"):
        culler("--config=nowhere.py")


@pytest.mark.parametrize("value", ["--max-age=3600", "--IdleCuller.max_age=1"])
def test_what_would_end_sessions_without_a_warning_is_refused(value):
    with pytest.raises(DS01Error, match=r"session\.lifetime"):
        culler(value)


def test_our_own_decision_is_no_hook_of_this_service(tmp_path):
    file = "from ds01spawner.idle.arbiter import Arbiter\nc.IdleCuller.cull_arbiter_hook = Arbiter(None)\n"
    with pytest.raises(DS01Error, match="cull_arbiter_hook"):
        culler(file=file, tmp_path=tmp_path)


@pytest.mark.parametrize(("more", "warned"), [((), True), (("--cull-users=true",), False)])
def test_a_timeout_that_the_policy_overrules_is_told(monkeypatch, more, warned):
    said = []
    monkeypatch.setattr(SessionCuller().log, "warning", said.append)
    culler("--timeout=900", *more)
    assert any("the policy" in line for line in said) is warned


def test_it_says_why_it_cannot_begin(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTERHUB_")}
    done = subprocess.run(
        [sys.executable, "-m", "ds01spawner.idle", "--cull-every=5"], env=env, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("the idle service needs JUPYTERHUB_API_URL")


# --- what the options do ------------------------------------------------------------------------


@pytest.fixture
def made(tmp_path):
    sites = []

    def make(**settled):
        sites.append(Site(tmp_path, **settled))
        return sites[-1]

    yield make
    for site in sites:
        site.store.close()


async def test_servers_that_are_not_culled_are_neither_warned_nor_retired_for_being_idle(made):
    site = made(cull_default=False)
    assert await site.passes(90) == {"alice": "idle"}
    assert (site.notices(), site.log) == ([], [])


async def test_a_deadline_ends_them_all_the_same(made):
    site = made(cull_default=False)
    site.store.blocks.add_maintenance(at(60), "new driver", "ops", TEN)
    await site.passes(61)
    assert site.log == ["reason alice", "stop alice"]


async def test_the_names_that_are_culled():
    named = Settled(cull_named=False)
    assert (named.culls(""), named.culls("big")) == (True, False)
    assert (Settled(cull_default=False).culls(""), Settled(cull_default=False).culls("big")) == (False, True)


async def test_named_servers_are_removed_where_the_site_wants_it(made):
    site = made(remove_named=True)
    await site.passes(31)
    assert site.log == ["reason alice", "remove alice"]


@pytest.mark.parametrize("fails", [False, True])
async def test_the_site_s_hook_keeps_a_session_that_would_go(made, fails):
    asked = []

    def hook(inactive, inactive_limit, server):
        asked.append((inactive, inactive_limit, server))
        if fails:
            raise ValueError("no such profile")
        return len(asked) > 20

    app = SessionCuller(cull_arbiter_hook=hook, timeout=900)
    site = made(may_end=app.settled().may_end)
    await site.passes(20)
    assert asked == []
    assert await site.passes(20) == {"alice": "idle"}
    assert site.notices() == []
    await site.passes(1)
    assert len(site.notices()) == (0 if fails else 1)
    await site.passes(10)
    assert site.log == ([] if fails else ["reason alice", "stop alice"])
    assert asked[0][1] == 900
    assert isinstance(asked[0][0], timedelta)


async def test_the_hook_is_not_asked_about_the_end_of_a_lifetime(made):
    async def never(server):
        return False

    site = made(may_end=never)
    site.store.blocks.add_maintenance(at(60), "new driver", "ops", TEN)
    await site.passes(61)
    assert site.log == ["reason alice", "stop alice"]


# --- the culler's own code ----------------------------------------------------------------------


@pytest.fixture
async def hub():
    made = AnsweringSite()
    made.answers["/"] = (200, {"version": "6.1.1"})
    yield made
    made.server.stop()


def user(name, days, server=False, **more):
    then = (datetime.now(timezone.utc) - timedelta(days=days)).isoformat()
    running = {"name": "", "full_name": f"{name}/", "url": f"/user/{name}/", "ready": True, "pending": None}
    running |= {"started": then, "last_activity": then}
    servers = {"": running} if server else {}
    return {"name": name, "admin": False, "created": then, "last_activity": then, "servers": servers, **more}


async def test_users_are_deleted_as_the_culler_does_it_and_no_server_is_stopped(hub):
    everybody = {
        "inactive": [user("gone", 9), user("root", 9, admin=True), user("here", 0)],
        "ready": [user("alice", 9, server=True)],
    }

    async def users(handler):
        return 200, everybody[handler.get_argument("state")]

    hub.answers["/users"] = users
    hub.answers["DELETE", "/users/gone"] = (204, "")
    app = culler("--cull-users=true", "--cull-admin-users=false", "--timeout=86400")
    await cull_idle(**app.user_arguments(), url=hub.url, api_token="t")
    assert [uri for method, uri, *_ in hub.asked if method == "DELETE"] == ["/users/gone"]


async def test_the_culler_s_own_loop_with_our_decision(hub, made):
    site = made()
    site.rules = replace(STUDENT, timeout=1800.0)
    hub.answers["/users"] = (200, [user("alice", 0, server=True), user("bob", 9, server=True)])
    hub.answers["DELETE", "/users/alice/server"] = (204, "")
    log = IdleCuller().log

    async def one_pass():
        arbiter = Arbiter(site.service)
        await cull_idle(hub.url, "t", 1, log, cull_arbiter=arbiter)
        return [uri for method, uri, *_ in hub.asked if method == "DELETE"]

    assert await one_pass() == []  # not theirs to judge: an idle limit of one second
    await site.passes(29)
    site.clock.now += timedelta(minutes=2)
    assert await one_pass() == ["/users/alice/server"]
    assert site.log == ["reason alice"]

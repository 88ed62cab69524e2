"""The hub's API, single-user servers and webhooks against real HTTP servers that behave and misbehave."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from idle_rows import TEN, at
from support.answering_site import AnsweringSite

from ds01spawner.core.errors import DS01Error
from ds01spawner.idle.lab import LabClient
from ds01spawner.idle.wiring import hub_environment, load_hook
from ds01spawner.notify.channels import FileChannel, HookChannel, LabChannel, Notice, Notifier, WebhookChannel
from ds01spawner.workspace.session_files import ProjectFolder


@pytest.fixture
async def site():
    made = AnsweringSite()
    yield made
    made.server.stop()


KERNEL = {"id": "k1", "name": "python3", "last_activity": "2026-02-23T10:00:00.000000Z"}


async def test_kernels_and_the_names_of_the_busy(site):
    base = "/user/alice/api"
    site.answers[f"{base}/kernels"] = (
        200,
        [
            {**KERNEL, "execution_state": "busy"},
            {"id": "k2", "name": "ir", "execution_state": "idle", "last_activity": "2026-02-23T09:00:00Z"},
        ],
    )
    site.answers[f"{base}/sessions"] = (200, [{"name": "train.ipynb", "kernel": {"id": "k1"}}])
    got = await LabClient("secret").kernels(["127.0.0.1"], site.port, "/user/alice/")
    assert (got.value.busy, got.value.last_used, got.value.open) == (("train.ipynb",), TEN, 2)
    assert all("no_track_activity=1" in uri for _, uri, *_ in site.asked)
    site.answers[f"{base}/sessions"] = (500, "")
    got = await LabClient("secret").kernels(["127.0.0.1"], site.port, "/user/alice/")
    assert got.value.busy == ("python3",)


@pytest.mark.parametrize(
    ("state", "busy"),
    [("idle", False), ("starting", False), ("dead", False), ("busy", True), ("odd", True), (None, True)],
)
async def test_kernel_states(site, state, busy):
    site.answers["/x/api/kernels"] = (200, [{**KERNEL, "execution_state": state}])
    got = await LabClient("t").kernels(["127.0.0.1"], site.port, "/x/")
    assert bool(got.value.busy) is busy


@pytest.mark.parametrize(
    ("answer", "status", "reason"),
    [
        ((404, ""), "unsupported", "its server is not a Jupyter server"),
        ((403, ""), "failed", "its server does not let the idle service in"),
        ((302, ""), "failed", "its server does not let the idle service in"),
        ((503, ""), "failed", "its server answered with status 503"),
        ((200, "{"), "failed", "its server could not be asked: "),
        ((200, {"a": 1}), "failed", "its server could not be asked: the answer is not a list"),
        ((200, [1]), "failed", "its server could not be asked: a kernel is not an object"),
        ((200, [{**KERNEL, "last_activity": "soon"}]), "failed", "its server could not be asked: "),
        ((200, "[" + " " * 3_000_000 + "]"), "failed", "its server "),
    ],
)
async def test_servers_that_answer_badly(site, answer, status, reason):
    site.answers["/x/api/kernels"] = answer
    got = await LabClient("t").kernels(["127.0.0.1"], site.port, "/x/")
    assert got.status == status
    assert got.reason.startswith(reason)


async def test_servers_that_do_not_answer(site):
    async def hang(handler):
        await asyncio.sleep(2)
        return 200, []

    site.answers["/x/api/kernels"] = hang
    lab = LabClient("t", timeout=0.2)
    got = await lab.kernels(["127.0.0.1"], site.port, "/x/")
    assert (got.status, got.reason) == ("failed", "its server did not answer in time")
    assert (await lab.kernels(["127.0.0.1"], 1, "/x/")).status == "failed"
    assert (await lab.kernels([], site.port, "/x/")).reason == "its container has no address"


def notice(kind="warning", minutes=0.0) -> Notice:
    return Notice(kind, "k", "alice", "", "s1", "p", "text", at(minutes), retire_at=at(10), cause="idle")


async def test_a_webhook_gets_json(site):
    got = []

    async def take(handler):
        got.append(json.loads(handler.request.body))
        return 200, ""

    site.answers["POST", "/hook"] = take
    assert await Notifier([WebhookChannel(f"{site.url}/hook")]).send(notice()) is False  # nothing to see
    assert got[0]["user"] == "alice"
    assert got[0]["retire_at"] == "2026-02-23T10:10:00+00:00"


class Shown:
    name, shows = "page", True

    def __init__(self, broken: bool = False) -> None:
        self.broken, self.got = broken, []

    async def deliver(self, notice: Notice) -> None:
        if self.broken:
            raise RuntimeError("broken")
        self.got.append(notice)


async def test_visible_means_one_place_to_see_it():
    async def hang(notice):
        await asyncio.sleep(5)

    mails = []
    hooks = [HookChannel(mails.append, "mail"), HookChannel(hang, "hang")]
    assert await Notifier([Shown(), *hooks], timeout=0.1).send(notice()) is True
    assert await Notifier([Shown(broken=True), *hooks], timeout=0.1).send(notice()) is False
    assert [m.user for m in mails] == ["alice", "alice"]


async def test_mails_are_not_repeated_within_a_while_but_pages_are_always_right():
    page, mails = Shown(), []
    notifier = Notifier([page, HookChannel(mails.append, "mail")])
    for minute in (0, 1, 14, 15, 16):
        await notifier.send(notice(minutes=minute))
        await notifier.send(notice("withdrawn", minutes=minute))
    assert len(page.got) == 10
    assert [m.at for m in mails] == [at(0), at(15)]
    notifier.keep_only([])
    await notifier.send(notice(minutes=16))
    assert len(mails) == 3


async def test_an_open_lab_shows_every_notice_but_the_end(site):
    got = []

    async def take(handler):
        got.append((handler.request.headers["Authorization"], json.loads(handler.request.body)))
        return 200, "{}"

    site.answers["POST", "/user/alice/jupyterlab-notifications-extension/ingest"] = take
    lab, port = LabClient("secret"), int(site.url.rpartition(":")[2])

    async def show(session, text, level):
        return await lab.notify(("127.0.0.1",), port, "/user/alice/", f"{session} {text}", level)

    notifier = Notifier([LabChannel(show)])
    for kind in ("warning", "withdrawn", "warning", "kept", "retired"):
        assert await notifier.send(notice(kind)) is False  # a closed tab shows nothing, so it is no warning
    assert [body["type"] for _, body in got] == ["warning", "info", "warning", "info"]
    assert got[0] == (
        "token secret",
        {"message": "s1 text", "type": "warning", "autoClose": False, "immediate": True},
    )
    assert await lab.notify(("127.0.0.1",), port, "/user/bob/", "x", "info") is False  # has no extension
    assert await lab.notify(("127.0.0.1",), 1, "/user/alice/", "x", "info") is False  # does not answer
    assert await lab.notify((), port, "/user/alice/", "x", "info") is False
    lab.close()


async def test_the_file_keeps_what_was_said_before_and_by_another_session(tmp_path):
    (tmp_path / "alice/p").mkdir(parents=True)

    def channel():
        return FileChannel(lambda user, project: ProjectFolder(tmp_path, user, project))

    first = channel()
    await asyncio.gather(*(first.deliver(replace(notice(), text=f"session {n}")) for n in range(5)))
    await channel().deliver(notice("retired"))  # the service was started anew
    await channel().deliver(notice("retired"))
    lines = (tmp_path / "alice/p/.ds01/notices").read_text().splitlines()
    assert sorted(line[-9:] for line in lines[:5]) == [f"session {n}" for n in range(5)]
    assert len(lines) == 6


def test_hooks_by_name_and_the_hubs_environment(monkeypatch):
    assert load_hook("json:dumps") is json.dumps
    for bad in ("json", "json:nothing", "no.such.module:x", "json:__name__"):
        with pytest.raises(DS01Error, match="notice hook"):
            load_hook(bad)
    monkeypatch.delenv("JUPYTERHUB_API_TOKEN", raising=False)
    with pytest.raises(DS01Error, match="JUPYTERHUB_API_TOKEN"):
        hub_environment()
    monkeypatch.setenv("JUPYTERHUB_API_URL", "http://hub/api")
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "t")
    assert hub_environment() == ("http://hub/api", "t")


async def test_terminals_where_keystrokes_cannot_be_seen(site):
    lab = LabClient("t")
    ask = (["127.0.0.1"], site.port, "/x/")
    assert (await lab.terminals(*ask)).status == "unsupported"
    site.answers["/x/api/terminals"] = (200, [])
    assert (await lab.terminals(*ask)).value is None
    times = ["2026-02-23T09:00:00Z", "2026-02-23T10:00:00Z"]
    site.answers["/x/api/terminals"] = (200, [{"name": "1", "last_activity": t} for t in times])
    assert (await lab.terminals(*ask)).value == TEN
    for bad in ((403, ""), (200, [1]), (200, [{"last_activity": "soon"}])):
        site.answers["/x/api/terminals"] = bad
        assert (await lab.terminals(*ask)).status == "failed"

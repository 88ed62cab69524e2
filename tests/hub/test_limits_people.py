"""Limits as people meet them on a real hub: a kill is told, asking for more, a full disk, longest life."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone

import docker
import httpx
import pytest
from bs4 import BeautifulSoup
from support.browse import log_in
from support.idle import command, events_of
from support.running_hub import RunningHub, running_hub

from ds01spawner.engines.docker import cgroups

LIFETIME = 60
LEAD = 20
POLICY = f"""
version: 1
defaults:
  gpu: {{max_equivalents: 0.5, full_gpu: false}}
  session: {{max: 1, cpus: 1, memory: 600m, shm: 64m, pids: 512, lifetime: 12h}}
  aggregate: {{cpus: 1.5, memory: 2g}}
  storage: {{minimum_free: {{workspace: 512k, host: 50m, engine: 50m}}}}
  idle: {{lifetime_lead: {LEAD}s}}
users:
  teacher: {{session: {{lifetime: {LIFETIME}s}}, reason: a test}}
"""


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient, lab_image: str
) -> Iterator[RunningHub]:
    """A hub with both services."""
    with running_hub(
        tmp_path_factory.mktemp("hub"),
        f"test-{os.getpid()}-limits",
        lab_image,
        arguments=', idle_arguments=("--poll", "2", "--window", "4")',
        policy=POLICY,
        users={"dave"},
    ) as running:
        yield running
    parents = cgroups.Parents(engine.info(), running.hub_id)
    for name in parents.listed():
        parents.remove(name)


@pytest.fixture
def person(hub) -> Iterator[object]:
    """Makes people who are logged in: ``person("alice")``."""
    made = []

    def log(user: str) -> httpx.Client:
        made.append(httpx.Client(base_url=hub.url, follow_redirects=True, timeout=60))
        log_in(made[-1], user)
        return made[-1]

    yield log
    for client in made:
        client.close()


def in_session(engine, hub, user, line):
    return engine.containers.get(f"{hub.hub_id}--{user}").exec_run(["sh", "-c", line])


def notices(browser: httpx.Client) -> str:
    """What stands across the person's next page, fetched as the page itself does."""
    place = BeautifulSoup(browser.get("hub/home").text, "html.parser").find(id="ds01-notices")
    answer = browser.get(place["hx-get"], headers=json.loads(place["hx-headers"]))
    return BeautifulSoup(answer.text, "html.parser").get_text(" ", strip=True)


def field(page: httpx.Response, name: str) -> str:
    return BeautifulSoup(page.text, "html.parser").find("input", {"name": name})["value"]


def test_a_process_over_memory_is_killed_and_its_owner_is_told_on_the_next_page(hub, engine, person):
    hub.start_session("alice", {"project": "thesis"})
    code, _ = in_session(engine, hub, "alice", "python3 -c 'x = bytearray(900 << 20)'")
    assert code == 137
    alice = person("alice")
    hub.wait_for(lambda: "ended by the kernel" in notices(alice), 120, "the notice")
    said = notices(alice)
    assert "project 'thesis'" in said
    assert "all its memory of 600 MiB" in said
    assert hub.server("alice")["ready"]
    assert [e["action"] for e in events_of(hub, "alice")] == ["started", "limited"]
    hub.retire("alice")


def test_from_a_refusal_to_more_by_asking(hub, person):
    hub.start_session("bob", {"project": "one"}, "first")
    bob, admin = person("bob"), person("admin")
    form = bob.get("hub/spawn/bob/second")
    action = BeautifulSoup(form.text, "html.parser").find(id="spawn_form")["action"]
    refused = bob.post(action, data={"project": "two", "gpu": "none"})
    link = BeautifulSoup(refused.text, "html.parser").find("a", string="Ask for more")
    assert link is not None, refused.text
    page = bob.get(link["href"])
    assert re.search(r'value="session.max" selected', page.text)
    day = (datetime.now(timezone.utc) + timedelta(days=2)).date().isoformat()
    asked = bob.post(
        "services/ds01/requests",
        data={"_xsrf": field(page, "_xsrf"), "act": "ask", "key": "session.max", "value": "2", "until": day,
              "reason": "two runs at a time"},
    )  # fmt: skip
    assert "two runs" not in asked.text
    assert "session.max: 2" in asked.text
    assert hub.launch("bob", {"project": "two"}, "second").status_code == 409
    page = admin.get("services/ds01/requests")
    assert "two runs at a time" in page.text
    answer = {
        "_xsrf": field(page, "_xsrf"),
        "act": "approved",
        "id": field(page, "id"),
        "answer": "Good luck",
    }
    assert admin.post("services/ds01/requests", data=answer).status_code == 200
    assert "was approved by admin" in notices(bob)
    time.sleep(6)  # every process reads approvals a few seconds after they were given
    hub.start_session("bob", {"project": "two"}, "second")
    assert "approved by admin" in command(hub, "limits", "bob")["values"]["session.max"]["source"]
    for name in ("first", "second"):
        hub.retire("bob", name)


def test_on_a_full_disk_a_rescue_session_starts_and_files_can_be_deleted(hub, engine):
    hub.start_session("dave", {"project": "thesis"})
    hub.retire("dave")
    home = hub.workspaces / "dave"
    uid = home.stat().st_uid
    shutil.rmtree(home / "thesis")
    options = f"size=2m,mode=750,uid={uid},gid={uid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", home], check=True)
    try:
        (home / "thesis").mkdir(mode=0o770)
        with suppress(OSError):
            (home / "thesis/big").write_bytes(os.urandom(3 << 20))
        for path in (home / "thesis", home / "thesis/big"):
            os.chown(path, uid, uid)
        refused = hub.launch("dave", {"project": "thesis", "gpu": "1g.10gb"})
        assert refused.status_code == 507
        assert "rescue session" in refused.json()["message"]
        hub.start_session("dave", {"project": "thesis"})
        assert in_session(engine, hub, "dave", "ls $JUPYTER_RUNTIME_DIR")[1].decode().strip() != ""
        assert in_session(engine, hub, "dave", "rm /workspace/big")[0] == 0
        assert os.statvfs(home).f_bavail * os.statvfs(home).f_frsize > 1 << 20
        hub.retire("dave")
    finally:
        subprocess.run(["umount", "-l", home], check=True)


@pytest.mark.timeout(900)
def test_the_longest_life_is_warned_of_and_kept_across_a_restart(hub, engine, person):
    teacher = person("teacher")
    hub.start_session("teacher", {"project": "thesis"})
    end = engine.containers.get(f"{hub.hub_id}--teacher").labels["ds01.expires_at"]
    hub.kill()
    hub.start()
    hub.settle("teacher")
    assert engine.containers.get(f"{hub.hub_id}--teacher").labels["ds01.expires_at"] == end
    hub.wait_for(lambda: not hub.server("teacher").get("ready"), LIFETIME + 240, "the end of the lifetime")
    hub.wait_for(lambda: events_of(hub, "teacher")[-1]["action"] == "ended", 90, "its end in the history")
    assert datetime.now(timezone.utc) >= datetime.fromisoformat(end)
    happened = events_of(hub, "teacher")
    actions = [e["action"] for e in happened]
    # After a pause in which nobody looked, as under load, the warning is given afresh.
    assert [a for a, before in zip(actions, ["", *actions], strict=False) if a != before] == [
        "started", "warned", "retiring", "ended",
    ]  # fmt: skip
    assert happened[-1]["kind"] == "lifetime"
    # However late the first look after the restart was, the owner had the whole time that is promised.
    at = {e["action"]: datetime.fromisoformat(e["at"]) for e in happened}
    assert at["retiring"] >= max(at["warned"] + timedelta(seconds=LEAD), datetime.fromisoformat(end))
    shown = BeautifulSoup(teacher.get("hub/user/teacher/").text, "html.parser")
    assert "lifetime" in shown.get_text(" ", strip=True)

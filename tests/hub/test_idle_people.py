"""What people and admins see of the idle rules on a real hub, and what they can do about them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import docker
import httpx
import pytest
from bs4 import BeautifulSoup
from support.browse import log_in
from support.doors import Door
from support.idle import command, decisions, ds01, events_of, page_of
from support.running_hub import RunningHub, running_hub

POLL, TIMEOUT, LEAD, CAP = 2, 20, 10, 30
POLICY = f"""
version: 1
defaults:
  gpu: {{max_equivalents: 0.5}}
  session: {{max: 3, cpus: 1, memory: 1g, shm: 128m, pids: 512, lifetime: 12h}}
  storage: {{minimum_free: {{workspace: 50m, host: 50m, engine: 50m}}}}
  idle: {{timeout: {TIMEOUT}s, start_grace: 1s, warn_lead: {LEAD}s, lifetime_lead: {LEAD}s,
    keep_alive: {{per_session: {CAP}s, per_day: 1h}}}}
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The only way to the engine for the hub and its services."""
    made = Door(tmp_path_factory.mktemp("door") / "docker.sock")
    yield made
    made.shut()


@pytest.fixture(scope="module")
def hub(
    tmp_path_factory: pytest.TempPathFactory, engine: docker.DockerClient, lab_image: str, door: Door
) -> Iterator[RunningHub]:
    """A hub with both services, and the engine behind a door."""
    with running_hub(
        tmp_path_factory.mktemp("hub"),
        f"test-{os.getpid()}-people",
        lab_image,
        extra="c.Spawner.poll_interval = 3\n"
        f'c.DS01Spawner.extra_settings = {{"docker_host": "unix://{door.path}"}}',
        arguments=f', idle_arguments=("--poll", "{POLL}", "--window", "{2 * POLL}")',
        policy=POLICY,
    ) as running:
        yield running


def state(hub: RunningHub, user: str) -> str:
    return str(decisions(hub).get(user, {}).get("state", ""))


def wait_state(hub: RunningHub, user: str, wanted: str, patience: float = 90) -> dict[str, Any]:
    hub.wait_for(lambda: state(hub, user) == wanted, patience, f"{user} to be {wanted}: {decisions(hub)}")
    return decisions(hub)[user]


def wait_gone(hub: RunningHub, user: str, patience: float = 90) -> None:
    hub.wait_for(lambda: not hub.server(user).get("ready"), patience, f"{user} to go: {decisions(hub)}")
    hub.settle(user)


def text_of(answer: httpx.Response) -> str:
    return BeautifulSoup(answer.text, "html.parser").get_text(" ", strip=True)


def xsrf(page: httpx.Response) -> str:
    field = BeautifulSoup(page.text, "html.parser").find("input", {"name": "_xsrf"})
    assert field is not None
    return str(field["value"])


@pytest.fixture
def alice(hub: RunningHub) -> Iterator[httpx.Client]:
    """Alice's browser without JavaScript, her idle session running and warned."""
    hub.start_session("alice", {"project": "thesis"})
    wait_state(hub, "alice", "warned")
    with httpx.Client(base_url=hub.url, follow_redirects=True, timeout=30) as visitor:
        log_in(visitor, "alice")
        yield visitor
    if hub.server("alice").get("ready"):
        hub.retire("alice")


def test_the_warning_is_on_every_page_until_dismissed(hub, alice):
    said = decisions(hub)["alice"]["reason"]
    at = re.search(r"retired at ([0-9:]+ UTC)", said)
    assert at is not None
    for path in ("hub/home", "hub/spawn/alice/second", "services/ds01/"):
        assert f"retired at {at[1]}" in text_of(alice.get(path)), path
    assert f"retired at {at[1]}" in (hub.workspaces / "alice/thesis/.ds01/notices").read_text()
    home = alice.get("hub/home")
    key = re.search(r"X-DS01-Key&#34;: &#34;([^&]+)&#34;", home.text) or re.search(
        r'X-DS01-Key(?:&#34;|&quot;|"): ?(?:&#34;|&quot;|")([^&"]+)', home.text
    )
    assert key is not None, home.text[:3000]
    live = alice.get("services/ds01/fragments/notices", headers={"X-DS01-Key": key[1]})
    assert f"retired at {at[1]}" in live.text
    # Dismissed by the form that needs no script, it stays away everywhere.
    notices = alice.get("services/ds01/notices")
    number = BeautifulSoup(notices.text, "html.parser").find("input", {"name": "number"})["value"]
    left = alice.post("services/ds01/notices", data={"_xsrf": xsrf(notices), "number": number})
    assert left.status_code == 200
    assert "There is nothing to read" in text_of(left)
    for path in ("hub/home", "services/ds01/"):
        banner = BeautifulSoup(alice.get(path).text, "html.parser").find(id="ds01-notices")
        assert banner is not None
        assert banner.get_text(strip=True) == "", path
    # It is retired all the same, and its banner does not outlive it.
    wait_gone(hub, "alice")
    ended = text_of(alice.get("hub/user/alice/"))
    assert "Retired after" in ended
    assert "This session is retired at" not in ended


def test_keep_alive_by_button_command_and_file_is_one_extension_within_its_cap(hub, alice):
    before = datetime.now(timezone.utc)
    asked = alice.get("services/ds01/keep-alive?server=")
    form = {"_xsrf": xsrf(asked), "server": "", "seconds": "3600"}
    answer = alice.post("services/ds01/keep-alive", data=form)
    assert "Kept alive until" in text_of(answer)
    assert f"Left: 0 s for this session, {(3600 - CAP) // 60} min within 24 hours" in text_of(answer)
    again = alice.post("services/ds01/keep-alive", data={**form, "_xsrf": xsrf(answer)})
    assert again.status_code == 403
    assert "for one session is used up" in text_of(again)
    assert "defaults (policy.yaml:" in text_of(again)
    refused = ds01(hub, "keep-alive", "alice", "--for", "1h", "--json")
    assert refused.returncode == 1
    keep = hub.workspaces / "alice/thesis/.keep-alive"
    keep.touch()
    os.chown(keep, keep.parent.stat().st_uid, keep.parent.stat().st_gid)
    booked = [e for e in events_of(hub, "alice") if e["action"] == "extended" and at(e) > before]
    assert [(e["seconds"], e["kind"], e["by"]) for e in booked] == [(CAP, "button", "alice")]
    wait_state(hub, "alice", "idle", 15)
    assert "retired at" not in text_of(alice.get("services/ds01/notices"))  # the warning is withdrawn
    wait_gone(hub, "alice")
    events = [e for e in events_of(hub, "alice") if at(e) > before]
    warned, retiring = (next(e for e in events[::-1] if e["action"] == a) for a in ("warned", "retiring"))
    assert (at(retiring) - at(warned)).total_seconds() >= LEAD
    assert CAP <= (at(retiring) - before).total_seconds() <= CAP + 4 * POLL


def at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"])


def test_two_clicks_at_once_book_no_more_than_the_cap(hub, alice):
    page = alice.get("services/ds01/keep-alive?server=")
    form = {"_xsrf": xsrf(page), "server": "", "seconds": "3600"}
    before = datetime.now(timezone.utc)

    async def click() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=hub.url, cookies=alice.cookies, timeout=30) as tab:
            return await asyncio.gather(*(tab.post("services/ds01/keep-alive", data=form) for _ in range(4)))

    answers = asyncio.run(click())
    booked = [e for e in events_of(hub, "alice") if e["action"] == "extended" and at(e) > before]
    assert sum(e["seconds"] for e in booked) == CAP
    until = booked[-1]["at"]
    granted = [a for a in answers if a.status_code == 200 and "Kept alive until" in a.text]
    assert len(granted) >= 1, until
    assert all(a.status_code in (200, 403) for a in answers)


def test_an_admins_reason_reaches_the_owner(hub, engine):
    hub.start_session("alice", {"project": "thesis"})
    session = engine.containers.get(f"{hub.hub_id}--alice").labels["ds01.session"]
    with httpx.Client(base_url=hub.url, follow_redirects=True, timeout=60) as admin:
        log_in(admin, "admin")
        hub.wait_for(lambda: session in admin.get("services/ds01/admin").text, 90, "the page to list it")
        page = admin.get("services/ds01/admin")
        form = {"_xsrf": xsrf(page), "session": session, "reason": ""}
        assert admin.post("services/ds01/admin/retire", data=form).status_code == 400
        form["reason"] = "the lab <b>closes</b>"
        assert admin.post("services/ds01/admin/retire", data=form).status_code == 200
    wait_gone(hub, "alice")
    seen = text_of(page_of(hub, "alice", "hub/user/alice/"))
    assert "the lab <b>closes</b> (admin)" in seen
    assert "everything in the project thesis" in seen


def test_the_commands_reason_reaches_the_owner_too_also_after_a_restart_of_the_hub(hub):
    hub.start_session("alice", {"project": "thesis"})
    command(hub, "retire", "alice", "--reason", "power is out", "--grace", "1")
    wait_gone(hub, "alice")
    assert "power is out (retired by root)" in text_of(page_of(hub, "alice", "hub/user/alice/"))
    hub.kill()
    hub.start()
    assert "power is out (retired by root)" in text_of(page_of(hub, "alice", "hub/user/alice/"))


def test_maintenance_warns_ends_even_busy_sessions_and_lets_none_start(hub, engine):
    hub.start_session("bob", {"project": "thesis"})
    box = engine.containers.get(f"{hub.hub_id}--bob")
    box.exec_run(["python3", "-c", "while True: pass"], detach=True)
    wait_state(hub, "bob", "active")
    number = command(hub, "maintenance", "20s", "--reason", "new driver")["id"]
    announced = datetime.now(timezone.utc)
    try:
        assert "new driver" in text_of(page_of(hub, "alice", "hub/home"))  # everybody is told
        assert "This session ends at" in wait_state(hub, "bob", "warned", 30)["reason"]
        refused = hub.launch("alice", {"project": "p"})
        assert refused.status_code == 503
        assert "new driver" in refused.json()["message"]
        wait_gone(hub, "bob", 60)
        events = {e["action"]: e for e in events_of(hub, "bob")}
        assert (at(events["retiring"]) - at(events["warned"])).total_seconds() >= LEAD
        assert 20 - 1 <= (at(events["retiring"]) - announced).total_seconds() <= 20 + 3 * POLL
        assert "Retired: new driver" in text_of(page_of(hub, "bob", "hub/user/bob/"))
    finally:
        command(hub, "maintenance", "--end", str(number))
    assert hub.launch("alice", {"project": "p"}).status_code in (201, 202)
    hub.wait_ready("alice")
    hub.retire("alice")


def test_a_hub_that_hangs_and_dies_in_the_middle_retires_nobody_without_a_fresh_warning(hub):
    hub.start_session("alice", {"project": "thesis"})
    wait_state(hub, "alice", "warned")
    assert hub.process is not None
    os.kill(hub.process.pid, signal.SIGSTOP)
    time.sleep(LEAD + 3 * POLL + 2)
    os.kill(hub.process.pid, signal.SIGCONT)
    hub.kill()
    hub.start()
    back = datetime.now(timezone.utc)
    hub.wait_ready("alice")
    wait_gone(hub, "alice")
    events = [e for e in events_of(hub, "alice") if at(e) > back]
    assert [e["action"] for e in events] == ["warned", "retiring", "ended"], events
    assert (at(events[1]) - at(events[0])).total_seconds() >= LEAD


def test_an_engine_away_in_the_middle_retires_nobody_without_a_fresh_warning(hub, door, sessions_of):
    hub.start_session("alice", {"project": "thesis"})
    wait_state(hub, "alice", "warned")
    (before,) = (c.labels["ds01.session"] for c in sessions_of(hub))
    door.shut()
    time.sleep(LEAD + 3 * POLL + 2)
    assert hub.server("alice")["ready"], "the hub must not take a silent engine for a dead session"
    back = datetime.now(timezone.utc)
    door.open()
    wait_gone(hub, "alice")
    events = [e for e in events_of(hub, "alice") if at(e) > back]
    assert [e["action"] for e in events] == ["warned", "retiring", "ended"], events
    assert (at(events[1]) - at(events[0])).total_seconds() >= LEAD
    assert {e["session"] for e in events} == {before}

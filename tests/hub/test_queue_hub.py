"""The queue on a real hub and engine: a class for few devices, with a crash and with people who leave.

The sessions are a tiny web server, so that a whole class passes in a minute; hub, service, store, engine and
devices on hold are the real ones.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from bs4 import BeautifulSoup
from support.browse import log_in
from support.running_hub import RunningHub
from support.service_api import MAY_MAKE_TOKENS, ServiceApi
from support.smtp import Relay
from support.webhook import Webhook

from ds01spawner.store import Store
from ds01spawner.store.rows import EventRow

TINY = """
c.DS01Spawner.cmd = ["httpd", "-f", "-p", "8888"]
c.DS01Spawner.retire_grace = 1
"""
GPUS = """
version: 1
cards:
  - {uuid: "GPU-{uuid}", name: Simulated A100, memory: 80g, mig: [%s]}
"""
POLICY = """
version: 1
defaults:
  gpu: {max_equivalents: 0.5, profiles: [1g.10gb]}
  session: {max: 3, cpus: 1, memory: 64m, shm: 16m, pids: 64, lifetime: 12h}
  queue: {max_wait: 1h, max_tickets: 2, claim_window: 3m}
  storage: {minimum_free: {workspace: 10m, host: 10m, engine: 10m}}
"""
HOOKS = """
import logging


def told(notice):
    with open("{folder}/told.txt", "a") as file:
        print(notice.kind, notice.user, file=file)


def handler():
    return logging.FileHandler("{folder}/events.txt")
"""
WISH = {"project": "practical", "gpu": "1g.10gb", "wait": True}
SEED = 8
"""Of which sessions end when; a failure is played again by the same ends."""


class Class:
    """Students who want one device each; the test watches the engine between all that it does."""

    def __init__(
        self, make: Any, image: str, students: int, devices: int, policy: str = POLICY, extra: str = ""
    ) -> None:
        self.names = [f"s{i:02d}" for i in range(students)]
        gpus = GPUS.replace("%s", ", ".join(["1g.10gb"] * devices))
        self.hub: RunningHub = make(
            image=image,
            extra=MAY_MAKE_TOKENS + TINY + extra,
            arguments=", idle=False",
            policy=policy,
            gpus=gpus,
            users=set(self.names),
        )
        self.store = Store.open(f"sqlite:///{self.hub.state / 'ds01.sqlite'}")
        self.random, self.tickets, self.ended = random.Random(SEED), {}, []
        self.held: Counter[tuple[str, str]] = Counter()

    def arrive(self) -> None:
        """Everybody asks, one after the other; those who must wait get a place with an address."""
        for name in self.names:
            answer = self.hub.launch(name, WISH)
            assert answer.status_code in (201, 202), f"{answer.status_code} {answer.text}"
            if place := re.search(r"/api/queue/([0-9a-f]+)$", answer.headers.get("Location", "")):
                assert place[1] in answer.json()["message"]
                self.tickets[name] = place[1]

    def ready(self) -> list[str]:
        """Those with a session now."""
        models = self.hub.http.get("/users", params={"limit": 200}).json()
        return sorted(m["name"] for m in models if (m["servers"].get("") or {}).get("ready"))

    def one_ends(self, and_then: Any = None) -> None:
        """A running session, drawn by lot, is retired."""
        self.hub.wait_for(self.ready, 120, "somebody to have a session")
        name = self.random.choice(self.ready())
        self.hub.retire(name)
        self.ended.append(name)
        if and_then is not None:
            and_then()

    def crash(self) -> None:
        """The hub dies while it starts the session of somebody whose turn has come."""
        self.hub.wait_for(lambda: self.store.tickets.find(["starting"]), 60, "a start from the queue")
        self.hub.kill()
        self.hub.start()

    def look(self, sessions_of: Any) -> None:
        """No device has two holders at this moment."""
        held = [(c.labels["ds01.gpu.uuids"], c.labels["ds01.user"]) for c in sessions_of(self.hub)]
        devices = [device for device, _ in held]
        assert len(set(devices)) == len(devices), f"a device is held twice: {held}"
        self.held.update(set(held))

    def events(self, action: str) -> list[EventRow]:
        """Events of tickets, in the order in which they were written."""
        found = self.store.events.find(topic="ticket", limit=10_000)
        return [e for e in found if e.action == action]


def serve(make: Any, image: str, sessions_of: Any, students: int, devices: int) -> Class:
    """All arrive, two leave, sessions end by lot, the hub is killed, all others are served."""
    room = Class(make, image, students, devices)
    room.arrive()
    waiting = room.names[devices:]
    assert list(room.tickets) == waiting
    assert len(room.ready()) == devices
    leaves, deleted = waiting[1], waiting[-1]
    ServiceApi(room.hub, leaves).http.delete(f"/queue/{room.tickets[leaves]}").raise_for_status()
    assert room.hub.http.delete(f"/users/{deleted}").status_code == 204
    served = [n for n in room.names if n not in (leaves, deleted)]
    while len(room.ended) < len(served):
        room.look(sessions_of)
        room.one_ends(and_then=room.crash if len(room.ended) == students // 4 else None)
    assert sorted(room.ended) == sorted(served)
    return room


def judge(room: Class, devices: int) -> None:
    """What the log must say."""
    waited = [n for n in room.names[devices:] if n in room.ended]
    firsts = list(dict.fromkeys(e.user for e in room.events("granted")))
    assert firsts == waited, "not granted in the order of arrival"
    assert Counter(e.user for e in room.events("started")) == Counter(waited), "lost, or started twice"
    assert room.events("expired") == room.events("failed") == []
    gone = {e.user for e in room.events("cancelled")}
    assert gone == set(room.names) - set(room.ended)
    assert room.store.tickets.find() == []
    sessions = Counter(s.user for s in room.store.sessions.find(limit=1000))
    assert sessions == Counter(room.ended), "somebody had two sessions"


def report(room: Class, path: Path) -> None:
    """The log of the queue, for whoever wants to read it."""
    lines = [
        f"{e.at:%H:%M:%S.%f} {e.action:<9} {e.user} {','.join(e.data.get('devices', ()))}"
        for e in room.store.events.find(topic="ticket", limit=10_000)
    ]
    path.write_text("\n".join([*lines, f"ended: {' '.join(room.ended)}", ""]))


def test_a_class_for_two_devices_is_served_in_order_though_the_hub_is_killed(
    own_hub, busybox_image, sessions_of, tmp_path
):
    room = serve(own_hub, busybox_image, sessions_of, students=8, devices=2)
    report(room, tmp_path / "queue.log")
    judge(room, devices=2)


@pytest.mark.nightly
@pytest.mark.timeout(1200)
def test_thirty_students_for_six_devices(own_hub, busybox_image, sessions_of, tmp_path):
    room = serve(own_hub, busybox_image, sessions_of, students=30, devices=6)
    report(room, tmp_path / "queue.log")
    judge(room, devices=6)


def test_a_place_is_given_up_by_the_command(own_hub, busybox_image):
    room = Class(own_hub, busybox_image, students=2, devices=1)
    room.arrive()
    command = [Path(sys.executable).with_name("ds01"), "queue", "--cancel", room.tickets["s01"], "--json"]
    env = {"DS01_STATE_DIR": str(room.hub.state)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert room.store.tickets.find() == []
    room.hub.retire("s00")
    assert room.events("granted") == []


def asks(browser: httpx.Client) -> httpx.Response:
    """The launch form is sent as a browser without scripts does."""
    page = BeautifulSoup(browser.get("hub/spawn").text, "html.parser")
    key = page.select_one("#spawn_form input[name=_xsrf]")
    address = f"hub/spawn?_xsrf={browser.cookies.get('_xsrf', path='/hub/')}" if key is None else "hub/spawn"
    choice = {"project_new": "practical", "gpu": "1g.10gb", "wait": "on"}
    return browser.post(address, data={**choice, **({"_xsrf": key["value"]} if key else {})})


def test_from_the_form_to_the_session_without_scripts(own_hub, busybox_image):
    """The form's answer leads to the queue page, and the queue page to the session."""
    room = Class(own_hub, busybox_image, students=1, devices=1)
    room.hub.start_session("s00", WISH)
    with httpx.Client(base_url=room.hub.url, follow_redirects=True, timeout=60) as browser:
        log_in(browser, "alice")
        answer = asks(browser)
        (ticket,) = room.store.tickets.find()
        assert answer.status_code == 202, answer.text
        page = f"/services/ds01/queue?ticket={ticket.id}"
        assert answer.headers["Refresh"] == f"0; url={page}"
        room.hub.wait_for(lambda: "number 1 in line" in browser.get(page).text, 90, "the number in line")
        shown = browser.get(page)
        assert shown.headers["Refresh"] == f"5; url={page}"
        room.hub.retire("s00")
        room.hub.wait_ready("alice")
        room.hub.wait_for(lambda: not room.store.tickets.find(), 120, "the place to be used")
        moved = browser.get(page, follow_redirects=False)
        assert (moved.status_code, moved.headers["Location"]) == (302, "/user/alice/")
        (notice,) = room.store.notices.of("alice", datetime.now(timezone.utc))
        assert "started from the queue" in notice.text


def test_a_preemptible_session_is_warned_and_goes_first_and_everybody_listens(
    own_hub, busybox_image, tmp_path
):
    """Also: the site's hook hears of the start from the queue, and its event handler of everything."""
    (tmp_path / "site_hooks.py").write_text(HOOKS.format(folder=str(tmp_path)))
    room = Class(
        own_hub,
        busybox_image,
        students=2,
        devices=1,
        policy=POLICY + "  idle: {lifetime_lead: 3s}\ngroups:\n  students:\n    queue: {preemptible: true}\n",
        extra='c.DS01Spawner.extra_settings = {"notice_hooks": ["site_hooks:told"],'
        ' "event_handlers": ["site_hooks:handler"]}\n'
        f'import os\nos.environ["PYTHONPATH"] = {str(tmp_path)!r}\n',
    )
    room.hub.start_session("s00", {**WISH, "preemptible": True})
    assert room.hub.launch("s01", WISH).status_code == 202
    room.hub.wait_ready("s01")
    room.hub.wait_for(lambda: (tmp_path / "told.txt").exists(), 120, "the hook to be called")
    assert (tmp_path / "told.txt").read_text() == "started s01\n"
    (first,) = room.store.sessions.find(user="s00")
    assert (first.kind, "entitled" in first.reason) == ("preempted", True)
    events = room.store.events.find(topic="session", limit=100)
    mine = [e.action for e in events if e.user == "s00"]
    assert mine == ["started", "warned", "ended"]
    warned, ended = (next(e.at for e in events if e.action == a) for a in ("warned", "ended"))
    assert (ended - warned).total_seconds() >= 3

    def heard() -> bool:
        return (tmp_path / "events.txt").read_text().count("started") >= 2

    room.hub.wait_for(heard, 120, "the events to be handed on")


TOLD = """
c.DS01Spawner.extra_settings = {{"notice_webhooks": [{hook!r}, {mail!r}]}}
c.JupyterHub.load_groups["roster"] = {{"users": ["s01"]}}
"""


def test_a_course_s_reservation_serves_its_students_places_and_people_are_told(
    own_hub, busybox_image, engine, sessions_of
):
    """The only device is kept for a course: its student's place is served, another's waits and ends."""
    with Webhook() as hook, Relay() as relay:
        extra = TOLD.format(hook=hook.address, mail=relay.address)
        room = Class(own_hub, busybox_image, students=2, devices=1, extra=extra)
        now = datetime.now(timezone.utc)
        pinned = engine.images.get(busybox_image).id
        course = {"title": "NLP", "roster": ["roster"], "image": busybox_image, "pinned": pinned}
        room.store.courses.put("nlp", "prof", "published", course, now)
        times = {
            "start": (now - timedelta(minutes=1)).isoformat(),
            "end": (now + timedelta(hours=1)).isoformat(),
        }
        wish = {"subject": "course:nlp", "profile": "1g.10gb", "title": "NLP practical", **times}
        ServiceApi(room.hub, "admin").post("/reservations", wish, 201)

        def kept() -> bool:
            return bool(room.store.blocks.live(datetime.now(timezone.utc), "reservation"))

        room.hub.wait_for(kept, 120, "the device to be kept")

        outsider = room.hub.launch("s00", WISH)
        assert outsider.status_code == 202, outsider.text
        options = {**WISH, "environment": "course/nlp"}
        place = ServiceApi(room.hub, "s01").post("/queue", {"server": "", "options": options}, 202)
        room.hub.wait_ready("s01")
        assert [c.labels["ds01.user"] for c in sessions_of(room.hub)] == ["s01"]
        room.hub.wait_for(
            lambda: room.store.tickets.get(place["id"]).state == "started", 120, "the place's end"
        )

        (waiting,) = room.store.tickets.find(["waiting"])
        assert waiting.user == "s00"
        over = {"expires_at": datetime.now(timezone.utc)}
        assert room.store.tickets.move(waiting.id, waiting.version, over["expires_at"], over)

        def heard() -> bool:
            return {(n["kind"], n["user"]) for n in hook.received} == {("started", "s01"), ("expired", "s00")}

        room.hub.wait_for(heard, 120, "the webhook to be called")
        room.hub.wait_for(lambda: len(relay.received) == 2, 120, "the mails")
        assert sorted(to for _, to, _ in relay.received) == [["s00@example.org"], ["s01@example.org"]]
        room.hub.retire("s01")

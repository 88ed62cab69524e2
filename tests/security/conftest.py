"""What the runners of the table stand on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from support.service_world import NOW, World, make_world

from ds01spawner.policy.resolve import Person
from ds01spawner.store import SessionRecord
from ds01spawner.workspace.projects import Workspaces

sys.path.insert(0, str(Path(__file__).resolve().parent))
TEACH = "custom:ds01:course:teach"
POLICY = """\
version: 1
defaults:
  session: {max: 2}
  images: {max: 4, builds: {queued: 3}}
  storage: {projects: 5}
  queue: {max_tickets: 2}
  idle: {keep_alive: {per_session: 4h, per_day: 8h}}
"""


@dataclass
class Stage:
    """The service with alice's things in its store, and folders for files."""

    world: World
    folder: Path

    @property
    def workspaces(self) -> Workspaces:
        """Real folders."""
        return self.world.site.workspaces


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Alice has a session, a build, an image, a place, a request and a notice; prof a course for ``nlp``."""
    (tmp_path / "ws").mkdir()
    mapping = f"{os.getuid() or 1000}:{os.getgid() or 1000}"
    world = make_world(tmp_path, monkeypatch, POLICY, workspace_root=tmp_path / "ws", identity=mapping)
    world.hub.people |= {
        "alice": Person("alice", frozenset({"nlp", "students"})),
        "bob": Person("bob", frozenset({"students"})),
        "prof": Person("prof"),
        "rival": Person("rival"),
    }
    world.hub.scopes = {"prof": [f"{TEACH}!group=nlp"], "rival": [f"{TEACH}!group=vision"]}
    world.ledger.add("alice", "s-a11ce", uuids=world.uuids[:1])
    image = "ds01-alice/thesis:latest"
    world.images.add(image, "sha256:" + "a" * 64)
    store = world.store
    store.sessions.started(SessionRecord("s-a11ce", "alice", NOW - timedelta(hours=1), equivalents=0.4))
    data = {"reference": image, "current": "sha256:" + "a" * 64, "previous": []}
    store.environments.put(image, "alice", "mine", "ready", data, NOW)
    store.builds.put("b-a11ce", "alice", image, "failed", {"reason": "the secret reason"}, NOW)
    store.builds.append_log("b-a11ce", ["a secret line"])
    store.tickets.add(
        {"id": "a11ce0", "user": "alice", "profile": "1g.10gb", "options": {"project": "secret"}}, NOW
    )
    store.notices.add("alice", "a secret notice", NOW)
    store.requests.add("alice", {"session.max": 9}, "a secret wish of mine", NOW, NOW + timedelta(days=9))
    course = {"title": "Secret course", "roster": ["nlp"], "staff": [], "image": "ds01/lab:latest"}
    store.courses.put("nlp", "prof", "draft", {"course": "nlp", **course}, NOW)
    world.site.workspaces.prepare("alice", "thesis")
    return Stage(world, tmp_path)

"""Users who are renamed or deleted: what stands against it, what becomes of files and sessions."""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

import pytest
from jupyterhub import apihandlers
from jupyterhub.apihandlers import users
from support.played_engine import PlayedEngine

from ds01spawner.core.errors import DS01Error, EngineError
from ds01spawner.core.installation import make
from ds01spawner.core.labels import SessionLabels
from ds01spawner.core.settings import Settings
from ds01spawner.engines.base import EngineSession, EngineState
from ds01spawner.engines.docker.engine import Docker
from ds01spawner.hub import people
from ds01spawner.intents.intent import intend
from ds01spawner.site import Site
from ds01spawner.workspace.moving import move

NOW = datetime(2026, 11, 28, 10, tzinfo=timezone.utc)
ALICE = SessionLabels("alice", "", "p", "hub", "s1")


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "workspaces").mkdir()
    made = Site(Settings(state_dir=tmp_path, workspace_root=tmp_path / "workspaces", devices="none"))
    made.__dict__["engine"] = Docker(made.settings, PlayedEngine(make(tmp_path)))
    made.sessions = []
    monkeypatch.setattr(made.engine, "look", lambda: EngineState((), tuple(made.sessions)))
    monkeypatch.setattr(made.carrier, "kick", lambda: None)
    return made


def runs(site, labels=ALICE, state="running"):
    site.sessions.append(EngineSession(labels, f"c-{labels.session}", "n", state, ""))


def test_nothing_stands_against_renaming_somebody_without_anything(site):
    assert people.why_not_renamed(site, "alice", "alicia") is None


@pytest.mark.parametrize("state", ["running", "created", "exited", "paused"])
def test_a_session_in_any_state_stands_against_a_rename(site, state):
    runs(site, state=state)
    assert people.why_not_renamed(site, "alice", "alicia").code == "rename-while-running"
    assert people.why_not_renamed(site, "bob", "robert") is None


def test_a_server_that_the_hub_starts_stands_against_it(site):
    assert people.why_not_renamed(site, "alice", "alicia", active=True).code == "rename-while-running"


def test_a_retirement_that_is_not_finished_stands_against_it(site):
    site.intents.ask(intend(ALICE, NOW, reason="r", kind="admin", by="x", container="c"))
    assert people.why_not_renamed(site, "alice", "alicia").code == "rename-while-running"


def test_what_cannot_be_looked_at_stands_against_it(site, monkeypatch):
    def down():
        raise EngineError("the engine does not answer")

    monkeypatch.setattr(site.engine, "look", down)
    refusal = people.why_not_renamed(site, "alice", "alicia")
    assert (refusal.code, refusal.status) == ("rename-unsure", 503)


def test_a_workspace_root_that_is_not_mounted_stands_against_it(site):
    os.rmdir(site.settings.workspace_root)
    assert people.why_not_renamed(site, "alice", "alicia").code == "rename-unsure"


def test_files_go_along(site):
    root = site.settings.workspace_root
    (root / "alice/thesis").mkdir(parents=True)
    (root / "alice/thesis/a.txt").write_text("words")
    assert people.why_not_renamed(site, "alice", "alicia") is None
    assert move(site.workspaces, "alice", "alicia")
    assert (root / "alicia/thesis/a.txt").read_text() == "words"
    assert not (root / "alice").exists()
    assert not move(site.workspaces, "alice", "alicia")


@pytest.mark.parametrize("there", ["folder", "link"])
def test_files_never_go_over_those_of_another(site, there):
    root = site.settings.workspace_root
    (root / "alice").mkdir()
    (root / "alicia").mkdir() if there == "folder" else (root / "alicia").symlink_to("/nowhere")
    assert people.why_not_renamed(site, "alice", "alicia").code == "rename-files"
    with pytest.raises(DS01Error, match="there already"):
        move(site.workspaces, "alice", "alicia")
    assert (root / "alice").is_dir()


def test_files_of_a_host_account_do_not_change_their_owner(site):
    site.settings = site.settings.model_copy(update={"identity": "system"})
    (site.settings.workspace_root / "alice").mkdir()
    assert people.why_not_renamed(site, "alice", "alicia").code == "rename-files"


def test_all_that_the_engine_has_of_a_deleted_user_is_retired(site):
    runs(site)
    runs(site, SessionLabels("alice", "two", "p", "hub", "s2"))
    runs(site, SessionLabels("bob", "", "p", "hub", "s3"))
    waits = intend(
        ALICE, NOW, reason="lost", kind="orphan", by="x", container="c-s1", due=NOW + timedelta(days=9999)
    )
    site.intents.ask(waits)
    assert people.retire_lost(site, "alice", "its user was deleted by root", "root") == 2
    found = {i.session: i for i in site.intents.open()}
    assert set(found) == {"s1", "s2"}
    assert {i.reason for i in found.values()} == {"its user was deleted by root"}
    assert not any(i.waits(datetime.now(timezone.utc)) for i in found.values())


def test_the_hub_uses_our_part_once_and_for_one_site(site, monkeypatch):
    for module in (apihandlers, users):
        monkeypatch.setattr(module, "default_handlers", list(module.default_handlers))
    before = [rule[0] for rule in apihandlers.default_handlers]
    people.look_after_people(site)
    people.look_after_people(site)
    ours = [r[1] for r in apihandlers.default_handlers if issubclass(r[1], people.UserHandler)]
    assert [handler.site for handler in ours] == [site]
    assert [rule[0] for rule in apihandlers.default_handlers] == before

"""What a person uses: disk project by project, measured aside, and shown with its age or as unknown."""

from __future__ import annotations

import os
import threading
from datetime import timedelta

import pytest
from bs4 import BeautifulSoup
from test_service import NOW, call, world  # noqa: F401

from ds01spawner.core.errors import EngineError
from ds01spawner.environments.catalogue import Environment
from ds01spawner.service import views
from ds01spawner.store import SessionRecord as Kept
from ds01spawner.store.usage import UsageRow
from ds01spawner.workspace import spaces
from ds01spawner.workspace.spaces import SpaceBook, Spaces, measure_projects
from ds01spawner.workspace.used_space import Measured

KIB = 1024


@pytest.fixture
def workspace(tmp_path):
    """Two projects, a stray file, a link to somebody else's files, and a file linked twice."""
    home, other = tmp_path / "alice", tmp_path / "bob"
    for folder in (home / "thesis/deep", home / "nlp", home / ".cache", other):
        folder.mkdir(parents=True)
    (home / "thesis/deep/data").write_bytes(b"x" * 400 * KIB)
    os.link(home / "thesis/deep/data", home / "thesis/again")
    (home / "nlp/notes").write_bytes(b"x" * 40 * KIB)
    (home / ".cache/stray").write_bytes(b"x" * 100 * KIB)
    (other / "big").write_bytes(b"x" * 4000 * KIB)
    (home / "linked").symlink_to(other)
    (home / "nlp/out").symlink_to(other)
    return home


def about(measured, kib):
    return kib * KIB <= measured.bytes < (kib + 40) * KIB


def test_each_project_is_measured_and_no_link_is_followed(workspace):
    found = measure_projects(workspace, NOW)
    assert sorted(found.projects) == ["nlp", "thesis"]
    assert about(found.projects["thesis"], 400)
    assert about(found.projects["nlp"], 40)
    assert about(found.rest, 100)
    assert about(found.total, 540)
    assert (found.at, found.complete, found.total.complete) == (NOW, True, True)


def test_what_is_not_there_holds_nothing_and_what_cannot_be_read_is_unknown(workspace):
    assert measure_projects(workspace / "none", NOW) == Spaces(NOW)
    assert measure_projects(workspace / "linked", NOW) is None


def test_time_is_bounded_and_said(workspace):
    found = measure_projects(workspace, NOW, budget=-1)
    assert (found.projects, found.complete, found.total.complete) == ({}, False, False)


async def test_figures_are_remembered_and_renewed_aside(workspace, monkeypatch):
    now, walks, go = [NOW], [], threading.Event()

    def slow(path, at, budget):
        walks.append(at)
        assert go.wait(20)
        return Spaces(at, {"p": Measured(len(walks))})

    monkeypatch.setattr(spaces, "measure_projects", slow)
    book = SpaceBook(lambda: now[0])
    assert await book.of(workspace, patience=0.05) is None  # nobody waits long
    assert await book.of(workspace, patience=0.05) is None
    go.set()
    first = await book.of(workspace, patience=20)
    assert first.projects["p"].bytes == 1
    now[0] += timedelta(minutes=9)
    assert await book.of(workspace) == first
    assert walks == [NOW]
    now[0] += timedelta(minutes=2)
    known, under_way = book.look(workspace)
    assert known == first  # the old figures, with their age, while new ones are taken
    assert under_way.result(20).at == now[0]
    assert (await book.of(workspace)).projects["p"].bytes == 2


@pytest.mark.parametrize(
    ("known", "rows"),
    [
        (None, [("nlp", "n/a", 0, "0"), ("old", "n/a", 2, "1.5")]),
        (
            Spaces(NOW, {"nlp": Measured(2_000_000), "big": Measured(3_000_000_000, complete=False)}),
            [
                ("big", "at least 2.8 GiB", 0, "0"),
                ("nlp", "1.9 MiB", 0, "0"),
                ("old", "no folder (any more)", 2, "1.5"),
            ],
        ),
        (
            Spaces(NOW, {"nlp": Measured(5)}, complete=False),
            [("nlp", "5 bytes", 0, "0"), ("old", "n/a", 2, "1.5")],
        ),
    ],
)
def test_rows_say_what_is_known(known, rows):
    used = [UsageRow("alice/old", sessions=2, gpu_hours=1.5)]
    if known is None:
        used.append(UsageRow("alice/nlp"))
    found = views.project_rows(known, used, "alice")
    assert [(r.project, r.disk, r.sessions, r.gpu_hours) for r in found] == rows


async def test_the_page_shows_disk_beside_hours_and_limits(call, world, workspace):  # noqa: F811
    world.site.settings.policy.write_text(
        "version: 1\ndefaults: {storage: {quota: 1g}, session: {max: 2}, "
        "gpu: {hours: {budget: 40, window: 7d}}}\n"
    )
    world.store.sessions.started(
        Kept("s1", "alice", NOW - timedelta(hours=2), project="thesis", equivalents=0.5)
    )
    world.store.sessions.started(
        Kept("s2", "bob", NOW - timedelta(hours=2), project="secret", equivalents=1.0)
    )
    page = BeautifulSoup((await call("usage", who="alice")).text, "html.parser")
    text = " ".join(page.get_text(" ").split())
    table = page.find(attrs={"aria-label": "Projects"})
    cells = [[c.get_text() for c in row.find_all(["th", "td"])] for row in table.find_all("tr")]
    assert [c[0] for c in cells] == ["Project", "thesis", "nlp", "Beside the projects", "In total"]
    assert (cells[1][2:], cells[-1][2:]) == (["1", "1"], ["1", "1.00"])
    assert cells[1][1].endswith("KiB")
    assert "Disk as measured just now" in text
    assert "of 1 GiB default" in text
    assert "Sessions now 0 of 2" in text
    assert "GPU-hours in 7 days 1 of 40 h" in text
    assert "secret" not in text


async def test_the_history_names_environments_as_people_know_them(call, world, monkeypatch):  # noqa: F811
    for number, environment in enumerate(("lab", "mine:gone")):
        started = NOW - timedelta(hours=2 + number)
        world.store.sessions.started(Kept(f"s{number}", "alice", started, environment=environment))

    async def shown():
        page = BeautifulSoup((await call("usage", who="alice")).text, "html.parser")
        table = page.find(attrs={"aria-label": "Sessions"})
        return [row.find_all("td")[0].get_text() for row in table.tbody.find_all("tr")]

    lab = Environment("lab", "lab", "ds01/lab", title="JupyterLab")
    monkeypatch.setattr(world.site.environments, "all", lambda person: (lab,))
    assert await shown() == ["JupyterLab", "mine:gone"]

    def down(person):
        raise EngineError("down")

    monkeypatch.setattr(world.site.environments, "all", down)
    assert await shown() == ["lab", "mine:gone"]


async def test_the_page_says_when_the_disk_is_not_known(call, world, monkeypatch):  # noqa: F811
    monkeypatch.setattr(spaces, "measure_projects", lambda *_: None)
    page = BeautifulSoup((await call("usage", who="alice")).text, "html.parser")
    text = " ".join(page.get_text(" ").split())
    assert "Disk n/a, no limit" in text
    assert "look again in a minute" in text

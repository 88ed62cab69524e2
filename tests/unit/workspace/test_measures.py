"""What a workspace holds, where some of it cannot be read: at least so much, and never "all"."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime, timezone
from pathlib import Path

import pytest

from ds01spawner.workspace import spaces, used_space

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
NOW = datetime(2026, 3, 3, tzinfo=timezone.utc)


@pytest.fixture
def home():
    """A person's folder with a project that is open to us, one that is closed, and one closed below."""
    with tempfile.TemporaryDirectory() as top:  # pytest's own folders are closed to others
        Path(top).chmod(0o755)
        yield from _home(Path(top) / "alice")


def _home(path):
    for name in ("open", "closed", "half/closed"):
        (path / name).mkdir(parents=True)
        (path / name / "data").write_bytes(b"x" * 8192)
    for folder in (path, path / "open", path / "half"):
        folder.chmod(0o755)
    for folder in (path / "closed", path / "half/closed"):
        folder.chmod(0o700)
    os.seteuid(65534)
    try:
        yield path
    finally:
        os.seteuid(0)


def test_the_figure_of_a_workspace_that_is_partly_closed_is_not_the_whole(home):
    measured = used_space.measure(home)
    assert measured.bytes >= 8192
    assert not measured.complete


def test_the_same_project_by_project(home):
    found = spaces.measure_projects(home, NOW)
    assert not found.complete
    assert sorted(found.projects) == ["half", "open"]
    assert found.projects["open"].complete
    assert not found.projects["half"].complete
    assert not found.total.complete


def test_an_open_one_is_the_whole(home):
    assert used_space.measure(home / "open").complete

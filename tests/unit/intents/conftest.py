"""A site on an engine in memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.played_engine import PlayedEngine, log_tail

from ds01spawner.core.installation import make
from ds01spawner.core.settings import Settings
from ds01spawner.engines.docker import retire
from ds01spawner.engines.docker.engine import Docker
from ds01spawner.site import Site


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedEngine:
    """The engine; nobody waits ten seconds for what it does not remove."""
    monkeypatch.setattr(retire, "VERIFY_S", 0.05)
    monkeypatch.setattr(retire, "log_tail", log_tail)
    return PlayedEngine(make(tmp_path))


@pytest.fixture
def site(tmp_path: Path, engine: PlayedEngine) -> Site:
    """A site with that engine, a store and a state folder."""
    (tmp_path / "gpus.yaml").write_text("version: 1\ncards: []\n")
    made = Site(
        Settings(
            state_dir=tmp_path,
            workspace_root=tmp_path,
            devices="simulated",
            inventory=tmp_path / "gpus.yaml",
        )
    )
    made.__dict__["engine"] = Docker(made.settings, engine)
    return made

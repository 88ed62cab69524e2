"""Machines that the fake NVML library pretends to be."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.nvml import Machine, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the fake driver library, compiled once."""
    return build(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def machine(tmp_path: Path, nvml_library: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine without cards that every child process of this test sees."""
    made = Machine(tmp_path / "inventory").write()
    for key, value in made.env(nvml_library).items():
        monkeypatch.setenv(key, value)
    return made

"""The page about dependencies names every one that is declared, and only modules that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/develop/dependencies.md").read_text()


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["postgresql"]]
    table = PAGE.split("## Our own")[0]
    missing = [n for d in declared if not re.search(rf"\b{re.escape(n := Requirement(d).name)}\b", table)]
    assert missing == []


def test_every_module_that_is_named_is_there():
    named = re.findall(r"`([a-z_]+/[a-z_/]*)`", PAGE)
    assert len(named) > 15
    package = ROOT / "ds01spawner"
    assert [n for n in named if not (package / n).exists() and not (package / f"{n}.py").exists()] == []

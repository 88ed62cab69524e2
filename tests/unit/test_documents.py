"""What the developer pages name is there, and what they say of imports is what is checked."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "ds01spawner"
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "docs/develop/architecture.md"]
SCREEN = re.compile(
    r"\b(?:nobody|somebody|anew|afresh|whoever|nine of ten|in the middle|desk|mended)\b", re.I
)
"""Words that stand in no page: the style names plainer ones."""


def _missing(page: str) -> list[str]:
    """Files that a page names and that are nowhere: below root, package, or the folder of a file it names."""
    found = []
    for line in page.splitlines():
        names = re.findall(r"`((?:[\w-]+/)*[\w-]+\.(?:py|md|html|toml|json)|(?:[\w-]+/)+)(?:::\w+)?`", line)
        folders = {str(Path(n).parent) for n in re.findall(r"`([\w/-]+\.py)`", page)}
        for name in names:
            tries = [
                ROOT / name,
                PACKAGE / name,
                *(ROOT / f / name for f in folders),
                *(PACKAGE / f / name for f in folders),
            ]
            if not any(t.exists() for t in tries):
                found.append(name)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_file_a_page_names_is_there(page):
    assert _missing(page.read_text(encoding="utf-8")) == []


def test_a_file_that_is_gone_is_found():
    assert _missing("see `idle/gone.py` and `nowhere/`") == ["idle/gone.py", "nowhere/"]


def _contracts() -> dict[str, dict]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {c["id"]: c for c in settings["tool"]["importlinter"]["contracts"]}


def test_the_table_of_the_architecture_is_what_the_contracts_check():
    table = re.findall(r"^\| (.+?) \| (.+?) \| .+ \|$", PAGES[1].read_text(encoding="utf-8"), re.M)
    pure = next(first for first, second in table if "nothing outside (pydantic" in second)
    checked = {
        m.removeprefix("ds01spawner.").replace(".", "/") for m in _contracts()["pure"]["source_modules"]
    }
    for name in re.findall(r"`([^`]+)`", pure):
        assert name.removesuffix(".py").rstrip("/") in checked, name
    walls = [
        ("gpu", "pynvml", "nvml"),
        ("engines/docker", "docker", "docker"),
        ("store", "sqlalchemy", "database"),
    ]
    for package, sdk, contract in walls:
        assert any(f"`{package}/`" in first and sdk in second for first, second in table), package
        allowed = _contracts()[contract]["ignore_imports"]
        assert f"ds01spawner.{package.replace('/', '.')}.** -> {sdk}" in allowed


def test_pages_use_the_words_of_the_field():
    for file in (ROOT / "templates").rglob("*.html"):
        assert not SCREEN.search(file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    "planted", ["Nobody waits.", "Choose anew", "nine of ten such waits", "ask at the desk"]
)
def test_a_planted_word_is_found(planted):
    assert SCREEN.search(planted)

"""The measure of the structure: what is an arrow, a floor, a circle, and that a worse figure is found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "structure.py"


@pytest.fixture(scope="module")
def structure() -> ModuleType:
    spec = importlib.util.spec_from_file_location("structure", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["structure"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(structure, tmp_path, monkeypatch):
    """A package of the given files, measured in place of ours."""

    def make(**files: str):
        root = tmp_path / "ds01spawner"
        for name, text in {"__init__": "", **files}.items():
            path = root / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        monkeypatch.setattr(structure, "PACKAGE", root)
        return structure.details()

    return make


def test_an_import_of_any_spelling_is_an_arrow(package):
    found = package(
        low="",
        a="from . import low",
        b="from .low import x",
        c="import ds01spawner.low",
        d="from ds01spawner import low",
    )
    assert [arrow for arrow in found["arrows"] if arrow.endswith("low")] == [f"{m} -> low" for m in "abcd"]


def test_an_import_inside_a_function_or_for_types_counts_too(package):
    found = package(
        low="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .high import x",
        high="def f():\n    from . import low",
    )
    assert found["circles"] == ["high, low"]
    assert len(found["upward"]) == 1


def test_floors_are_the_longest_way_down(structure):
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": {"d"}, "d": set(), "alone": set()}
    assert structure.floors(graph, structure.upward(graph)) == 4
    assert structure.upward(graph) == []


def test_a_name_two_modules_bear_is_found_with_both_places(package):
    found = package(book="", shelf__in____init__="", shelf__in__book="")
    assert found["twice"] == ["book: book.py, shelf/book.py"]
    assert found["loose"] == ["book"]


def test_a_sdk_import_outside_the_adapter_is_found(package):
    assert package(a="import docker.errors", b="import dockerspawner")["docker"] == ["a.py"]


@pytest.mark.parametrize(("text", "figure"), [("Refusal(1)", "refusals"), ("x: dict[str, Any]", "any")])
def test_words_that_are_counted_are_found(package, text, figure):
    assert package(a=text)[figure] == ["a.py"]


def test_a_figure_over_its_bound_is_named_and_bounds_only_fall(structure, capsys):
    figures, bounds = {"rooms": 30, "any": 90}, {"rooms": 29, "any": 95}
    assert structure.show(figures, bounds, 0.1) == ["rooms"]
    assert "worse" in capsys.readouterr().out
    assert structure.tightened(figures, bounds) == {"rooms": 29, "any": 95}
    assert structure.tightened({"rooms": 25, "any": 90}, {"rooms": 29, "any": 300}) == {
        "rooms": 25,
        "any": 119,
    }

"""Every row of the security table, and the table itself."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import page
import pytest
from table import ROLES, SURFACES, Row, rows, surfaces

MARKERS = {"engine": pytest.mark.engine, "hub": pytest.mark.hub, "browser": pytest.mark.browser}


def cases() -> list[object]:
    return [pytest.param(row, id=row.id, marks=MARKERS[row.needs] if row.needs else ()) for row in rows()]


@pytest.mark.parametrize("row", cases())
async def test_row(row: Row, stage) -> None:
    module = import_module(f"runners.{row.runner}")
    found = module.run(row, stage)
    if inspect.isawaitable(found):
        found = await found
    for key, wanted in row.expect.items():
        if key in ("says", "silent"):
            there = [text for text in wanted if text.lower() in str(found["text"]).lower()]
            assert there == (list(wanted) if key == "says" else []), f"{row.role} {row.tries}: {found}"
        else:
            assert found[key] == wanted, f"{row.role} {row.tries}: {found}"


def test_the_table_is_well_made() -> None:
    every = rows()
    ids = [row.id for row in every]
    assert sorted(set(ids)) == sorted(ids), "an id is there twice"
    assert {row.role for row in every} <= set(ROLES)
    assert {surface.name for surface, _ in surfaces()} <= set(SURFACES)
    for row in every:
        assert re.fullmatch(r"[a-z-]+-[0-9]{3}", row.id), row.id
        assert row.expect, row.id
        assert row.tries == row.tries.strip(), row.id
    said = [(row.surface.name, row.role, row.tries) for row in every]
    assert len(set(said)) == len(said), "two rows say the same"


def test_there_are_enough_rows_on_enough_surfaces() -> None:
    assert len(rows()) >= 400
    assert {surface.name for surface, _ in surfaces()} == set(SURFACES)
    assert {row.role for row in rows()} == set(ROLES)


HERE = "tests/security/test_table.py"


@pytest.mark.parametrize(
    ("proof", "proven"),
    [
        (f"{HERE}::test_the_table_is_well_made", True),
        ([f"{HERE}::test_the_table_is_well_made", f"{HERE}::test_row"], True),
        (f"{HERE}::test_that_none_wrote", False),
        ([f"{HERE}::test_row", f"{HERE}::test_that_none_wrote"], False),
        (f"{HERE}::cases", False),
        (HERE, False),
        ("tests/security/test_none.py::test_row", False),
        ("tests/security/page.py::page", False),
        ("tests/security/test_table.py::TestNone::test_row", False),
    ],
)
def test_a_row_whose_proof_is_not_there_fails(proof, proven):
    row = Row("x-001", rows()[0].surface, "student", "x", {"proof": proof}, {"proven": True}, "")
    assert import_module(f"runners.{row.runner}").run(row, None)["proven"] is proven


@pytest.mark.parametrize(
    "mark",
    ["@pytest.mark.skip", '@pytest.mark.skipif(True, reason="x")', "@pytest.mark.xfail", "@unittest.skip"],
)
def test_a_proof_that_is_let_off_proves_nothing(mark, tmp_path, monkeypatch):
    proof = import_module("runners.proof")
    monkeypatch.setattr(proof, "ROOT", tmp_path)
    (tmp_path / "test_x.py").write_text(f"{mark}\ndef test_it():\n    assert True\n")
    row = Row("x-001", rows()[0].surface, "student", "x", {"proof": "test_x.py::test_it"}, {}, "")
    assert proof.run(row, None)["proven"] is False


def test_every_row_says_what_comes_of_it():
    assert [row.id for row in rows() if "proof" in row.does and not row.so] == []
    assert [row.id for row in rows() if "|" in page._outcome(row)] == []


def test_the_published_page_is_current() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python tests/security/page.py"

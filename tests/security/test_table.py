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
    assert len(rows()) >= 200
    assert len({surface.name for surface, _ in surfaces()}) >= 10


def test_the_published_page_is_current() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python tests/security/page.py"

"""A fresh store for each test: SQLite in a temporary folder, or `DS01_TEST_STORE_URL` (emptied first)."""

import os
from datetime import datetime, timezone

import pytest
from sqlalchemy import text

from ds01spawner.store import Store

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def url(tmp_path):
    given = os.environ.get("DS01_TEST_STORE_URL")
    if not given:
        return f"sqlite:///{tmp_path / 'ds01.sqlite'}"
    empty = Store(given)
    with empty.db.write() as c:
        c.execute(text("DROP SCHEMA public CASCADE"))
        c.execute(text("CREATE SCHEMA public"))
    empty.close()
    return given


@pytest.fixture
def store(url):
    opened = Store.open(url)
    yield opened
    opened.close()

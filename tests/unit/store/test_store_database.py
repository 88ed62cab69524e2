"""Opening, migrating, sharing and losing the database."""

import threading
from datetime import datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from ds01spawner.core.ending import Ended
from ds01spawner.core.errors import StoreError
from ds01spawner.store import SessionRecord, Store
from ds01spawner.store.db import HEAD
from ds01spawner.store.events import append_event
from ds01spawner.store.models import metadata


def test_the_shipped_migrations_make_exactly_the_tables_of_the_models(store):
    with store.db.read() as c:
        assert compare_metadata(MigrationContext.configure(c), metadata) == []


def test_head_is_the_last_shipped_migration():
    from ds01spawner.store import migrations

    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_open_is_repeatable_and_keeps_what_is_there(url, now):
    with_data = Store.open(url)
    with_data.facts.set("answer", 42, now)
    again = Store.open(url)
    assert again.facts.get("answer") == 42
    again.check()


def test_two_processes_may_open_a_new_store_at_once(url):
    failures = []

    def open_it():
        try:
            Store.open(url).check()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert failures == []


def test_a_store_of_a_newer_version_is_refused_with_what_to_do(store, url):
    with store.db.write() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="written by a newer one"):
        Store.open(url)
    with pytest.raises(StoreError, match="has revision 9999, this version needs " + HEAD):
        store.check()


def test_a_damaged_file_is_a_store_error(tmp_path):
    path = tmp_path / "bad.sqlite"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(f"sqlite:///{path}")


def test_an_unreachable_server_is_a_store_error_without_the_password():
    with pytest.raises(StoreError) as caught:
        Store.open("nosuchdb://ds01:secret@localhost/x")
    assert "secret" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'x.sqlite'}")


def test_the_database_file_is_not_for_other_users(tmp_path):
    path = tmp_path / "ds01.sqlite"
    Store.open(f"sqlite:///{path}")
    assert path.stat().st_mode & 0o007 == 0


def test_a_write_that_fails_half_way_leaves_nothing(store, now):
    def half():
        with store.db.write() as c:
            append_event(c, now, "session", "started", user="alice")
            append_event(c, now, "session", "flew away", user="alice")

    with pytest.raises(ValueError, match="has no action"):
        half()
    assert store.events.find() == []


def test_a_time_without_zone_is_refused(store):
    with pytest.raises(StoreError, match="without a zone"):
        store.facts.set("x", 1, datetime(2026, 1, 1))  # noqa: DTZ001


def test_many_threads_and_two_connections_pools_write_at_once(store, url, now):
    other = Store.open(url)
    failures = []

    def work(s, who):
        try:
            for i in range(20):
                s.sessions.started(SessionRecord(f"{who}-{i}", who, now))
                s.ends.record(Ended(f"{who}-{i}", now + timedelta(minutes=1), "stopped"))
        except Exception as error:
            failures.append(error)

    pairs = [(store, "a"), (other, "b"), (store, "c"), (other, "d")]
    threads = [threading.Thread(target=work, args=p) for p in pairs]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert failures == []
    assert [len(store.sessions.find(user=u)) for u in "abcd"] == [20, 20, 20, 20]
    numbers = [e.id for e in store.events.find(limit=1000)]
    assert len(numbers) == 160
    assert numbers == sorted(set(numbers))

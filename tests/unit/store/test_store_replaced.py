"""A store whose file is deleted or replaced under the processes that use it is noticed and opened anew."""

from __future__ import annotations

import shutil
import threading

import pytest

from ds01spawner.errors import StoreError
from ds01spawner.store import Store


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ds01.sqlite"


@pytest.fixture
def store(path):
    opened = Store.open(f"sqlite:///{path}")
    yield opened
    opened.close()


def delete(path) -> None:
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()


def test_what_is_written_after_a_deletion_is_in_the_new_file(store, path, now, caplog):
    store.set_fact("before", 1, now)
    delete(path)
    store.set_fact("after", 2, now)
    other = Store.open(f"sqlite:///{path}")
    assert other.fact("after") == 2
    assert other.fact("before") is None
    assert store.fact("before") is None
    other.close()
    assert [r.message.count("was deleted or replaced while it was in use") for r in caplog.records] == [1]


def test_a_file_put_in_its_place_is_used_from_then_on(store, path, now):
    store.set_fact("answer", 1, now)
    copy = path.with_name("backup")
    backup = Store.open(f"sqlite:///{copy}")
    backup.set_fact("answer", 42, now)
    backup.close()
    delete(path)
    copy.rename(path)
    assert store.fact("answer") == 42


def test_a_corrupt_file_is_an_error_until_it_is_moved_away(store, path, now):
    store.set_fact("answer", 1, now)
    broken = path.with_name("broken")
    broken.write_bytes(b"\xff" * 8192)
    delete(path)
    broken.rename(path)
    for _ in range(2):
        with pytest.raises(StoreError):
            store.set_fact("answer", 2, now)
    delete(path)
    store.set_fact("answer", 3, now)
    assert store.fact("answer") == 3


def test_a_folder_that_cannot_be_written_is_an_error_until_it_can(store, path, now):
    shutil.move(path.parent, path.parent.with_name("away"))
    path.parent.write_text("no folder")
    with pytest.raises(StoreError):
        store.set_fact("answer", 1, now)
    path.parent.unlink()
    store.set_fact("answer", 2, now)
    assert store.fact("answer") == 2
    shutil.rmtree(path.parent.with_name("away"))


def test_many_threads_notice_together(store, path, now):
    store.set_fact("answer", 0, now)
    problems = []

    def work(number: int) -> None:
        try:
            for step in range(20):
                store.set_fact(f"{number}-{step}", step, now)
        except StoreError as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    delete(path)
    for thread in threads:
        thread.join()
    store.set_fact("last", 1, now)
    other = Store.open(f"sqlite:///{path}")
    assert other.fact("last") == 1
    other.close()

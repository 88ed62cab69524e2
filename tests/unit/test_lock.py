"""The claim lock excludes threads and processes, and fails closed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from ds01spawner.core.errors import LockError
from ds01spawner.engines.docker.lock import claim_lock


def test_threads_exclude_each_other(tmp_path):
    inside, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, most
        with claim_lock(tmp_path / "lock", 20):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.002)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_processes_exclude_each_other_and_death_frees(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time\nfrom ds01spawner.engines.docker.lock import claim_lock\n"
        f"with claim_lock({str(path)!r}, 5):\n    print('in', flush=True)\n    time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(LockError, match=r"held by others for 0\.1 s"), claim_lock(path, 0.1):
            pytest.fail("two holders")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with claim_lock(path, 1):
        pass


def test_an_error_inside_frees_the_lock(tmp_path):
    with pytest.raises(KeyError), claim_lock(tmp_path / "lock", 1):
        raise KeyError
    with claim_lock(tmp_path / "lock", 0.1):
        pass


def test_it_makes_its_folder(tmp_path):
    with claim_lock(tmp_path / "new" / "folder" / "lock", 1):
        assert (tmp_path / "new" / "folder" / "lock").exists()


def test_a_place_where_no_file_can_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LockError, match="cannot be opened"), claim_lock(tmp_path / "file" / "lock", 1):
        pytest.fail("no lock, no GPU")

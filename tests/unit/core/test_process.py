"""A process by its id and the moment it began."""

from __future__ import annotations

import subprocess
import sys
import time
from signal import SIGKILL, SIGSTOP, SIGTERM

from ds01spawner.core.process import Process


def sleeper() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])


def test_it_is_written_and_read_back():
    this = Process.this()
    assert Process.parse(str(this)) == this
    assert this.alive
    for text in ("", ":", "1", "1:", "a:b", "-1:5", "1:2:3"):
        assert Process.parse(text) is None


def test_another_process_with_the_same_id_is_another():
    this = Process.this()
    other = Process(this.pid, this.started + 1)
    assert not other.alive
    other.signal(SIGKILL)  # reaches none, not this process
    assert other.wait_end(5)


def test_an_end_is_seen_at_once_also_of_one_that_its_parent_has_not_read():
    child = sleeper()
    process = Process.of(child.pid)
    assert process is not None
    assert not process.wait_end(0.05)
    process.signal(SIGSTOP)
    assert process.alive
    process.signal(SIGKILL)
    began = time.monotonic()
    assert process.wait_end(20)
    assert time.monotonic() - began < 10
    assert Process.of(child.pid) is None  # it is a zombie until the next line
    child.wait()


def test_without_the_kernels_event_it_looks_again_and_again(monkeypatch):
    monkeypatch.setattr(Process, "_handle", lambda self: None)
    child = sleeper()
    process = Process.of(child.pid)
    assert process is not None
    assert not process.wait_end(0.05)
    process.signal(SIGTERM)
    assert process.wait_end(20)
    child.wait()

"""The idle service as a process: one at a time, and none whose hub is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from ds01spawner.idle.__main__ import only_one

WATCH = """
import asyncio, os, sys
from ds01spawner.parent import until_orphaned
print(os.getpid(), flush=True)
asyncio.run(until_orphaned(os.environ, 0.05))
open(sys.argv[1], "w").write("ended")
"""


def test_a_second_one_waits_for_the_end_of_the_first(tmp_path, monkeypatch):
    monkeypatch.setattr("ds01spawner.idle.__main__.time.sleep", lambda _: threading.Event().wait(0.02))
    order = []

    def second():
        with only_one(tmp_path / "lock"):
            order.append("second")

    with only_one(tmp_path / "lock"):
        other = threading.Thread(target=second)
        other.start()
        time.sleep(0.1)
        order.append("first")
    other.join(5)
    assert order == ["first", "second"]


@pytest.mark.parametrize(("service", "ends"), [("ds01-idle", True), ("", False)])
def test_a_service_ends_with_the_hub_that_started_it(tmp_path, service, ends):
    mark = tmp_path / "mark"
    starter = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1], sys.argv[2]],"
        " stdout=subprocess.PIPE, text=True); print(p.stdout.readline(), end='', flush=True); input()"
    )
    hub = subprocess.Popen(
        [sys.executable, "-c", starter, WATCH, str(mark)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"JUPYTERHUB_SERVICE_NAME": service},
    )
    assert hub.stdout is not None
    pid = int(hub.stdout.readline())
    time.sleep(0.3)
    assert not mark.exists()
    hub.kill()
    hub.wait()
    for _ in range(100 if ends else 10):
        if mark.exists():
            break
        time.sleep(0.05)
    assert mark.exists() is ends
    if not ends:
        subprocess.run(["kill", str(pid)], check=True)

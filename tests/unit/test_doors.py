"""The doors in front of an engine that tests shut lead to the engine in use, whatever is open besides."""

from __future__ import annotations

import os
import resource
import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.doors import Door
from support.engine_door import EngineDoor

BEYOND_SELECT = 1100
"""Open files, with room above the 1024 that `select` can wait for."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An engine that says back what it is told, where ``DOCKER_HOST`` says."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "e"))
        listening.listen()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'e'}")

        def serve():
            while True:
                try:
                    taken, _ = listening.accept()
                except OSError:
                    return
                with taken:
                    taken.sendall(taken.recv(100))

        threading.Thread(target=serve, daemon=True).start()
        yield
        listening.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * BEYOND_SELECT:
        pytest.skip("this process may not have so many files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * BEYOND_SELECT), hard))
    with ExitStack() as stack:
        for _ in range(BEYOND_SELECT):
            stack.enter_context(open(os.devnull))
        yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def make(kind, folder: Path):
    return EngineDoor(folder) if kind is EngineDoor else Door(folder / "d")


@pytest.mark.parametrize("kind", [Door, EngineDoor])
def test_a_door_leads_to_the_engine_in_use(kind, tmp_path, engine):
    assert said_through(make(kind, tmp_path)) == b"who is there"


@pytest.mark.parametrize("kind", [Door, EngineDoor])
def test_a_door_works_with_however_many_files_open(kind, tmp_path, engine, many_files):
    assert said_through(make(kind, tmp_path)) == b"who is there"


def said_through(door) -> bytes:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(30)
        caller.connect(str(door.path))
        caller.sendall(b"who is there")
        answer = caller.recv(100)
    door.close() if isinstance(door, EngineDoor) else door.shut()
    return answer

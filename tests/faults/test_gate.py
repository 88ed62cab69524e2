"""The gate passes, answers 500, and holds everything back."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from faults.gate import FAIL, HANG, PASS, Gate


@pytest.fixture
def gate(tmp_path):
    engine = socket.socket(socket.AF_UNIX)
    engine.bind(str(tmp_path / "engine"))
    engine.listen()

    def echo(one: socket.socket) -> None:
        with suppress(OSError), one:  # the gate may have refused already
            one.sendall(one.recv(100))

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=echo, args=engine.accept()[:1], daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield Gate(tmp_path / "gate", tmp_path / "engine")
    engine.close()


def ask(gate: Gate, patience: float = 10) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(patience)
        client.connect(str(gate.path))
        client.sendall(b"GET /")
        return client.recv(1000)


def test_it_passes(gate):
    assert ask(gate) == b"GET /"


def test_it_answers_500(gate):
    gate.set(FAIL)
    assert ask(gate).startswith(b"HTTP/1.1 500 ")
    gate.set(PASS)
    assert ask(gate) == b"GET /"


def test_it_holds_back_and_lets_go(gate):
    gate.set(HANG)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(gate.path))
        client.sendall(b"GET /")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(100)
        gate.set(PASS)
        client.settimeout(10)
        assert client.recv(100) == b"GET /"

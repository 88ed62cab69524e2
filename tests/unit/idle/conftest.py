"""The machine of the idle tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def kernel_log_of_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this host's kernel said of its own cards is not of the machines pretended here."""
    monkeypatch.setattr("ds01spawner.gpu.source.read_xids", lambda: ())

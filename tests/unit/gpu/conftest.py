"""The driver as these tests find it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def driver_not_tried_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test inherits the patience that another one's hanging driver has cost."""
    monkeypatch.setattr("ds01spawner.gpu.nvml._quiet", {"until": 0.0})

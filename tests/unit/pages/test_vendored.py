"""Vendored files are the ones that were vetted."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("folder", ["ds01spawner/service/static", "tests/vendor"])
def test_checksums_and_licences(folder):
    listed = json.loads((ROOT / folder / "vendored.json").read_text())
    assert listed
    for name, entry in listed.items():
        assert hashlib.sha256((ROOT / folder / name).read_bytes()).hexdigest() == entry["sha256"]
        licence = entry["license"].partition("(")[2].rstrip(")")
        assert (ROOT / folder / licence).stat().st_size > 100

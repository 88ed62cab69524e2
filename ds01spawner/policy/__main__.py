"""Write the published reference: ``python -m ds01spawner.policy docs/reference``."""

from __future__ import annotations

import sys
from pathlib import Path

from .published import PAGE_FILE, SCHEMA_FILE, reference_page, schema_text

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCHEMA_FILE).write_text(schema_text())
    (folder / PAGE_FILE).write_text(reference_page())

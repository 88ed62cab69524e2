"""Write ``docs/admins/refusals.md`` from the examples: ``python -m ds01spawner.messages [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

from .docs import refusals_page

if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(refusals_page())
    else:
        print(refusals_page(), end="")

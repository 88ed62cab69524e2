"""``python -m ds01spawner.idle``: the idle service, started by the hub."""

from __future__ import annotations

import sys

from ..core.orphan_watch import end_with_hub


def main(argv: list[str] | None = None) -> int:
    """Watch the hub first: the imports of the rest take seconds, in which it may die."""
    end_with_hub()
    from .culler import main as run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())

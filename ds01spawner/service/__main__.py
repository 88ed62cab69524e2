"""``python -m ds01spawner.service``: the service beside the hub, started and watched by it."""

from __future__ import annotations

from ..core.orphan_watch import end_with_hub


def main() -> None:
    """Watch the hub first: the imports of the rest take seconds, in which it may die."""
    end_with_hub()
    from .app import main as serve

    serve()


if __name__ == "__main__":
    main()

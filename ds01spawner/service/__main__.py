"""``python -m ds01spawner.service``: the service beside the hub, started and watched by it."""

from .app import main

if __name__ == "__main__":
    main()

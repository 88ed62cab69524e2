"""Where configuration files and the entry point find the spawner; it lives in `hub.spawner`."""

from .hub.spawner import DS01Spawner

__all__ = ["DS01Spawner"]

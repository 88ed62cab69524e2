"""Adapters to container engines. One package an engine; only they talk to it."""

"""When a session is warned and retired. ``decide`` is pure; signals and arbiter are adapters."""

"""Alembic migrations, shipped in the package and applied when the store is opened."""
